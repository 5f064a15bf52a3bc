from pathlib import Path

import pytest

from crashalgos.experiments.grid import LOG_FILE, RunFailure, run_grid
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
