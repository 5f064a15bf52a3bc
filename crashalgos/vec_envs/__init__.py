"""Vectorized envs of others as SB3's ``VecEnv``: gymnasium's own, and EnvPool's."""

from crashalgos.vec_envs.envpool_vec_env import EnvPoolVecEnv
from crashalgos.vec_envs.gymnasium_vec_env import GymnasiumVecEnv

__all__ = ["EnvPoolVecEnv", "GymnasiumVecEnv"]
