"""
Rollout buffers for a sample of N whole trajectories.

SB3's buffers have a place for every step of every env: arrays of shape (n_steps, n_envs). A trajectory buffer stores only the
steps of the sample. Its arrays have one row for each of these M steps, and grow during the rollout.
"""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from crashalgos.common.baselines import Observations
from crashalgos.common.returns import generalized_advantages
from crashalgos.common.rollout_buffers import ColumnBuffer

#: The trajectory number of an env that collects no trajectory of the sample
NO_TRAJECTORY = -1

_FIRST_CAPACITY = 64
# While an array grows, both the old and the new one are in memory. So a factor of 1.5 needs less memory than one of 2
_GROWTH = 1.5


class TrajectoryBuffer(ColumnBuffer):
    """
    SB3's ``RolloutBuffer`` for a sample of N whole trajectories. It stores only the steps of the sample.

    During the rollout the rows are in the order of time. :meth:`finish` sorts them: one trajectory after the other, by number,
    each in the order of time. Then ``lengths``, shape (N,), has the trajectories' lengths, and ``observations``, ``actions``,
    ``rewards``, ``values``, ``log_probs``, ``advantages`` and ``returns`` have M = Σ lengths rows.

    :param buffer_size: not used: the buffer grows with the rollout
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device of the minibatches
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    """

    lengths: np.ndarray

    def reset(self) -> None:
        """Empties the buffer, and frees its memory."""
        super(RolloutBuffer, self).reset()
        self._prepare()
        self._capacity = _FIRST_CAPACITY
        self._n_rows = 0
        self._numbers = np.zeros(_FIRST_CAPACITY, dtype=np.int32)
        self._starts: dict[int, tuple[int, int]] = {}  # step and env in which each trajectory starts
        self._last_numbers = b""  # the bytes of the argument `numbers` of the last step
        self._collecting_envs: slice | np.ndarray = slice(None)
        self.observations = self._allocate_observations(_FIRST_CAPACITY)
        for name, column in self._step_columns().items():
            setattr(self, name, np.zeros((_FIRST_CAPACITY, *column.shape), dtype=column.dtype))
        self.advantages, self.returns = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.float32)
        self.lengths = np.zeros(0, dtype=np.int64)
        self._final_observations: dict[int, Any] = {}
        self.generator_ready = False

    def add(  # type: ignore[override]
        self,
        obs: Observations,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: th.Tensor | None,
        log_prob: th.Tensor,
        numbers: np.ndarray,
        **columns: Any,
    ) -> None:
        """
        Stores one step of the envs that collect a trajectory of the sample.

        :param obs: s_t of all envs, shape (n_envs, …), a dict of such for Dict spaces
        :param action: a_t, shape (n_envs, …)
        :param reward: r_t, shape (n_envs,)
        :param episode_start: not used: ``numbers`` shows where a trajectory starts
        :param value: V(s_t), n_envs values; ``None`` without a critic: ``values`` are zero then
        :param log_prob: ln π(a_t|s_t), shape (n_envs,)
        :param numbers: the number of the trajectory that each env collects, ``NO_TRAJECTORY`` for none, shape (n_envs,)
        :param columns: the step's rows of the added columns, shape (n_envs, …) each
        :raises ValueError: if an added column is missing, unknown, or has another shape
        """
        if (as_bytes := numbers.tobytes()) != self._last_numbers:  # rarely: when a trajectory starts or ends
            self._last_numbers = as_bytes
            self._update_collecting_envs(numbers)
        envs = self._collecting_envs
        rows = slice(self._n_rows, self._n_rows + self._n_collecting)
        self._grow(rows.stop)
        self._store_observations(obs, envs, rows)
        for name, rows_of_all_envs in self._step_rows(action, reward, value, log_prob, columns).items():
            getattr(self, name)[rows] = rows_of_all_envs[envs]
        self._numbers[rows] = numbers[envs]
        self._n_rows = rows.stop
        self.pos += 1

    def _update_collecting_envs(self, numbers: np.ndarray) -> None:
        envs = np.flatnonzero(numbers != NO_TRAJECTORY)
        self._n_collecting = len(envs)
        self._collecting_envs = slice(None) if len(envs) == self.n_envs else envs
        for env in envs:
            self._starts.setdefault(int(numbers[env]), (self.pos, int(env)))

    def end_trajectory(self, number: int, final_observation: Any | None) -> None:
        """
        Stores the final observation of a trajectory that was truncated.

        With a critic, the return of such a trajectory continues with γV(s_{T+1}).

        :param number: the trajectory's number
        :param final_observation: s_{T+1}; ``None`` if the trajectory terminated
        """
        if final_observation is not None:
            self._final_observations[number] = final_observation

    def finish(self) -> None:
        """Sorts the steps by trajectory, and frees the memory that is not used."""
        order = np.argsort(self._numbers[: self._n_rows], kind="stable")
        for name in self._step_columns():
            setattr(self, name, getattr(self, name)[order])
        self.observations = self._map_observations(self.observations, lambda array: array[order])
        self.lengths = np.bincount(self._numbers[: self._n_rows])
        self._numbers = self._numbers[:0]
        self.advantages, self.returns = np.zeros_like(self.rewards), np.zeros_like(self.rewards)
        self.full = self.generator_ready = True

    def size(self) -> int:
        """
        The number of steps stored.

        :return: M
        """
        return self._n_rows

    @property
    def n_trajectories(self) -> int:
        """N, the number of trajectories stored, after :meth:`finish`."""
        return len(self.lengths)

    @property
    def mask(self) -> np.ndarray:
        """Whether each step of each env belongs to the sample, shape (n_steps, n_envs), after :meth:`finish`."""
        mask = np.zeros((self.pos, self.n_envs), dtype=bool)
        for number, (step, env) in self._starts.items():
            mask[step : step + self.lengths[number], env] = True
        return mask

    @property
    def truncated(self) -> np.ndarray:
        """The numbers of the truncated trajectories, ascending."""
        return np.array(sorted(self._final_observations), dtype=np.int64)

    def final_observations(self) -> Observations:
        """
        The final observations of the truncated trajectories.

        :return: s_{T+1} in the order of ``truncated``, shape (len(truncated), …)
        """
        found = [self._final_observations[number] for number in self.truncated]
        if isinstance(self.observations, dict):
            return {key: np.stack([obs[key] for obs in found]) for key in self.observations}
        return np.stack(found)

    def compute_returns_and_advantage(self, last_values: th.Tensor | np.ndarray, dones: np.ndarray) -> None:
        """
        Computes GAE(λ) advantages and λ-returns from ``rewards`` and ``values``.

        :param last_values: V(s_{T+1}) of each trajectory, shape (N,)
        :param dones: whether the trajectory terminated: then V(s_{T+1}) is not used, shape (N,)
        """
        self.advantages = self.advantages_of(self.values, np.where(dones, 0.0, last_values))
        self.returns = self.advantages + self.values

    def advantages_of(self, values: np.ndarray, final_values: np.ndarray) -> np.ndarray:
        """
        The GAE(λ) advantages with given values, computed in float64.

        :param values: V(s_t), shape (M,)
        :param final_values: V(s_{T+1}), 0 if the trajectory terminated, shape (N,)
        :return: A_t, float32, shape (M,)
        """
        rewards, values, final_values = (np.asarray(x, dtype=np.float64) for x in (self.rewards, values, final_values))
        advantages = generalized_advantages(rewards, values, final_values, self.lengths, self.gamma, self.gae_lambda)
        return advantages.astype(np.float32)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Yields all steps in random order, in ⌈M/batch_size⌉ minibatches whose sizes differ by at most one.

        :param batch_size: largest size of a minibatch; ``None``: one minibatch of all steps
        :return: SB3's samples
        """
        yield from self._minibatches(np.random.permutation(self.size()), batch_size)

    def micro_batches(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Yields all steps in the order in which they are stored. It draws no random numbers.

        :param batch_size: largest size of a micro-batch; ``None``: one micro-batch of all steps
        :return: SB3's samples, as many as :meth:`get` yields
        """
        yield from self._minibatches(np.arange(self.size()), batch_size)

    def _minibatches(self, indices: np.ndarray, batch_size: int | None) -> Generator[Any, None, None]:
        assert self.full, "The rollout is not finished"
        n_parts = 1 if batch_size is None else -(-len(indices) // batch_size)  # rounded up
        for part in np.array_split(indices, n_parts):
            yield self._get_samples(part)

    def _grow(self, n_rows: int) -> None:
        if n_rows > self._capacity:
            self._capacity = max(n_rows, int(_GROWTH * self._capacity))
            for name in (*self._step_columns(), "_numbers"):
                setattr(self, name, _extended(getattr(self, name), self._capacity))
            self.observations = self._map_observations(self.observations, lambda array: _extended(array, self._capacity))

    def _allocate_observations(self, capacity: int) -> Any:
        return np.zeros((capacity, *self.obs_shape), dtype=self.observation_space.dtype)

    def _store_observations(self, obs: Any, envs: slice | np.ndarray, rows: slice) -> None:
        self.observations[rows] = obs.reshape(self.n_envs, *self.obs_shape)[envs]

    @staticmethod
    def _map_observations(observations: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        return function(observations)


class DictTrajectoryBuffer(TrajectoryBuffer, DictRolloutBuffer):  # type: ignore[misc]
    """
    SB3's ``DictRolloutBuffer`` for a sample of N whole trajectories: see :class:`TrajectoryBuffer`.

    :param buffer_size: not used: the buffer grows with the rollout
    :param observation_space: Observation space, a ``Dict``
    :param action_space: Action space
    :param device: PyTorch device of the minibatches
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    """

    def _allocate_observations(self, capacity: int) -> Any:
        return {
            key: np.zeros((capacity, *shape), dtype=self.observation_space[key].dtype) for key, shape in self.obs_shape.items()
        }

    def _store_observations(self, obs: Any, envs: slice | np.ndarray, rows: slice) -> None:
        for key, stored in self.observations.items():
            stored[rows] = obs[key].reshape(self.n_envs, *self.obs_shape[key])[envs]

    @staticmethod
    def _map_observations(observations: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        return {key: function(array) for key, array in observations.items()}


def _extended(array: np.ndarray, n_rows: int) -> np.ndarray:
    extended = np.zeros((n_rows, *array.shape[1:]), dtype=array.dtype)
    extended[: len(array)] = array
    return extended
