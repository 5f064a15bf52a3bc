"""Runs that are killed and resumed, and all that has to be equal afterwards."""

import csv
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.resume import RenewableVecEnv, ResumeCallback
from tests.helpers.kill import Kill, Killed

TOTAL, FREQ = 2_000, 500
TOTAL, FREQ = 2_000, 500


class Count(BaseCallback):
    """Counts its calls, in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.starts, self.ends, self.rewards = 0, 0, []

    def _on_rollout_start(self) -> None:
        self.starts += 1

    def _on_rollout_end(self) -> None:
        self.ends += 1

    def _on_step(self) -> bool:
        self.rewards.append(float(self.locals["rewards"].sum()))
        return True


def cartpole(n_envs: int = 4) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs, seed=3)


def pendulum() -> VecEnv:
    return VecNormalize(make_vec_env("Pendulum-v1", 4, seed=3), gamma=0.9)


def walker() -> VecEnv:
    return make_vec_env("BipedalWalker-v3", 2, seed=3, vec_env_cls=RenewableVecEnv)


def maze() -> VecEnv:
    np.random.seed(0)  # its constructor draws the images
    return make_vec_env(SimpleMultiObsEnv, 2, seed=3)


def decay(progress: float) -> float:
    return 1e-3 * max(progress, 0.0)


SMALL: dict[str, Any] = dict(n_steps=64, batch_size=64, n_epochs=2)
MODELS: dict[str, Callable[[], BaseAlgorithm]] = {
    "ppo": lambda: PPO("MlpPolicy", cartpole(), learning_rate=decay, seed=3, **SMALL),
    "ppo, gSDE, VecNormalize": lambda: PPO("MlpPolicy", pendulum(), use_sde=True, sde_sample_freq=4, seed=3, **SMALL),
    "ppo, trajectories": lambda: PPO("MlpPolicy", cartpole(), n_trajectories=5, batch_size=32, n_epochs=2, seed=3),
    "ppo, images in a dict": lambda: PPO("MultiInputPolicy", maze(), n_steps=64, n_epochs=1, batch_size=128, seed=3),
    "ppo, BipedalWalker": lambda: PPO("MlpPolicy", walker(), seed=3, **SMALL),
    "reinforce": lambda: REINFORCE("MlpPolicy", cartpole(), n_trajectories=5, learning_rate=decay, seed=3),
    "baseline_pg, VecNormalize": lambda: BaselinePG("MlpPolicy", VecNormalize(cartpole()), n_trajectories=5, seed=3),
}


def learn(make: Callable[[], BaseAlgorithm], folder: Path, kill_at: int | None = None, **options: Any) -> BaseAlgorithm:
    """Runs the part of a run in ``folder`` that one process makes, until it is killed or done."""
    # Nothing that was drawn before counts
    th.manual_seed(os.getpid() + (kill_at or 0))
    random.random()
    model = make()
    model.set_logger(configure(str(folder), ["csv"]))
    counts = Count()
    callbacks = [ResumeCallback(folder / "checkpoint.pt", FREQ), CallbackList([EveryNTimesteps(300, counts)])]
    try:
        model.learn(TOTAL, callback=callbacks + ([] if kill_at is None else [Kill(kill_at)]), log_interval=2, **options)
    except Killed:
        pass
    model.logger.dump(model.num_timesteps)
    model.logger.close()
    model.counts = counts  # type: ignore[attr-defined]
    return model


def rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a log, without the clock's columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in ("time/fps", "time/time_elapsed")} for row in csv.DictReader(file)]


def everything(model: BaseAlgorithm) -> dict[str, Any]:
    """Collects all that must be equal after a resume."""
    normalization = model.get_vec_normalize_env()
    return {
        "parameters": model.get_parameters(),
        "windows": [(episode["r"], episode["l"]) for episode in model.ep_info_buffer or ()],
        "counters": (model.num_timesteps, model._n_updates, model._current_progress_remaining),  # type: ignore[attr-defined]
        "normalization": None if normalization is None else (normalization.obs_rms.mean, normalization.ret_rms.var),
        "callback": (model.counts.starts, model.counts.ends, model.counts.rewards, model.counts.n_calls),  # type: ignore[attr-defined]
        "random": (random.getstate()[1][:3], np.random.get_state()[1].tolist(), th.get_rng_state()),  # type: ignore[index,union-attr]
    }


def assert_equal(actual: Any, expected: Any, where: str = "") -> None:
    """Checks that two nested values are equal, tensors to the last bit."""
    assert type(actual) is type(expected), where
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_equal(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), where
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    elif isinstance(expected, th.Tensor):
        assert th.equal(actual.cpu(), expected.cpu()), where  # Adam counts its steps on either device
    elif isinstance(expected, np.ndarray):
        assert np.array_equal(actual, expected), where
    else:
        assert actual == expected, where
