"""Gymnasium's vector envs as SB3's ``VecEnv``."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorActionWrapper,
    VectorEnv,
    VectorObservationWrapper,
    VectorRewardWrapper,
    VectorWrapper,
)
from gymnasium.wrappers.vector import DictInfoToList, NormalizeObservation
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs

from crashalgos.vec_envs.batch_vec_env import BatchStep, BatchVecEnv, Infos, copied, infos_by_env, rows

#: Vector wrappers without a memory of single envs: a reset of some envs only does not disturb them
_MEMORYLESS_WRAPPERS = (VectorObservationWrapper, VectorActionWrapper, VectorRewardWrapper, DictInfoToList)
_HOW_TO = (
    'make it with gym.make_vec(id, num_envs=…, vectorization_mode="sync", '
    'vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})'
)


class GymnasiumVecEnv(BatchVecEnv):
    """
    A vector env of gymnasium as SB3's ``VecEnv``.

    It gives the same transitions as a ``DummyVecEnv`` of the same envs::

        env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=8, vectorization_mode="sync"))
        model = PPO("MlpPolicy", VecMonitor(env))

    In SB3, an env is reset in the step that ends its episode. How this works here depends on the mode of the vector env,
    ``vector_env.metadata["autoreset_mode"]``:

    - ``SAME_STEP``: the vector env resets the env itself, and returns the final observation. You can use every vector wrapper
      that supports this mode.
    - ``DISABLED``: this class resets the env by ``reset(options={"reset_mask": …})``. Vector wrappers with a memory of single
      envs raise an error: they would not notice this reset.
    - ``NEXT_STEP``, gymnasium's default: the same as ``DISABLED``. It works only for ``SyncVectorEnv`` and ``AsyncVectorEnv``.
      Other vector envs raise an error: they cannot reset single envs at once.

    For the statistics of episodes, use ``VecMonitor`` around this env, or ``Monitor`` around the single envs.

    :param vector_env: the vector env; do not step or reset it yourself any more
    :raises ValueError: if it is not a vector env, or does not give final observations
    """

    def __init__(self, vector_env: VectorEnv) -> None:
        _check_vector_env(vector_env)
        self.vector_env = vector_env
        self._resets_itself = vector_env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)
        self.metadata = vector_env.metadata

    def reset(self) -> VecEnvObs:
        """
        Resets all envs; with their seeds if :meth:`seed` was called since the last reset.

        :return: the first observations
        :raises ValueError: if ``set_options`` was given a list whose entries differ
        """
        options = self._options[0]
        if not all(other is options or other == options for other in self._options):
            raise ValueError(f"`options` must be the same for all envs of a gymnasium vector env, got {self._options!r}")
        # As in SB3, gymnasium gives env i this seed plus i
        seed = None if self._seeds[0] is None else int(self._seeds[0])
        observations, infos = self.vector_env.reset(seed=seed, options=options or None)
        self.reset_infos = infos_by_env(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return copied(self.observation_space, observations)

    def _step(self, actions: np.ndarray) -> BatchStep:
        actions = np.asarray(actions, dtype=self.action_space.dtype)
        observations, rewards, terminated, truncated, infos = self.vector_env.step(actions)
        return BatchStep(
            copied(self.observation_space, observations),
            np.array(rewards, dtype=np.float32),
            np.asarray(terminated, dtype=bool),
            np.asarray(truncated, dtype=bool),
            infos_by_env(infos, self.num_envs),
        )

    def _end_episodes(self, step: BatchStep, ended: np.ndarray) -> None:
        if not self._resets_itself:
            super()._end_episodes(step, ended)
            return
        for env in ended:
            reset_info = step.infos[env]
            if "final_obs" not in reset_info:
                raise ValueError(
                    f'{self.vector_env} with AutoresetMode.SAME_STEP must have "final_obs" in the infos of a step that ends '
                    f"an episode, got {sorted(reset_info)}"
                )
            final_obs = copied(self.observation_space, reset_info.pop("final_obs"))
            info = reset_info.pop("final_info", {}) | {"terminal_observation": final_obs}
            if "episode" in reset_info:  # gymnasium's vector RecordEpisodeStatistics adds it after the reset
                info["episode"] = reset_info.pop("episode")
            self.reset_infos[env], step.infos[env] = reset_info, info

    def _reset_ended(self, ended: np.ndarray) -> tuple[Any, Infos]:
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[ended] = True
        observations, infos = self.vector_env.reset(options={"reset_mask": mask})
        by_env = infos_by_env(infos, self.num_envs)
        return rows(observations, ended), [by_env[env] for env in ended]

    def close(self) -> None:
        """Closes the vector env."""
        self.vector_env.close()

    def _render(self) -> list[np.ndarray | None]:
        return list(self.vector_env.render() or ())  # type: ignore[arg-type]

    # ------------------------------------------------------------- single envs

    @property
    def _single_envs(self) -> list[gym.Env] | None:
        """The single envs, if they are in this process."""
        base = self.vector_env.unwrapped
        return list(base.envs) if isinstance(base, SyncVectorEnv) else None

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        Returns an attribute of the envs.

        :param attr_name: the attribute's name. An ``AsyncVectorEnv`` calls it if it is a method
        :param indices: indices of the envs; ``None``: all
        :return: the value of each env; if there are no single envs, the vector env's own value for each
        :raises AttributeError: if there is no such attribute
        """
        chosen, envs = list(self._get_indices(indices)), self._single_envs
        if envs is not None:
            return [envs[env].get_wrapper_attr(attr_name) for env in chosen]
        base: Any = self.vector_env.unwrapped
        if not isinstance(base, AsyncVectorEnv):
            return [getattr(base, attr_name)] * len(chosen)
        values = self._call(attr_name)
        return [values[env] for env in chosen]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        Sets an attribute of the envs.

        :param attr_name: the attribute's name
        :param value: the new value
        :param indices: indices of the envs; ``None``: all. An ``AsyncVectorEnv`` accepts only all
        """
        envs = self._single_envs
        if envs is not None:
            for env in self._get_indices(indices):
                envs[env].set_wrapper_attr(attr_name, value)
            return
        self._check_all("set an attribute", indices)
        self.vector_env.unwrapped.set_attr(attr_name, [value] * self.num_envs)  # type: ignore[attr-defined]

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        Calls a method of the envs.

        :param method_name: the method's name
        :param method_args: its positional arguments
        :param indices: indices of the envs; ``None``: all. An ``AsyncVectorEnv`` accepts only all
        :param method_kwargs: its keyword arguments
        :return: the result of each env
        """
        envs = self._single_envs
        if envs is not None:
            methods = [envs[env].get_wrapper_attr(method_name) for env in self._get_indices(indices)]
            return [method(*method_args, **method_kwargs) for method in methods]
        self._check_all("call a method", indices)
        return self._call(method_name, *method_args, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        Whether the envs are in a wrapper of a class.

        :param wrapper_class: a class of wrappers of single envs; an ``AsyncVectorEnv`` compares only its name
        :param indices: indices of the envs; ``None``: all
        :return: for each env, whether it is in such a wrapper
        """
        base = self.vector_env.unwrapped
        chosen, envs = list(self._get_indices(indices)), self._single_envs
        if envs is not None:
            return [is_wrapped(envs[env], wrapper_class) for env in chosen]
        if not isinstance(base, AsyncVectorEnv):
            return [False] * len(chosen)
        described = base.call("__str__")
        return [f"<{wrapper_class.__name__}<" in described[env] for env in chosen]

    def _call(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        base: Any = self.vector_env.unwrapped
        # Ask first: a process of an AsyncVectorEnv ends if the call fails
        if not all(base.call("has_wrapper_attr", name)):
            raise AttributeError(f"not every env of {base} has {name!r}")
        return list(base.call(name, *args, **kwargs))

    def _check_all(self, what: str, indices: VecEnvIndices) -> None:
        chosen = list(self._get_indices(indices))
        if chosen != list(range(self.num_envs)):
            raise ValueError(f"`indices` must be None to {what} of {self.vector_env}, which knows only all envs, got {chosen}")


def _check_vector_env(vector_env: VectorEnv) -> None:
    """Raises a ``ValueError`` if it is not a vector env, or does not give final observations."""
    if not isinstance(vector_env, VectorEnv):
        raise ValueError(f"`vector_env` must be a gymnasium.vector.VectorEnv, got {vector_env!r}: use gym.make_vec")
    mode = vector_env.metadata.get("autoreset_mode")
    if mode is AutoresetMode.SAME_STEP:
        return
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        raise ValueError(
            f'`vector_env` must have an AutoresetMode as metadata["autoreset_mode"], got {mode!r} of {vector_env}: {_HOW_TO}'
        )
    if mode is AutoresetMode.NEXT_STEP and not _resets_by_mask(vector_env.unwrapped):
        raise ValueError(
            f"`vector_env` must reset an env when its episode ends, but {vector_env} does so in a step of its own "
            f"(AutoresetMode.NEXT_STEP) and not on demand: {_HOW_TO}; EnvPool's envs are for EnvPoolVecEnv"
        )
    for wrapper in _wrappers_of(vector_env):
        if not isinstance(wrapper, _MEMORYLESS_WRAPPERS) or isinstance(wrapper, NormalizeObservation):
            raise ValueError(
                f"`vector_env` must not be in {type(wrapper).__name__}, which would miss the ends of episodes with {mode}: "
                f"{_HOW_TO}, or use SB3's VecMonitor, VecNormalize, VecVideoRecorder"
            )


def _resets_by_mask(base: VectorEnv) -> bool:
    """Whether ``reset(options={"reset_mask": …})`` replaces the reset in the next step (``AutoresetMode.NEXT_STEP``)."""
    if isinstance(base, AsyncVectorEnv):
        # Without shared memory, a process forgets that it was reset. What a user's own worker does is unknown
        return base.shared_memory and base.worker is None
    return isinstance(base, SyncVectorEnv)


def _wrappers_of(vector_env: VectorEnv) -> Iterator[VectorWrapper]:
    """The vector wrappers around a vector env, the outermost first."""
    while isinstance(vector_env, VectorWrapper):
        yield vector_env
        vector_env = vector_env.env
