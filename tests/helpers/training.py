"""Short runs of each algorithm, whose results must not depend on the kind of vectorized env."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from tests.helpers.algorithms import VARIANTS
from tests.helpers.trace import CLOCK, learned, record

SETTINGS: dict[str, dict[str, Any]] = {
    "reinforce": dict(n_trajectories=7),
    "baseline_pg": dict(n_trajectories=7),
    "ppo_trajectories": dict(n_trajectories=7, batch_size=32, n_epochs=2),
    "ppo_steps": dict(n_steps=64, batch_size=32, n_epochs=2),
}
#: The limit is met, so that values of final observations count
LIMIT = 30
N_ENVS = 3


def cartpole() -> gym.Env:
    return gym.make("CartPole-v1", max_episode_steps=LIMIT)


def dummy() -> DummyVecEnv:
    """Makes the env that the others are compared with."""
    return DummyVecEnv([cartpole] * N_ENVS)


def train(variant: str, env: VecEnv, total_timesteps: int = 500) -> dict[str, Any]:
    """Trains on the env and closes it; collects all that must be equal, for :func:`tests.helpers.trace.differences`."""
    arguments: dict[str, Any] = dict(seed=5, device="cpu", policy_kwargs={"net_arch": [8]}) | SETTINGS[variant]
    model = VARIANTS[variant]("MlpPolicy", env, **arguments)
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
