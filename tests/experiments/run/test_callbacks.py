"""The callbacks of a run: what they do, and in which order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crashalgos.experiments.run.callbacks import make_evaluation, make_tracking
from crashalgos.experiments.run.evaluation import Clock
from crashalgos.experiments.run.model import make_model
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.runner import run
from crashalgos.tracking import WandbCallback
from tests.helpers.kill import Killed
from tests.helpers.runs import kill_at, read_rows, small_config


def test_n_updates_ends_a_run(tmp_path: Path) -> None:
    config = small_config("reinforce", tmp_path / "run", n_timesteps=10**6, n_updates=3, eval_freq=0)
    run(config)
    progress = read_rows(config.folder / "progress.csv")
    assert sum(row["rollout/trajectory_return_mean"] != "" for row in progress) == 3
    assert algorithm_class("reinforce").load(config.folder / "model.zip")._n_updates == 3
    assert config.size == 3


def test_updates_are_counted_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    config = small_config("reinforce", tmp_path / "run", n_timesteps=10**6, n_updates=6, eval_freq=0, checkpoint_freq=200)
    config.settings.hyperparameters["n_trajectories"] = 8
    with pytest.raises(Killed):
        run(config, kill_at(4))
    reported: list[int] = []
    run(config, reported.append)
    assert algorithm_class("reinforce").load(config.folder / "model.zip")._n_updates == 6
    assert reported[-1] == 6 and reported[0] > 0


def test_each_seed_has_its_own_evaluation_episodes(tmp_path: Path) -> None:
    starts = []
    for seed in (0, 1):
        config = small_config("sb3-ppo", tmp_path, seed=seed, eval_episodes=5)
        env = make_evaluation(config, make_model(config), Clock()).env
        starts += [tuple(state) for state in np.asarray(env.reset())]
        env.close()
    assert len(set(starts)) == 10


def test_wandb_gets_the_fields_that_the_model_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: dict[str, Any] = {}

    def init(self: WandbCallback, project: str, **options: Any) -> None:
        reported.update(options["config"])

    monkeypatch.setattr(WandbCallback, "__init__", init)
    make_tracking(small_config("sb3-ppo", tmp_path))
    assert reported == {
        "run": {
            "algo": "sb3-ppo",
            "variant": "",
            "env": "CartPole-v1",
            "seed": 3,
            "n_timesteps": 600,
            "n_updates": 0,
            "eval_freq": 200,
            "eval_episodes": 2,
            "checkpoint_freq": 0,
            "threads": 1,
        }
    }
