import os
import socket
import time
from pathlib import Path

import pytest
import wandb

from crashalgos.experiments import grid
from crashalgos.experiments.grid import LOG_FILE, RunFailure, go_offline_if_unreachable, run_grid
from crashalgos.experiments.run import RunConfig, RunResult
from crashalgos.experiments.settings import Settings

ENV = "crash_env:Crash-v0"


def test_a_run_that_fails_or_dies_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    settings = Settings(n_timesteps=50, hyperparameters={"n_steps": 5})
    # Seed 1 raises an error, seed 2 is killed (crash_env.py).
    configs = [
        RunConfig("sb3-a2c", ENV, settings, tmp_path / str(seed), seed=seed, eval_freq=25, eval_episodes=1, track=False)
        for seed in (0, 1, 2, 3)
    ]
    outcomes = run_grid(configs, jobs=2)
    assert [outcome.config.seed for outcome in outcomes] == [0, 1, 2, 3]
    finished, failed, killed, last = outcomes
    assert isinstance(finished, RunResult) and isinstance(last, RunResult)
    assert finished.final_return == last.final_return == 5.0
    assert isinstance(failed, RunFailure) and failed.reason.rstrip().endswith("RuntimeError: this seed fails")
    assert isinstance(killed, RunFailure) and "was killed by SIGKILL" in killed.reason
    # What a run prints is in its own folder, not across the bar.
    assert "this seed fails" in (tmp_path / "1" / LOG_FILE).read_text()
    shown = capfd.readouterr().err
    assert "this seed fails" not in shown
    assert "4/4 runs, 2 failed" in shown and "200/200" in shown


@pytest.mark.parametrize(("mode", "listens", "expected"), [(None, False, "offline"), ("online", True, "online")])
def test_runs_are_offline_if_the_server_cannot_be_reached(
    mode: str | None, listens: bool, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", url)
        # Set first, so that what the function sets is undone.
        monkeypatch.setenv("WANDB_MODE", "online")
        if mode is None:
            del os.environ["WANDB_MODE"]
        wandb.teardown()  # W&B reads the environment once per session
        go_offline_if_unreachable()
    assert os.environ["WANDB_MODE"] == expected
    output = capsys.readouterr().out
    assert output.count("\n") == (0 if listens else 1)
    assert listens or output.startswith(f"W&B: {url} cannot be reached (")


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_where_nothing_goes_online_no_server_is_looked_for(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("WANDB_MODE", mode)
    go_offline_if_unreachable()
    assert os.environ["WANDB_MODE"] == mode


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
