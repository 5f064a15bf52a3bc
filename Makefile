# Everything runs in .venv, which is made on first use and again when pyproject.toml or constraints.txt has changed.
# PYTHON names the interpreters to try, in order; the first that is new enough makes .venv.
PYTHON ?= python3 python3.13 python3.12 python3.11 python3.10

# The algorithms: formulas, rollouts, updates, parity with SB3. Tests of compile=True take a minute more.
CORE_TESTS := tests/common tests/reinforce tests/baseline_pg tests/ppo tests/parity tests/laboratory \
	--ignore-glob='tests/common/test_compile*'

BIN := .venv/bin
READY := .venv/.ready

# What runs is this checkout, also where .venv came with a copy of another.
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help compare study labs bench test test-core test-sb3 statistics check lint type format clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' Makefile | expand -t 14

compare: $(READY)  ## REINFORCE, BaselinePG, PPO and SB3's PPO on CartPole-v1, 10 seeds each
	@$(BIN)/python scripts/compare.py $(ARGS)

study: $(READY)  ## docs/study.md: what each rung of the ladder buys, in four environments (hours)
	@$(BIN)/python scripts/study.py $(ARGS)

labs: $(READY)  ## the course's labs again: 20 trajectories an update, 100 updates
	@$(BIN)/python scripts/labs.py $(ARGS)

bench: $(READY)  ## speed and memory beside SB3's PPO, SBX's PPO and a plain loop
	@$(BIN)/python -m scripts.benchmark $(ARGS)

test: $(READY)  ## the test suite, a process for each core
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-core: $(READY)  ## the tests of the algorithms alone
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(CORE_TESTS) $(ARGS)

test-sb3: $(READY)  ## SB3's own tests of PPO, with our PPO in its place
	@$(BIN)/python scripts/test_sb3.py $(ARGS)

statistics: $(READY)  ## the slow tests, which the suite leaves out
	@$(BIN)/python -m pytest -m slow $(ARGS)

check: lint type test  ## lint, type and test

lint: $(READY)  ## ruff: rules and formatting
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

type: $(READY)  ## mypy
	@$(BIN)/python -m mypy

format: $(READY)  ## ruff: mend what it can
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

clean:  ## remove .venv, caches and build products; results stay
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@found=; \
	for python in $(PYTHON); do \
		version=$$($$python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then \
			echo "making .venv with Python $$version (this takes a minute or two)"; \
			$$python -m venv --clear .venv || exit 1; \
			$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]' || exit 1; \
			touch $(READY); \
			exit 0; \
		fi; \
		found=$${found:-$$version}; \
	done; \
	echo "crashalgos needs Python 3.10 or newer, found $${found:-none}" >&2; exit 1
