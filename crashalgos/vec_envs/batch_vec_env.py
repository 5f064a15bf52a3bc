"""The common base of the adapters: SB3's ``VecEnv`` over an env that steps all its copies at once."""

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
    One step of all envs. The receiver may change the arrays.

    :param observations: s_{t+1}, shape (n_envs, …), or a dict of such arrays
    :param rewards: r_t, shape (n_envs,)
    :param terminated: whether the episode terminated, shape (n_envs,)
    :param truncated: whether a time limit truncated the episode, shape (n_envs,)
    :param infos: one dict for each env
    """

    observations: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: Infos


class BatchVecEnv(VecEnv):
    """
    SB3's ``VecEnv`` over an env that steps all its copies at once.

    As in SB3, an env whose episode ends is reset within the same step. Then the observation is the first of the next episode,
    and ``infos[i]["terminal_observation"]`` is the last of the previous one. Rewards are float32, as in ``DummyVecEnv``.

    A subclass implements :meth:`_step`, :meth:`_reset_ended` and :meth:`_render`, besides the abstract methods of ``VecEnv``.

    :param num_envs: Number of environments
    :param observation_space: Observation space of one env
    :param action_space: Action space of one env
    """

    _actions: np.ndarray

    @abstractmethod
    def _step(self, actions: np.ndarray) -> BatchStep:
        """Steps all envs. No env is at the end of an episode."""

    @abstractmethod
    def _reset_ended(self, ended: np.ndarray) -> tuple[Any, Infos]:
        """Resets the envs with these indices, and returns their first observations and infos in the same order."""

    def step_async(self, actions: np.ndarray) -> None:
        """
        Stores the actions for :meth:`step_wait`.

        :param actions: a_t of all envs
        """
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """
        Steps all envs, and resets those whose episode ends.

        :return: observations, rewards, whether the episodes ended, infos
        """
        observations, rewards, terminated, truncated, infos = step = self._step(self._actions)
        dones = terminated | truncated
        if dones.any():
            self._end_episodes(step, np.flatnonzero(dones))
        for info, only_truncated in zip(infos, truncated & ~terminated, strict=True):
            info["TimeLimit.truncated"] = bool(only_truncated)
        return observations, rewards, dones, infos

    def _end_episodes(self, step: BatchStep, ended: np.ndarray) -> None:
        for env in ended:
            step.infos[env]["terminal_observation"] = rows(step.observations, env)
        first, infos = self._reset_ended(ended)
        _put_rows(step.observations, ended, first)
        for env, info in zip(ended, infos, strict=True):
            self.reset_infos[env] = info

    def get_images(self) -> list[np.ndarray | None]:
        """
        Renders every env.

        :return: an image of each env; ``None`` without ``render_mode="rgb_array"``
        """
        return self._render() if self.render_mode == "rgb_array" else [None] * self.num_envs

    @abstractmethod
    def _render(self) -> list[np.ndarray | None]:
        """Returns an image of each env."""

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        Whether the envs are in a wrapper of a class: by default they are in none.

        :param wrapper_class: a class of wrappers of single envs
        :param indices: indices of the envs; ``None``: all
        :return: False for each env
        """
        return [False for _ in self._get_indices(indices)]


def copied(space: spaces.Space, observations: Any) -> VecEnvObs:
    """
    Copies observations, in the dtype of their space.

    SB3 keeps the observations that it gets, but a vector env may write its next step into the same arrays.

    :param space: the observation space of one env
    :param observations: observations of one or several envs
    :return: the copy
    """
    if isinstance(space, spaces.Dict):
        return {key: copied(subspace, observations[key]) for key, subspace in space.items()}  # type: ignore[misc]
    return np.array(observations, dtype=space.dtype)


def rows(observations: Any, envs: int | np.ndarray) -> Any:
    """
    Copies the observations of some envs.

    :param observations: observations of all envs
    :param envs: the index of one env, or the indices of several
    :return: the copy
    """
    if isinstance(observations, dict):
        return {key: rows(array, envs) for key, array in observations.items()}
    return np.array(observations[envs])


def _put_rows(observations: Any, envs: np.ndarray, new: Any) -> None:
    """Replaces the observations of some envs in place."""
    if isinstance(observations, dict):
        for key, array in observations.items():
            _put_rows(array, envs, new[key])
    else:
        observations[envs] = new


def infos_by_env(infos: dict[str, Any] | Infos, n_envs: int) -> Infos:
    """
    Converts the infos of a vector env, one dict of arrays, to SB3's, one dict for each env.

    :param infos: arrays by name; the boolean array ``_name``, if it exists, says which envs have ``name``
    :param n_envs: number of envs
    :return: the infos of each env
    """
    if isinstance(infos, list):  # gymnasium's DictInfoToList
        return infos
    by_env: Infos = [{} for _ in range(n_envs)]
    for name, values in infos.items():
        if name[:1] == "_" and name[1:] in infos:
            continue
        value_of_env = infos_by_env(values, n_envs) if isinstance(values, dict) else values
        mask = infos.get(f"_{name}")
        for env in range(n_envs) if mask is None else np.flatnonzero(mask):
            by_env[env][name] = value_of_env[env]
    return by_env
