"""
Stable-Baselines3's own tests of PPO, with crashalgos.PPO in its place: ``python scripts/test_sb3.py``.

They come by pip from the source distribution of the installed version, stay in ``build/``, and run twice, each time in a
process of its own: with SB3's PPO and with ours. What passes with SB3's has to pass with ours, and each test has to build as
many of ours as of SB3's.
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

VERSION = metadata.version("stable-baselines3")
CACHE = Path(__file__).resolve().parents[1] / "build" / f"sb3-tests-{VERSION}"
#: In which package each side's PPO is
PACKAGES = {"SB3's PPO": "stable_baselines3", "ours": "crashalgos"}
PYTEST = ("-q", "-p", "no:cacheprovider", "--disable-warnings", "--color=no", "--tb=short", "--timeout=300")


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: more arguments of pytest, such as ``-k save``; by default the command line
    :return: the exit status: 1 where ours differs from SB3's PPO, 2 where there are no tests to run
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        fetch_tests()
        sb3s, ours = run_both(arguments)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"test_sb3.py: error: cannot run the tests of stable-baselines3 {VERSION}: {error}", file=sys.stderr)
        return 2
    return report(sb3s, ours)


def fetch_tests() -> None:
    """Put SB3's ``tests`` and its settings of pytest, but not its package, into the cache, unless they are there."""
    complete = CACHE / "complete"
    if complete.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*download, "--no-binary", "stable-baselines3", "-d", folder, f"stable-baselines3=={VERSION}"], check=True
        )
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as sdist:
            for member in sdist:
                path = Path(*Path(member.name).parts[1:])
                wanted = path == Path("pyproject.toml") or (path.parts[:1] == ("tests",) and ".." not in path.parts)
                content = sdist.extractfile(member) if wanted else None
                if content is not None:
                    (CACHE / path).parent.mkdir(parents=True, exist_ok=True)
                    (CACHE / path).write_bytes(content.read())
    complete.touch()


def test_files() -> list[str]:
    """
    :return: the test files in which PPO is named
    """
    return sorted(str(path.relative_to(CACHE)) for path in CACHE.glob("tests/test_*.py") if "PPO" in path.read_text("utf-8"))


def run_both(arguments: list[str]) -> list[dict[str, Any]]:
    """
    :param arguments: more arguments of pytest
    :return: the results of SB3's PPO and of ours, as :class:`Results` writes them
    """
    with tempfile.TemporaryDirectory() as folder:
        found = [Path(folder) / package for package in PACKAGES.values()]
        # One thread each: the networks are small, and the two share the cores
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", package, f"{path}.json", f"--basetemp={path}", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for package, path in zip(PACKAGES.values(), found, strict=True)
        ]
        for side, process in zip(PACKAGES, processes, strict=True):
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
    :param sb3s: the results of SB3's PPO
    :param ours: the results of ours
    :return: the exit status
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
    n_tests = len(ours["outcomes"])
    print(
        f"Stable-Baselines3 {VERSION}: {len(ours['files'])} test files name PPO; {n_tests} of their tests concern it and build"
    )
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


class Results:
    """
    A plugin of pytest: leaves out what builds no PPO, and writes down what became of each test.

    :param ppo: the class that is built
    """

    def __init__(self, ppo: type[Any]) -> None:
        self.ppo = ppo
        self.built: Counter[str] = Counter()
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.left_out = 0
        self._running = ""
        self._count(ppo)

    def _count(self, ppo: type[Any]) -> None:
        construct: Callable[..., None] = ppo.__init__

        @functools.wraps(construct)
        def counted(*args: Any, **kwargs: Any) -> None:
            self.built[self._running] += 1
            construct(*args, **kwargs)

        ppo.__init__ = counted

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """
        :param items: the tests collected; of these, the ones that build a PPO stay
        """
        n_collected = len(items)
        items[:] = [item for item in items if isinstance(item, pytest.Function) and self.builds_ppo(item)]
        self.left_out = n_collected - len(items)

    def builds_ppo(self, test: pytest.Function) -> bool:
        """
        :param test: a test
        :return: whether PPO is the algorithm among its parameters, or, where there is none, stands in its name or its source
        """
        parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
        algorithms = [value for value in parameters if inspect.isclass(value) and hasattr(value, "learn")]
        if algorithms:
            return self.ppo in algorithms
        return "ppo" in test.name or "PPO" in inspect.getsource(test.function)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """
        :param nodeid: the test that starts
        """
        self._running = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """
        :param report: of a test's setup, call or teardown
        """
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid] = report.outcome
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.reasons[report.nodeid] = reason.strip().rpartition("\n")[-1]

    def write(self, path: Path, files: list[str]) -> None:
        """
        :param path: the JSON file to write
        :param files: the test files that were collected
        """
        found = {name: getattr(self, name) for name in ("built", "outcomes", "reasons", "left_out")}
        path.write_text(json.dumps({**found, "files": files}))


def run_side(package: str, path: Path, arguments: list[str]) -> int:
    """
    Run the tests in this process, with the PPO of ``package`` where they import SB3's.

    :param package: ``stable_baselines3`` or ``crashalgos``
    :param path: the JSON file for the results
    :param arguments: more arguments of pytest
    :return: pytest's exit status
    """
    ppo = importlib.import_module(package).PPO
    for module in ("stable_baselines3", "stable_baselines3.ppo", "stable_baselines3.ppo.ppo"):
        importlib.import_module(module).PPO = ppo  # type: ignore[attr-defined]
    results, files = Results(ppo), test_files()
    paths = [str(CACHE / file) for file in files]
    status = pytest.main([*PYTEST, "-c", str(CACHE / "pyproject.toml"), *arguments, *paths], plugins=[results])
    results.write(path, files)
    return int(status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(run_side(sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
    sys.exit(main())
