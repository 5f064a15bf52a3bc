"""A run: it trains, is interrupted, resumes, and is read again."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import CSVOutputFormat

from crashalgos.experiments.run.runner import run
from crashalgos.tracking import WandbCallback
from tests.helpers.grids import rows_without_times
from tests.helpers.kill import Killed
from tests.helpers.runs import equal_parameters, kill_at, read_rows, saved_parameters, small_config


def test_a_finished_runs_folder_holds_its_results(tmp_path: Path) -> None:
    config = small_config("sb3-a2c", tmp_path / "run", "Acrobot-v1", n_timesteps=500)
    reported: list[int] = []
    result = run(config, on_progress=reported.append)
    names = {path.name for path in config.folder.iterdir()}
    files = {"config.json", "status.json", "progress.csv", "evaluations.csv", "model.zip", "vec_normalize.pkl"}
    assert names == files | {".lock", "best"}
    assert json.loads((config.folder / "config.json").read_text()) == config.as_dict()
    status = json.loads((config.folder / "status.json").read_text())
    assert (status["state"], status["num_timesteps"], status["seconds"]) == ("finished", 560, result.seconds)
    assert status["versions"]["torch"] == th.__version__

    # The last evaluation is at the last step, although 200 does not divide 500.
    evaluations = read_rows(config.folder / "evaluations.csv")
    assert [int(row["step"]) for row in evaluations] == [0] * 4 + [200] * 4 + [400] * 4 + [500] * 4
    assert [int(row["episode"]) for row in evaluations] == [0, 1] * 8
    assert [row["mode"] for row in evaluations] == (["deterministic"] * 2 + ["stochastic"] * 2) * 4
    assert all(0 <= int(row["num_timesteps"]) - int(row["step"]) < config.settings.n_envs for row in evaluations)
    # Acrobot's raw reward is −1 a step until the goal: normalised ones would not be whole numbers.
    assert all(float(row["return"]) in (-int(row["length"]), 1 - int(row["length"])) for row in evaluations)

    assert [evaluation.step for evaluation in result.evaluations] == [0, 0, 200, 200, 400, 400, 500, 500]
    assert result.final_return == np.mean([float(row["return"]) for row in evaluations[-4:-2]])
    seconds = [float(row["seconds"]) for row in evaluations]
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1] <= result.seconds
    assert result.num_timesteps == 560 and result.seconds > 0  # 7 rollouts of 16 × 5 steps
    assert reported and reported == sorted(reported)


def test_a_finished_run_is_read_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=256)
    first = run(config)

    def learn(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the run started again")

    monkeypatch.setattr(BaseAlgorithm, "learn", learn)
    assert run(replace(config, verbose=1, track=True)) == replace(first, config=replace(config, verbose=1, track=True))


def test_an_interrupted_run_saves_its_model(tmp_path: Path) -> None:
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=10**6)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, on_progress=interrupt)
    assert saved_parameters(config)


@pytest.mark.parametrize(
    ("algo", "env"),
    [
        ("reinforce", "CartPole-v1"),
        ("baseline-pg", "CartPole-v1"),
        pytest.param("ppo", "Acrobot-v1", marks=pytest.mark.slow),
        ("ppo", "Pendulum-v1"),
        # Its envs keep some state over a reset
        pytest.param("ppo", "ShortWalker-v3", marks=pytest.mark.slow),
        # Peers have no checkpoint and start again
        ("sb3-ppo", "CartPole-v1"),
        ("ars", "CartPole-v1"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    algo: str, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    walker = replace(gym.spec("BipedalWalker-v3"), id="ShortWalker-v3", max_episode_steps=200)
    monkeypatch.setitem(gym.registry, "ShortWalker-v3", walker)
    sizes = dict(n_timesteps=1_200, checkpoint_freq=300, eval_freq=600, eval_episodes=1)
    configs = [small_config(algo, tmp_path / name, env, **sizes) for name in ("whole", "broken")]  # type: ignore[arg-type]
    for config in configs:
        # Several checkpoints in 1,200 steps
        changes = {"ppo": {"n_steps": 16, "batch_size": 64}, "reinforce": {"n_trajectories": 5}}.get(algo, {})
        config.settings.hyperparameters |= changes
    whole, broken = configs
    expected = run(whole)
    for step in (200, 700, 1_000):
        with pytest.raises(Killed):
            run(broken, kill_at(step))
        assert json.loads((broken.folder / "status.json").read_text())["state"] == "interrupted"
    result = run(broken)
    assert equal_parameters(saved_parameters(broken), saved_parameters(whole))
    assert rows_without_times(broken.folder / "progress.csv") == rows_without_times(whole.folder / "progress.csv")
    assert rows_without_times(broken.folder / "evaluations.csv") == rows_without_times(whole.folder / "evaluations.csv")
    assert result.num_timesteps == expected.num_timesteps
    assert {path.name for path in broken.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


@pytest.mark.parametrize("interrupted", [False, True])
def test_on_a_full_disk_the_model_is_saved_and_the_first_error_is_raised(
    interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CSVOutputFormat, "write", write)
    config = small_config("sb3-ppo", tmp_path / "run", eval_freq=0)
    expected: type[BaseException] = KeyboardInterrupt if interrupted else OSError
    with pytest.warns(UserWarning, match="OSError: .* No space left on device"), pytest.raises(expected):
        run(config, on_progress=interrupt if interrupted else None)
    assert saved_parameters(config)


def test_a_full_disk_after_training_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: CSVOutputFormat, values: dict[str, Any], *args: Any) -> None:
        # Only the row of the last update's figures has no time.
        if "time/iterations" not in values:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CSVOutputFormat, "write", write)
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    with pytest.raises(OSError, match="No space left"):
        run(config)
    assert saved_parameters(config)


def test_a_tracked_run_is_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run(small_config("sb3-ppo", tmp_path / "run", n_timesteps=256, track=True))
    assert result.wandb_folder is not None and result.wandb_folder.parent == tmp_path / "run" / "wandb"
    assert len(list(result.wandb_folder.glob("*.wandb"))) == 1


def test_a_run_that_fails_ends_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_runs: list[bool] = []
    close = WandbCallback.close

    def watched(self: WandbCallback, exit_code: int = 1) -> None:
        open_runs.append(self._run is not None)
        close(self, exit_code)

    def fail(done: int) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(WandbCallback, "close", watched)
    with pytest.raises(RuntimeError, match="no luck"):
        run(small_config("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0, track=True), on_progress=fail)
    # The callback itself calls close before it starts a run.
    assert open_runs == [False, True]


def test_a_resumed_run_continues_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    config = small_config("ppo", tmp_path / "run", n_timesteps=1_024, eval_freq=0, checkpoint_freq=300, track=True)
    with pytest.raises(Killed):
        run(config, kill_at(900))
    run(config)
    # offline-run-TIME-ID, and -1 after it if both parts began in the same second
    parts = [path.name.split("-") for path in (config.folder / "wandb").glob("offline-run-*")]
    assert len(parts) == 2 and len({part[3] for part in parts}) == 1
