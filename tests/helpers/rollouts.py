"""The samples and the logs of a model's rollouts."""

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from crashalgos import REINFORCE


class Rollouts(BaseCallback):
    """Keeps what each rollout samples and logs, and stops after a number of them."""

    def __init__(self, n_rollouts: int) -> None:
        super().__init__()
        self.n_rollouts = n_rollouts
        self.logged: list[dict[str, float]] = []
        self.samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.timesteps: list[int] = []

    def _on_step(self) -> bool:
        return len(self.logged) < self.n_rollouts

    def _on_rollout_end(self) -> None:
        self.logged.append(dict(self.logger.name_to_value))
        buffer = self.model.rollout_buffer
        self.samples.append((buffer.observations.copy(), buffer.lengths.copy(), buffer.mask.copy()))
        self.timesteps.append(self.model.num_timesteps)


def collect(env: VecEnv, n_trajectories: int, n_rollouts: int = 1, algorithm=REINFORCE, **kwargs) -> tuple:
    """Collects rollouts of N trajectories; gives the model and its :class:`Rollouts`."""
    model = algorithm("MlpPolicy", env, n_trajectories=n_trajectories, seed=0, device="cpu", **kwargs)
    rollouts = Rollouts(n_rollouts)
    model.learn(10**9, callback=rollouts)
    return model, rollouts
