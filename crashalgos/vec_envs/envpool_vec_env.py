"""EnvPool's envs as SB3's ``VecEnv``."""

import importlib
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs

from crashalgos.common.checks import check_count
from crashalgos.vec_envs.batch_vec_env import BatchStep, BatchVecEnv, Infos, copied, infos_by_env

#: EnvPool's seeds are below this number: they are signed integers of 32 bits
_N_SEEDS = 2**31
#: Infos that only asynchronous pools and games of several players need
_UNUSED_INFOS = ("env_id", "players")
#: Arguments of ``envpool.make`` that this class sets
_RESERVED = ("env_type", "batch_size", "gym_reset_return_info")


class EnvPoolVecEnv(BatchVecEnv):
    """
    Envs of `EnvPool <https://github.com/sail-sg/envpool>`_ as SB3's ``VecEnv``.

    EnvPool (``pip install envpool``) steps its envs in C++ threads::

        model = PPO("MlpPolicy", VecMonitor(EnvPoolVecEnv("CartPole-v1", 8)))

    - **Seeds.** A pool gets its seed when it is made. So the first :meth:`reset` after :meth:`seed` makes a new pool, in which
      env i has the seed plus i.
    - **Ends of episodes.** EnvPool itself would reset an env in the step after the last one. This class resets it at once, so
      there is no such step.
    - **Time limits.** If a task ends in the same step as its time limit, EnvPool reports only the truncation.

    :param task_id: EnvPool's name of the env
    :param num_envs: number of envs
    :param seed: seed of the pool until you call :meth:`seed`; ``None``: a random one
    :param kwargs: other arguments of ``envpool.make``, for example ``num_threads`` and ``max_episode_steps``
    :raises ValueError: if an argument is wrong
    :raises ImportError: if EnvPool is not installed
    """

    def __init__(self, task_id: str, num_envs: int, seed: int | None = None, **kwargs: Any) -> None:
        check_count("num_envs", num_envs)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        check_count("seed", seed, low=0)
        for name in _RESERVED:
            if name in kwargs:
                raise ValueError(f"`{name}` is set by EnvPoolVecEnv, got {kwargs[name]!r}: leave it out")
        self.task_id = task_id
        self._kwargs = dict(kwargs, num_envs=int(num_envs))
        self._pool = self._make_pool(seed)
        super().__init__(num_envs, self._pool.observation_space, self._pool.action_space)

    def _make_pool(self, seed: int) -> Any:
        try:
            envpool = importlib.import_module("envpool")  # an optional dependency
        except ImportError as error:
            raise ImportError(f"EnvPoolVecEnv needs EnvPool ({error}): pip install envpool") from error
        if self.task_id not in envpool.list_all_envs():
            raise ValueError(f"`task_id` must be one of envpool.list_all_envs(), got {self.task_id!r}")
        return envpool.make(self.task_id, env_type="gymnasium", seed=int(seed) % _N_SEEDS, **self._kwargs)

    def reset(self) -> VecEnvObs:
        """
        Resets all envs; in a new pool if :meth:`seed` was called since the last reset.

        :return: the first observations
        :raises ValueError: if ``set_options`` was called: EnvPool has no options
        """
        if any(self._options):
            raise ValueError(f"`options` must be empty for EnvPool's envs, got {self._options!r}")
        if self._seeds[0] is not None:
            self._pool = self._make_pool(self._seeds[0])
            self._reset_seeds()
        observations, self.reset_infos = self._reset(np.arange(self.num_envs))
        return observations

    def _reset(self, envs: np.ndarray) -> tuple[Any, Infos]:
        observations, infos = self._pool.reset(envs.astype(np.int32))
        return copied(self.observation_space, observations), self._infos(infos, len(envs))

    def _infos(self, infos: dict[str, Any], n_envs: int) -> Infos:
        return infos_by_env({name: values for name, values in infos.items() if name not in _UNUSED_INFOS}, n_envs)

    def _step(self, actions: np.ndarray) -> BatchStep:
        observations, rewards, terminated, truncated, infos = self._pool.step(actions)
        return BatchStep(
            copied(self.observation_space, observations),
            np.array(rewards, dtype=np.float32),
            terminated,
            truncated,
            self._infos(infos, self.num_envs),
        )

    def _reset_ended(self, ended: np.ndarray) -> tuple[Any, Infos]:
        return self._reset(ended)

    def close(self) -> None:
        """Closes the pool."""
        self._pool.close()

    def _render(self) -> list[np.ndarray | None]:
        return list(self._pool.render(np.arange(self.num_envs)))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        Returns ``render_mode`` or ``spec`` of the envs. EnvPool's envs are C++ objects and have no other attributes.

        :param attr_name: the attribute's name
        :param indices: indices of the envs; ``None``: all
        :return: the value for each env
        :raises AttributeError: if it is another attribute
        """
        known = {"render_mode": self._kwargs.get("render_mode"), "spec": EnvSpec(self.task_id)}
        if attr_name not in known:
            raise AttributeError(f"EnvPool's envs show {' and '.join(known)} alone, not {attr_name!r}")
        return [known[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        Raises an error, because EnvPool's envs have no attributes to set.

        :param attr_name: the attribute's name
        :param value: not used
        :param indices: not used
        :raises AttributeError: always
        """
        raise AttributeError(f"EnvPool's envs have no attribute to set, got {attr_name!r}: pass it to the constructor")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        Raises an error, because EnvPool's envs have no methods to call.

        :param method_name: the method's name
        :param method_args: not used
        :param indices: not used
        :param method_kwargs: not used
        :raises AttributeError: always
        """
        raise AttributeError(f"EnvPool's envs have no method to call, got {method_name!r}")
