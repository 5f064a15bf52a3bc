"""Runs in processes of this machine: one that fails or dies does not stop the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crashalgos.experiments.grid import local_executor
from crashalgos.experiments.grid.grid import RunFailure, run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.run.folder import LOG_FILE
from crashalgos.experiments.run.runner import RunResult
from tests.helpers.grids import make_configs
from tests.helpers.paths import HELPERS, ROOT


def test_a_run_that_fails_or_dies_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setattr(local_executor, "MAX_DEATHS_WITHOUT_PROGRESS", 2)
    # Seed 1 raises an error, seed 2 is killed (crash_env.py).
    configs = make_configs(tmp_path, (0, 1, 2, 3))
    outcomes = run_grid(configs, LocalExecutor(2), tmp_path, {"seeds": 4})
    assert [outcome.config.seed for outcome in outcomes] == [0, 1, 2, 3]
    finished, failed, killed, last = outcomes
    assert isinstance(finished, RunResult) and isinstance(last, RunResult)
    assert finished.final_return == last.final_return == 5.0
    assert isinstance(failed, RunFailure) and failed.last_line == "RuntimeError: this seed fails"
    assert isinstance(killed, RunFailure)
    assert "was killed by SIGKILL before it had a result, 2 times without getting further" in killed.reason
    # A run prints to a file in its own folder, not over the progress bar.
    assert "this seed fails" in (tmp_path / "1" / LOG_FILE).read_text()
    shown = capfd.readouterr().err
    assert "this seed fails" not in shown
    assert "4/4 runs, 2 failed" in shown and "200/200" in shown


def test_a_process_that_dies_is_resubmitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setenv("CRASH_ENV_DIES_ONCE", str(tmp_path / "died"))
    (outcome,) = run_grid(make_configs(tmp_path, (2,)), LocalExecutor(1), tmp_path, {})
    assert (tmp_path / "died").exists()
    assert isinstance(outcome, RunResult) and outcome.final_return == 5.0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_does_not_hide_why_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    (config,) = make_configs(tmp_path, (1,))
    config.folder = tmp_path / "runs" / "1"
    config.folder.mkdir(parents=True)
    (config.folder / LOG_FILE).symlink_to("/dev/full")
    (outcome,) = run_grid([config], LocalExecutor(1), tmp_path / "grid", {})
    assert isinstance(outcome, RunFailure) and outcome.last_line == "RuntimeError: this seed fails"


@pytest.mark.slow
def test_runs_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crashalgos.experiments.grid.grid import run_grid\n"
        "from crashalgos.experiments.grid.local_executor import LocalExecutor\n"
        "from tests.helpers.grids import make_configs\n"
        "if __name__ == '__main__':\n"
        "    run_grid(make_configs(Path(sys.argv[1]), (0, 3), 'crash_env:Slow-v0'), LocalExecutor(2), Path(sys.argv[1]), {})\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS)])}
    folder = tmp_path / "grid"
    command = [sys.executable, str(tmp_path / "program.py"), str(folder)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        evaluated = [folder / str(seed) / "evaluations.csv" for seed in (0, 3)]
        deadline = time.monotonic() + 120
        while not all(path.exists() and path.read_text().count("\n") > 1 for path in evaluated):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while has_members(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        if has_members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def has_members(group: int) -> bool:
    """Tells whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_processes_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn:
        killed = False

        def terminate(self) -> None: ...

        def join(self, timeout: float) -> None:
            time.sleep(timeout)

        def is_alive(self) -> bool:
            return True

        def kill(self) -> None:
            self.killed = True

    monkeypatch.setattr(local_executor, "SECONDS_TO_STOP", 0.2)
    processes = [Stubborn() for _ in range(20)]
    start = time.monotonic()
    local_executor._stop(processes)  # type: ignore[arg-type]
    # With a deadline each, they would take 4 s.
    assert 0.2 <= time.monotonic() - start < 2
    assert all(process.killed for process in processes)
