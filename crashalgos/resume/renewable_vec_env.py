"""A vectorized env that can replace its envs by new ones."""

from collections.abc import Callable

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class RenewableVecEnv(DummyVecEnv):
    """
    A ``DummyVecEnv`` that can replace its envs by new ones.

    Use it to resume runs in envs whose ``reset`` does not forget the past. Of gymnasium's standard envs, this is
    ``BipedalWalker-v3``: it keeps its physics world. ``make_vec_env(…, vec_env_cls=RenewableVecEnv)`` makes one. With a
    ``monitor_dir``, pass ``monitor_kwargs=dict(override_existing=False)``: otherwise a new env overwrites Monitor's file.

    :param env_fns: functions that make the envs
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]]):
        super().__init__(env_fns)
        self._env_fns = env_fns

    def renew(self) -> None:
        """Closes the envs and makes new ones."""
        for env in self.envs:
            env.close()
        self.envs = [make() for make in self._env_fns]


def renew(env: VecEnv) -> None:
    """
    Replaces the envs of a :class:`RenewableVecEnv` by new ones, and leaves other vectorized envs unchanged.

    :param env: a vectorized env; its vectorized wrappers stay
    """
    if isinstance(env.unwrapped, RenewableVecEnv):
        env.unwrapped.renew()
