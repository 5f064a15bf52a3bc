import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.grid import grid
from crashalgos.experiments.grid.grid import LocalExecutor, Outcomes, RunFailure, run_grid
from crashalgos.experiments.run.folder import LOG_FILE, claimed
from crashalgos.experiments.run.runner import RunConfig, RunResult, run
from crashalgos.experiments.run.settings import Settings
from tests.helpers.paths import HELPERS, ROOT

ENV = "crash_env:Crash-v0"


def make_configs(folder: Path, seeds: Sequence[int], env: str = ENV) -> list[RunConfig]:
    settings = Settings(n_timesteps=50, hyperparameters={"n_steps": 5})
    return [
        RunConfig("sb3-a2c", env, settings, folder / str(seed), seed=seed, eval_freq=25, eval_episodes=1, track=False)
        for seed in seeds
    ]


def test_a_run_that_fails_or_dies_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setattr(grid, "DEATHS", 2)
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
    # What a run prints is in its own folder, not across the bar.
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


class Untouchable:
    """An executor for grids that have nothing left to do."""

    def run(self, configs: Sequence[RunConfig], on_progress: object) -> Outcomes:
        assert not configs
        yield from ()


def test_the_same_grid_again_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    configs, folder = make_configs(tmp_path / "runs", (0, 3)), tmp_path / "grid"
    first = [run(config) for config in configs]
    assert run_grid(configs, Untouchable(), folder, {"seeds": 2}) == first
    assert "2/2 runs" in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"holds results of another configuration \(seeds was 2, is 3\)"):
        run_grid(configs, Untouchable(), folder, {"seeds": 3})
    run_grid(configs, Untouchable(), folder, {"seeds": 2, "command": "another"}, free=["command"])
    monkeypatch.setattr("crashalgos.experiments.run.folder.SECONDS_TO_LET_GO", 0.1)
    with claimed(folder, {}, ["seeds", "command"]), pytest.raises(ValueError, match="is in use"):
        run_grid(configs, Untouchable(), folder, {"seeds": 2})
    other = [replace(config, eval_episodes=2) for config in configs]
    with pytest.raises(ValueError, match="eval_episodes was 1, is 2"):
        run_grid(other, Untouchable(), tmp_path / "other", {})


@pytest.mark.slow
def test_runs_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crashalgos.experiments.grid.grid import LocalExecutor, run_grid\n"
        "from tests.experiments.grid.test_grid import make_configs\n"
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
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_a_killed_grid_left_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-run").mkdir()
    (tmp_path / ".tmp-shared-1").touch()
    assert run_grid([], LocalExecutor(1), tmp_path, {"what": "it is"}) == []
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json"}


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

    monkeypatch.setattr(grid, "SECONDS_TO_STOP", 0.2)
    processes = [Stubborn() for _ in range(20)]
    start = time.monotonic()
    grid._stop(processes)  # type: ignore[arg-type]
    # One after the other they would take 4 s.
    assert 0.2 <= time.monotonic() - start < 2
    assert all(process.killed for process in processes)
