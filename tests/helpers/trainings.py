"""Short trainings of the three algorithms, and what they leave behind, to be compared between kinds of envs."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.trace import CLOCK, learned, record

#: The limit is met, so that values of final observations count
LIMIT = 30
N_ENVS = 3


def cartpole() -> gym.Env:
    return gym.make("CartPole-v1", max_episode_steps=LIMIT)


def dummy() -> DummyVecEnv:
    return DummyVecEnv([cartpole] * N_ENVS)


def trained(algorithm: Any, env: VecEnv, total_timesteps: int = 500, **arguments: Any) -> dict[str, Any]:
    """
    :param algorithm: of the three
    :param env: closed afterwards
    :param total_timesteps: of the training
    :param arguments: of the algorithm
    :return: all that has to be equal, flat, for :func:`tests.parity.trace.differences`
    """
    model = algorithm("MlpPolicy", env, seed=5, device="cpu", policy_kwargs={"net_arch": [8]}, **arguments)
    recorder = record(model)
    model.learn(total_timesteps)
    env.close()
    dumps = [{key: value for key, value in dump.items() if key not in CLOCK} for dump in recorder.dumps]
    return learned(model) | {
        "num_timesteps": model.num_timesteps,
        "episodes": [(float(episode["r"]), int(episode["l"])) for episode in model.ep_info_buffer],
        "random/torch": th.get_rng_state(),
        "random/numpy": np.random.get_state()[1:],
        "dumps": dumps,
    }


ALGORITHMS: dict[str, Callable[..., dict[str, Any]]] = {
    "PPO": lambda env, **more: trained(PPO, env, n_steps=64, batch_size=32, n_epochs=2, **more),
    "PPO, trajectories": lambda env, **more: trained(PPO, env, n_trajectories=7, batch_size=32, n_epochs=2, **more),
    "BaselinePG": lambda env, **more: trained(BaselinePG, env, n_trajectories=7, **more),
    "REINFORCE": lambda env, **more: trained(REINFORCE, env, n_trajectories=7, **more),
}


class Killed(BaseException):
    """What ends a training that cannot be asked."""


class Kill(BaseCallback):
    """Ends the training at a step; ``None``: never."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.due = lambda: at is not None and self.num_timesteps >= at

    def _on_step(self) -> bool:
        if self.due():
            raise Killed
        return True
