"""Adapters that make the vectorized envs of gymnasium and EnvPool SB3's ``VecEnv``."""

from crashalgos.vec_envs.envpool_vec_env import EnvPoolVecEnv
from crashalgos.vec_envs.gymnasium_vec_env import GymnasiumVecEnv

__all__ = ["EnvPoolVecEnv", "GymnasiumVecEnv"]
