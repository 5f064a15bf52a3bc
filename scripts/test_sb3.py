"""
Stable-Baselines3's own tests of PPO, with crashalgos.PPO in its place: ``python scripts/test_sb3.py``.

Pip fetches them with the source distribution of the installed version, and they stay in ``build/``. They run twice, each time
in a process of its own: with SB3's PPO and with ours. What passes with SB3's must pass with ours, and each test must build as
many models of ours as of SB3's.
"""

import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

_VERSION = metadata.version("stable-baselines3")
_CACHE = Path(__file__).resolve().parents[1] / "build" / f"sb3-tests-{_VERSION}"
# Each side's package.
_PACKAGES = {"SB3's PPO": "stable_baselines3", "ours": "crashalgos"}
_PYTEST = ("-q", "-p", "no:cacheprovider", "--disable-warnings", "--color=no", "--tb=short", "--timeout=300")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs SB3's tests with both PPOs and reports the differences.

    :param argv: more arguments of pytest, such as ``-k save``; by default the command line
    :return: the exit status: 1 where ours differs from SB3's PPO, 2 if the tests cannot be run
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        fetch_tests()
        sb3s, ours = _run_both(arguments)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"test_sb3.py: error: cannot run the tests of stable-baselines3 {_VERSION}: {error}", file=sys.stderr)
        return 2
    return report(sb3s, ours)


def fetch_tests() -> None:
    """Downloads SB3's ``tests`` and its settings of pytest, but not its package, into the cache, unless it has them."""
    complete = _CACHE / "complete"
    if complete.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*download, "--no-binary", "stable-baselines3", "-d", folder, f"stable-baselines3=={_VERSION}"], check=True
        )
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as sdist:
            for member in sdist:
                path = Path(*Path(member.name).parts[1:])
                wanted = path == Path("pyproject.toml") or (path.parts[:1] == ("tests",) and ".." not in path.parts)
                content = sdist.extractfile(member) if wanted else None
                if content is not None:
                    (_CACHE / path).parent.mkdir(parents=True, exist_ok=True)
                    (_CACHE / path).write_bytes(content.read())
    complete.touch()


def _ppo_test_files() -> list[str]:
    """Lists the test files that name PPO."""
    return sorted(str(path.relative_to(_CACHE)) for path in _CACHE.glob("tests/test_*.py") if "PPO" in path.read_text("utf-8"))


def _run_both(arguments: list[str]) -> list[dict[str, Any]]:
    """Runs the tests with SB3's PPO and with ours, and gives the results of both, as :class:`_Results` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        found = [Path(folder) / package for package in _PACKAGES.values()]
        # The networks are small, and the two processes share the cores.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", package, f"{path}.json", f"--basetemp={path}", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for package, path in zip(_PACKAGES.values(), found, strict=True)
        ]
        for side, process in zip(_PACKAGES, processes, strict=True):
            print(f"{side}:\n{process.communicate()[0]}", flush=True)
            if process.returncode not in (
                pytest.ExitCode.OK,
                pytest.ExitCode.TESTS_FAILED,
                pytest.ExitCode.NO_TESTS_COLLECTED,
            ):
                raise ValueError(f"pytest ended with exit status {process.returncode} for {side}")
        return [json.loads(path.with_suffix(".json").read_text()) for path in found]


def report(sb3s: dict[str, Any], ours: dict[str, Any]) -> int:
    """
    Prints the differences and the number of outcomes.

    :param sb3s: the results of SB3's PPO
    :param ours: the results of our PPO
    :return: the exit status: 1 if there are differences, or no test built our PPO
    """
    differences = [
        f"{test}: {outcome} with SB3's PPO, {ours['outcomes'].get(test, 'not collected')} with ours"
        for test, outcome in sb3s["outcomes"].items()
        if outcome != ours["outcomes"].get(test)
    ]
    differences += [
        f"{test}: builds {count} of SB3's PPO, {ours['built'].get(test, 0)} of ours"
        for test, count in sb3s["built"].items()
        if count != ours["built"].get(test, 0)
    ]
    n_built = sum(ours["built"].values())
    n_files, n_tests = len(ours["files"]), len(ours["outcomes"])
    print(f"Stable-Baselines3 {_VERSION}: {n_files} test files name PPO; {n_tests} of their tests concern it and build")
    print(f"{n_built} of ours. {ours['left_out']} tests of other algorithms and of utilities are left out.")
    for outcome in ("failed", "skipped"):
        for test in (test for test, found in sb3s["outcomes"].items() if found == outcome):
            print(f"  {outcome} with SB3's PPO, too: {test} ({sb3s['reasons'][test]})")
    for line in differences:
        print(f"  differs: {line}")
    if not n_built:
        print("  no test built ours")
    counts = Counter(ours["outcomes"].values())
    print(f"SB3's tests with our PPO: {', '.join(f'{counts[kind]} {kind}' for kind in ('passed', 'failed', 'skipped'))}")
    return int(bool(differences) or not n_built)


class _Results:
    """A plugin of pytest that leaves out tests that build no PPO, and collects the outcomes of all others."""

    def __init__(self, ppo: type[Any]) -> None:
        self.ppo = ppo
        self.built: Counter[str] = Counter()
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.left_out = 0
        self._running = ""
        self._count(ppo)

    def _count(self, ppo: type[Any]) -> None:
        """Counts the models that each test builds."""
        construct: Callable[..., None] = ppo.__init__

        @functools.wraps(construct)
        def counted(*args: Any, **kwargs: Any) -> None:
            self.built[self._running] += 1
            construct(*args, **kwargs)

        ppo.__init__ = counted

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps the tests that build a PPO."""
        n_collected = len(items)
        items[:] = [item for item in items if isinstance(item, pytest.Function) and self._builds_ppo(item)]
        self.left_out = n_collected - len(items)

    def _builds_ppo(self, test: pytest.Function) -> bool:
        """Tells whether PPO is among a test's parameters or, without algorithms among these, in its name or source."""
        parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
        algorithms = [value for value in parameters if inspect.isclass(value) and hasattr(value, "learn")]
        if algorithms:
            return self.ppo in algorithms
        return "ppo" in test.name or "PPO" in inspect.getsource(test.function)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remembers which test builds models from now on."""
        self._running = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test's outcome; a setup or teardown counts if it skips or fails."""
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid] = report.outcome
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.reasons[report.nodeid] = reason.strip().rpartition("\n")[-1]

    def write(self, path: Path, files: list[str]) -> None:
        """Writes the results, and the test files that were collected, as JSON."""
        found = {name: getattr(self, name) for name in ("built", "outcomes", "reasons", "left_out")}
        path.write_text(json.dumps({**found, "files": files}))


def _run_side(package: str, path: Path, arguments: list[str]) -> int:
    """Runs the tests in this process with a package's PPO in place of SB3's, and writes the results to ``path``."""
    ppo = importlib.import_module(package).PPO
    for module in ("stable_baselines3", "stable_baselines3.ppo", "stable_baselines3.ppo.ppo"):
        importlib.import_module(module).PPO = ppo  # type: ignore[attr-defined]
    results, files = _Results(ppo), _ppo_test_files()
    paths = [str(_CACHE / file) for file in files]
    status = pytest.main([*_PYTEST, "-c", str(_CACHE / "pyproject.toml"), *arguments, *paths], plugins=[results])
    results.write(path, files)
    return int(status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(_run_side(sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
    sys.exit(main())
