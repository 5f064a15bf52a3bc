"""SB3's contract for what steps all its envs at once."""

from abc import abstractmethod
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

Infos = list[dict[str, Any]]


class BatchStep(NamedTuple):
    """
    One step of all envs; the arrays are the receiver's own.

    :param observations: of each env, shape (n_envs, …), a dict of such for Dict spaces
    :param rewards: shape (n_envs,)
    :param terminated: shape (n_envs,)
    :param truncated: shape (n_envs,)
    :param infos: one of each env
    """

    observations: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: Infos


class BatchVecEnv(VecEnv):
    """
    A ``VecEnv`` over something that steps all its envs at once. An env whose episode ends with a step is reset before the step
    is returned, as SB3 has it: the observation is then the first of the next episode, and ``infos[i]["terminal_observation"]``
    the last of the one before. Rewards are float32, as ``DummyVecEnv``'s.

    :param num_envs: Number of environments
    :param observation_space: Observation space of one env
    :param action_space: Action space of one env
    """

    _actions: np.ndarray

    @abstractmethod
    def _step(self, actions: np.ndarray) -> BatchStep:
        """Step all envs; no env is at the end of an episode."""

    @abstractmethod
    def _restart(self, ended: np.ndarray) -> tuple[Any, Infos]:
        """Reset these envs alone, and give their first observations and infos, in their order."""

    def step_async(self, actions: np.ndarray) -> None:
        """:param actions: a_t of all envs, which :meth:`step_wait` takes"""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """:return: observations, rewards, whether episodes ended, infos"""
        observations, rewards, terminated, truncated, infos = step = self._step(self._actions)
        dones = terminated | truncated
        if dones.any():
            self._end_episodes(step, np.flatnonzero(dones))
        for info, by_limit in zip(infos, truncated & ~terminated, strict=True):
            info["TimeLimit.truncated"] = bool(by_limit)
        return observations, rewards, dones, infos

    def _end_episodes(self, step: BatchStep, ended: np.ndarray) -> None:
        for env in ended:
            step.infos[env]["terminal_observation"] = rows(step.observations, env)
        first, infos = self._restart(ended)
        put_rows(step.observations, ended, first)
        for env, info in zip(ended, infos, strict=True):
            self.reset_infos[env] = info

    def get_images(self) -> list[np.ndarray | None]:
        """:return: a picture of each env; ``None`` without ``render_mode="rgb_array"``"""
        return self._render() if self.render_mode == "rgb_array" else [None] * self.num_envs

    @abstractmethod
    def _render(self) -> list[np.ndarray | None]:
        """A picture of each env."""

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        :param wrapper_class: a wrapper of single envs
        :param indices: of which envs; ``None``: of all
        :return: whether each is in one
        """
        return [False for _ in self._get_indices(indices)]


def copied(space: spaces.Space, observations: Any) -> VecEnvObs:
    """
    SB3 keeps what it is given, while a vector env may write its next step into the same memory.

    :param space: of one env
    :param observations: of several
    :return: the same in memory of its own, of the space's dtype
    """
    if isinstance(space, spaces.Dict):
        return {key: copied(of_key, observations[key]) for key, of_key in space.items()}  # type: ignore[misc]
    return np.array(observations, dtype=space.dtype)


def rows(observations: Any, envs: int | np.ndarray) -> Any:
    """
    :param observations: of all envs
    :param envs: the index of one, or of several
    :return: a copy of its observation, or of theirs
    """
    if isinstance(observations, dict):
        return {key: rows(of_key, envs) for key, of_key in observations.items()}
    return np.array(observations[envs])


def put_rows(observations: Any, envs: np.ndarray, new: Any) -> None:
    """
    :param observations: of all envs, changed in place
    :param envs: indices
    :param new: the observations of these from now on, in their order
    """
    if isinstance(observations, dict):
        for key, of_key in observations.items():
            put_rows(of_key, envs, new[key])
    else:
        observations[envs] = new


def infos_by_env(infos: dict[str, Any] | Infos, n_envs: int) -> Infos:
    """
    Gymnasium's vector envs give the infos of all envs in one dictionary of arrays, the EnvPool's likewise.

    :param infos: by name; where an array ``_name`` is beside, it tells which envs have ``name``
    :param n_envs: number of envs
    :return: those of each env
    """
    if isinstance(infos, list):  # gymnasium's DictInfoToList
        return infos
    by_env: Infos = [{} for _ in range(n_envs)]
    for name, values in infos.items():
        if name[:1] == "_" and name[1:] in infos:
            continue
        of_envs = infos_by_env(values, n_envs) if isinstance(values, dict) else values
        mask = infos.get(f"_{name}")
        for env in range(n_envs) if mask is None else np.flatnonzero(mask):
            by_env[env][name] = of_envs[env]
    return by_env
