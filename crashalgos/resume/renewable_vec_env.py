"""A vectorized env that can make its envs anew."""

from collections.abc import Callable

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class RenewableVecEnv(DummyVecEnv):
    """
    A ``DummyVecEnv`` that can make its envs anew: some keep something of the past when they are reset (of gymnasium's standard
    envs, ``BipedalWalker-v3`` keeps its world). ``make_vec_env(…, vec_env_cls=RenewableVecEnv)`` makes one; with a
    ``monitor_dir``, ``monitor_kwargs=dict(override_existing=False)`` keeps what an env that is replaced has written.

    :param env_fns: functions that make the envs
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]]):
        super().__init__(env_fns)
        self._env_fns = env_fns

    def renew(self) -> None:
        """Close the envs and make new ones."""
        for env in self.envs:
            env.close()
        self.envs = [make() for make in self._env_fns]


def renew(env: VecEnv) -> None:
    """
    :param env: its envs are made anew if they can be; wrappers stay
    """
    if isinstance(env.unwrapped, RenewableVecEnv):
        env.unwrapped.renew()
