"""The command ``scripts/study.py``, and the study that is published."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import tyro
import yaml

from crashalgos.experiments.comparison.contenders import read_contenders, settings_for
from tests.helpers.comparison_folders import write_folder
from tests.helpers.paths import ROOT


@pytest.fixture
def study(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("study")


def test_the_published_study_is_one_that_can_be_made(study: ModuleType) -> None:
    content = study._read_study(ROOT / "scripts" / "study.yaml")
    rungs = {name for ladder in content.ladders for name in ladder}
    names = {env: {one.name for one in read_contenders(entry["algos"])} for env, entry in content.comparisons.items()}
    assert all(found - rungs == {"sb3-ppo", "sb3-a2c", "trpo", "ars"} for found in names.values())
    seeds = {env: entry["seeds"] for env, entry in content.comparisons.items()}
    assert seeds == {"CartPole-v1": 10, "Acrobot-v1": 10, "LunarLander-v3": 5, "Pendulum-v1": 5}


def test_the_rungs_up_to_the_value_network_differ_by_what_their_names_say(study: ModuleType) -> None:
    said = {
        "reward-to-go": {"weighting"},
        "discount": {"gamma"},
        "mean-baseline": {"baseline"},
        "leave-one-out": {"baseline"},
        # The value network's own: how it learns. λ = 1 is its advantage without GAE; REINFORCE has no normalised advantage
        "value-network": {"value_learning_rate", "value_batch_size", "gae_lambda", "normalize_advantage"},
    }
    below = {"discount": "reward-to-go", "mean-baseline": "discount", "leave-one-out": "discount", "value-network": "discount"}
    for env, entry in study._read_study(ROOT / "scripts" / "study.yaml").comparisons.items():
        of = {one.name: settings_for(one, env, entry["n_timesteps"]) for one in read_contenders(entry["algos"])}
        for upper, names in said.items():
            high, low = of[upper].as_entry(), of[below.get(upper, "total-return")].as_entry()
            neutral = {"normalize_weights": False, "gae_lambda": 1.0, "normalize_advantage": False}
            high, low = ({k: v for k, v in one.items() if neutral.get(k) != v} for one in (high, low))
            assert {key for key in high.keys() | low.keys() if high.get(key) != low.get(key)} <= names, (env, upper)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    content = {
        "ladder": [["low", "baseline-pg"]],
        "comparisons": {
            env: {"algos": [["low=reinforce{n_trajectories: 8}"], ["baseline-pg"]], "seeds": 3, "n_timesteps": 200}
            for env in ("CartPole-v1", "Acrobot-v1")
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return tmp_path / "study.yaml"


def test_a_study_from_its_file_to_its_page(
    study: ModuleType, load_script: Callable[[str], ModuleType], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = load_script("compare")
    asked = []

    def write_comparison(command: list[str]) -> int:
        """Reads the options that compare.py would get, and writes a folder as it would; one of its first runs has failed."""
        assert command[:2] == [sys.executable, str(ROOT / "scripts" / "compare.py")]
        asked.append(tyro.cli(compare.CompareOptions, args=command[2:]))
        [env] = asked[-1].envs
        low = {("low", env, seed): (0.0, 10.0, 20.0) for seed in range(3)}
        high = {("baseline-pg", env, seed): (0.0, 40.0, 100.0) for seed in range(3)}
        write_folder(asked[-1].output, low | high)
        return int(env == "CartPole-v1")

    monkeypatch.setattr(study, "_execute", write_comparison)
    arguments = ["--config", str(small), "--output", str(tmp_path / "out"), "--jobs", "2"]
    assert study.main(arguments) == 1
    assert [options.envs for options in asked] == [("CartPole-v1",), ("Acrobot-v1",)]
    assert asked[0].algos == ("low=reinforce{n_trajectories: 8}", "baseline-pg") and not asked[0].track
    assert (asked[0].seeds, asked[0].n_timesteps, asked[0].jobs) == (3, 200, 2)
    page = (tmp_path / "out" / "ladder.md").read_text(encoding="utf-8")
    assert page.count("| low → baseline-pg | +80.0") == 2
    assert all((tmp_path / "out" / name).exists() for name in ("gains.png", "ladder.png", "peers.png"))

    (tmp_path / "out" / "ladder.md").unlink()
    assert study.main([*arguments, "--no-train"]) == 0 and len(asked) == 2
    assert (tmp_path / "out" / "ladder.md").read_text(encoding="utf-8") == page
    # A rung was added to the file later
    content = yaml.safe_load(small.read_text())
    content["ladder"] = [["mid", "low", "baseline-pg"]]
    for entry in content["comparisons"].values():
        entry["algos"].append(["mid=ppo"])
    small.write_text(yaml.safe_dump(content, sort_keys=False))
    assert study.main([*arguments, "--no-train"]) == 0
    assert (tmp_path / "out" / "ladder.md").read_text(encoding="utf-8") == page
    monkeypatch.setattr(study, "_execute", lambda command: 130)
    assert study.main(arguments) == 130


@pytest.mark.parametrize(("name", "group"), [("SIGINT", True), ("SIGTERM", False)])
def test_a_comparison_that_is_stopped_takes_its_time(tmp_path: Path, name: str, group: bool) -> None:
    child = (
        "import pathlib, signal, sys, time\n"
        # A process in the background may ignore Ctrl-C
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.default_int_handler)\n"
        "try:\n    pathlib.Path('begun').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(1); pathlib.Path('saved').touch(); sys.exit(130)\n"
    )
    caller = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    caller += f"sys.path.insert(0, {str(ROOT / 'scripts')!r}); import study; "
    code = f"{caller}sys.exit(study._execute([sys.executable, '-c', {child!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    number = getattr(signal, name)
    os.killpg(process.pid, number) if group else process.send_signal(number)  # a terminal's Ctrl-C reaches the group
    assert process.wait(timeout=60) == 130 and (tmp_path / "saved").exists()


def test_mistakes_are_one_line(study: ModuleType, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.yaml").write_text("ladder: []", encoding="utf-8")
    (tmp_path / "one.yaml").write_text("ladder: [[low]]\ncomparisons: {}", encoding="utf-8")
    (tmp_path / "none.yaml").write_text("ladder: [", encoding="utf-8")
    (tmp_path / "rung.yaml").write_text(small.read_text().replace("- low\n", "- lower\n"), encoding="utf-8")
    for config in ("empty.yaml", "one.yaml", "none.yaml", "missing.yaml", "rung.yaml"):
        assert study.main(["--config", str(tmp_path / config), "--output", str(tmp_path)]) == 2
    assert study.main(["--output", str(tmp_path), "--no-train"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and all(line.startswith("study.py: error: ") for line in lines)
    words = (
        "empty.yaml",
        "two rungs at least",
        "none.yaml is no YAML",
        "missing.yaml",
        "'lower' is none of the contenders in CartPole-v1",
        "no comparison",
    )
    assert all(word in line for word, line in zip(words, lines, strict=True))
