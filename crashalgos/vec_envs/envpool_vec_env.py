"""EnvPool's envs in SB3."""

import importlib
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs

from crashalgos.common.checks import check_count
from crashalgos.vec_envs.batch_vec_env import BatchStep, BatchVecEnv, Infos, copied, infos_by_env

#: EnvPool's seeds are 32 bits with a sign
_SEEDS = 2**31
# Infos by which the users of an asynchronous pool, or of several players, know what is whose
_WHOSE = ("env_id", "players")
# Said by this class
_RESERVED = ("env_type", "batch_size", "gym_reset_return_info")


class EnvPoolVecEnv(BatchVecEnv):
    """
    Envs of `EnvPool <https://github.com/sail-sg/envpool>`_ (``pip install envpool``), which steps them in C++ threads, as
    SB3's ``VecEnv``::

        model = PPO("MlpPolicy", VecMonitor(EnvPoolVecEnv("CartPole-v1", 8)))

    A pool's seed is given when it is made: so after :meth:`seed`, the next :meth:`reset` makes a new one, in which env i has
    the seed plus i. At the end of an episode EnvPool hands over the final observation, and this class resets the env, so that
    the step in which EnvPool would do it never happens. An episode that the task ends in the very step of its time limit is
    reported as truncated alone: EnvPool does not tell.

    :param task_id: EnvPool's name of the env
    :param num_envs: number of envs
    :param seed: of the pool, until :meth:`seed` is called; ``None``: a random one
    :param kwargs: other arguments of ``envpool.make``, as ``num_threads`` and ``max_episode_steps``
    :raises ValueError: for a wrong argument
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
            envpool = importlib.import_module("envpool")  # it need not be installed
        except ImportError as error:
            raise ImportError(f"EnvPoolVecEnv needs EnvPool ({error}): pip install envpool") from error
        if self.task_id not in envpool.list_all_envs():
            raise ValueError(f"`task_id` must be one of envpool.list_all_envs(), got {self.task_id!r}")
        return envpool.make(self.task_id, env_type="gymnasium", seed=int(seed) % _SEEDS, **self._kwargs)

    def reset(self) -> VecEnvObs:
        """
        In a new pool if :meth:`seed` has been called since the last one.

        :return: the first observations
        :raises ValueError: for options, of which EnvPool has none
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
        return infos_by_env({name: values for name, values in infos.items() if name not in _WHOSE}, n_envs)

    def _step(self, actions: np.ndarray) -> BatchStep:
        observations, rewards, terminated, truncated, infos = self._pool.step(actions)
        return BatchStep(
            copied(self.observation_space, observations),
            np.array(rewards, dtype=np.float32),
            terminated,
            truncated,
            self._infos(infos, self.num_envs),
        )

    def _restart(self, ended: np.ndarray) -> tuple[Any, Infos]:
        return self._reset(ended)

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()

    def _render(self) -> list[np.ndarray | None]:
        return list(self._pool.render(np.arange(self.num_envs)))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param attr_name: ``render_mode`` or ``spec``: EnvPool's envs, being C++, show nothing else
        :param indices: of which envs; ``None``: of all
        :return: the value, the same for each
        :raises AttributeError: for any other
        """
        known = {"render_mode": self._kwargs.get("render_mode"), "spec": EnvSpec(self.task_id)}
        if attr_name not in known:
            raise AttributeError(f"EnvPool's envs show {' and '.join(known)} alone, not {attr_name!r}")
        return [known[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        :param attr_name: any
        :param value: any
        :param indices: any
        :raises AttributeError: always
        """
        raise AttributeError(f"EnvPool's envs have no attribute to set, got {attr_name!r}: pass it to the constructor")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        :param method_name: any
        :param method_args: any
        :param indices: any
        :param method_kwargs: any
        :raises AttributeError: always
        """
        raise AttributeError(f"EnvPool's envs have no method to call, got {method_name!r}")
