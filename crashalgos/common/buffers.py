"""
Rollout buffers: SB3's with fewer copies, and one for N whole trajectories.

SB3's buffers are grids of (n_steps, n_envs). Whole trajectories end at different times, so a grid would also hold the steps
of envs that idle. The trajectory buffers apply the mask at the door: they store the sample's steps alone and grow as it does;
``mask``, shape (n_steps, n_envs), says which cells of the grid they are.
"""

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

from crashalgos.common.baselines import Observations
from crashalgos.common.returns import generalized_advantages

#: The number of an env that collects no trajectory of the sample
NO_TRAJECTORY = -1

_FIRST_CAPACITY = 64
# While an array grows, the old and the new one live together: 1 + 1.5 times the steps stored, where doubling would be 1 + 2
_GROWTH = 1.5
# A part of a tensor that starts at a multiple of 64 rows starts at one of 64 bytes, as every new tensor does: the last bit of
# a product can depend on it
_ALIGNED_ROWS = 64
#: As much is copied at a time, so that the copies need no memory to speak of
_BLOCK_BYTES = 4 * 2**20
_STEP_FIELDS = ("actions", "rewards", "values", "log_probs")


class TensorSamples(RolloutBuffer):
    """Takes minibatches from tensors on the device, which on a CPU share their memory with the arrays."""

    def reset(self) -> None:
        """Forget everything, the memory too."""
        super().reset()
        self._forget_tensors()

    def _forget_tensors(self) -> None:
        self._arrays: tuple[np.ndarray, ...] = ()
        self._tensors: tuple[th.Tensor, ...] = ()

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        As SB3's, with the same random draw; several minibatches are gathered at a time.

        :param batch_size: size of a minibatch; ``None``: all steps at once
        :return: SB3's samples
        """
        if batch_size is None or batch_size % _ALIGNED_ROWS > 0:
            yield from super().get(batch_size)
            return
        n_rows = self.buffer_size * self.n_envs
        n_bytes = sum(array.nbytes for array in self._fields())
        n_minibatches = max(1, _BLOCK_BYTES * n_rows // (n_bytes * batch_size))
        for block in super().get(n_minibatches * batch_size):
            yield from _split(block, batch_size)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        indices = th.as_tensor(batch_inds, device=self.device)
        samples = [tensor.index_select(0, indices) for tensor in self._rows()]
        if isinstance(self.observations, dict):
            observations = dict(zip(self.observations, samples, strict=False))
            return DictRolloutBufferSamples(observations, *samples[len(observations) :])
        return RolloutBufferSamples(*samples)

    def _fields(self) -> tuple[np.ndarray, ...]:
        observations = tuple(self.observations.values()) if isinstance(self.observations, dict) else (self.observations,)
        return (*observations, self.actions, self.values, self.log_probs, self.advantages, self.returns)

    def _rows(self) -> tuple[th.Tensor, ...]:
        """The observations, one tensor a key, actions, values, log-probabilities, advantages and returns, M rows of each."""
        arrays = self._fields()
        if len(arrays) != len(self._arrays) or any(a is not b for a, b in zip(arrays, self._arrays, strict=True)):
            *kept, actions, values, log_probs, advantages, returns = arrays
            # Actions are float32, as in SB3
            flat = (actions.astype(np.float32, copy=False), *(x.reshape(-1) for x in (values, log_probs, advantages, returns)))
            self._tensors = tuple(th.as_tensor(array, device=self.device) for array in (*kept, *flat))
            self._arrays = arrays
        return self._tensors


class FastRolloutBuffer(TensorSamples):
    """
    SB3's ``RolloutBuffer``, to the last bit, without the copies.

    :param buffer_size: Max number of element in the buffer
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    """

    def add(
        self,
        obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: th.Tensor,
        log_prob: th.Tensor,
    ) -> None:
        """
        :param obs: s_t of all envs, shape (n_envs, …), a dict of such for Dict spaces
        :param action: a_t, shape (n_envs, …)
        :param reward: r_t, shape (n_envs,)
        :param episode_start: whether s_t is the first of an episode, shape (n_envs,)
        :param value: V(s_t), n_envs values
        :param log_prob: ln π(a_t|s_t), shape (n_envs,)
        """
        self._store_observations(obs)
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.cpu().numpy().reshape(self.n_envs)
        self.log_probs[self.pos] = log_prob.cpu().numpy().reshape(self.n_envs)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _store_observations(self, obs: Any) -> None:
        self.observations[self.pos] = obs.reshape(self.n_envs, *self.obs_shape)

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        """
        GAE(λ) advantages A_t and λ-returns A_t + V(s_t) (https://arxiv.org/abs/1506.02438). All but the recursion
        A_t = δ_t + γλ A_{t+1} is done for all steps at once, in SB3's order of operations.

        :param last_values: V(s_{T+1}), n_envs values
        :param dones: whether the last step ended an episode, shape (n_envs,)
        """
        next_values = np.concatenate([self.values[1:], last_values.cpu().numpy().reshape(1, self.n_envs)])
        next_non_terminal = 1.0 - np.concatenate([self.episode_starts[1:], dones.astype(np.float32)[None]])
        deltas = self.rewards + self.gamma * next_values * next_non_terminal - self.values
        discounts = self.gamma * self.gae_lambda * next_non_terminal
        advantage: Any = 0
        for step in reversed(range(self.buffer_size)):
            advantage = deltas[step] + discounts[step] * advantage
            self.advantages[step] = advantage
        self.returns = self.advantages + self.values


class FastDictRolloutBuffer(FastRolloutBuffer, DictRolloutBuffer):
    """
    SB3's ``DictRolloutBuffer``, to the last bit, without the copies.

    :param buffer_size: Max number of element in the buffer
    :param observation_space: Observation space, a ``Dict``
    :param action_space: Action space
    :param device: PyTorch device
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    """

    def _store_observations(self, obs: Any) -> None:
        for key, stored in self.observations.items():
            stored[self.pos] = obs[key].reshape(self.n_envs, *self.obs_shape[key])


class TrajectoryBuffer(TensorSamples):
    """
    SB3's ``RolloutBuffer`` for N whole trajectories: it grows, and stores only the steps that belong to the sample.

    While a rollout runs, rows are in the order of time. :meth:`finish` sorts them: trajectory after trajectory in the order
    of their numbers, each forward in time. From then on ``lengths``, shape (N,), says where each ends, and ``observations``,
    ``actions``, ``rewards``, ``values``, ``log_probs``, ``advantages`` and ``returns`` have M = Σ lengths rows.

    :param buffer_size: ignored: the buffer grows with the rollout
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device of the minibatches
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    """

    lengths: np.ndarray

    def reset(self) -> None:
        """Forget everything, the memory too."""
        super(RolloutBuffer, self).reset()
        self._forget_tensors()
        self._capacity = _FIRST_CAPACITY
        self._n_rows = 0
        self._numbers = np.zeros(_FIRST_CAPACITY, dtype=np.int32)
        self._first_cells: dict[int, tuple[int, int]] = {}  # step and env in which each trajectory starts
        self._stamp = b""
        self._collecting: slice | np.ndarray = slice(None)
        self.observations = self._allocate_observations(_FIRST_CAPACITY)
        self.actions = np.zeros((_FIRST_CAPACITY, self.action_dim), dtype=self.action_space.dtype)
        self.rewards, self.values, self.log_probs = (np.zeros(_FIRST_CAPACITY, dtype=np.float32) for _ in range(3))
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
    ) -> None:
        """
        Store one step of the envs that collect a trajectory of the sample.

        :param obs: s_t of all envs, shape (n_envs, …), a dict of such for Dict spaces
        :param action: a_t, shape (n_envs, …)
        :param reward: r_t, shape (n_envs,)
        :param episode_start: not needed: the numbers tell where a trajectory starts
        :param value: V(s_t), n_envs values; ``None`` without a critic, which leaves ``values`` zero
        :param log_prob: ln π(a_t|s_t), shape (n_envs,)
        :param numbers: the number of the trajectory that each env collects, ``NO_TRAJECTORY`` for none, shape (n_envs,)
        """
        if (stamp := numbers.tobytes()) != self._stamp:
            self._stamp = stamp
            self._collect(numbers)
        kept = self._collecting
        rows = slice(self._n_rows, self._n_rows + self._n_collecting)
        self._grow(rows.stop)
        self._store_observations(obs, kept, rows)
        self.actions[rows] = action.reshape(self.n_envs, self.action_dim)[kept]
        self.rewards[rows] = reward[kept]
        if value is not None:
            self.values[rows] = value.detach().cpu().numpy().reshape(self.n_envs)[kept]
        self.log_probs[rows] = log_prob.detach().cpu().numpy().reshape(self.n_envs)[kept]
        self._numbers[rows] = numbers[kept]
        self._n_rows = rows.stop
        self.pos += 1

    def _collect(self, numbers: np.ndarray) -> None:
        """
        Take note of who collects; that changes seldom.

        :param numbers: as in :meth:`add`
        """
        envs = np.flatnonzero(numbers != NO_TRAJECTORY)
        self._n_collecting = len(envs)
        self._collecting = slice(None) if len(envs) == self.n_envs else envs
        for env in envs:
            self._first_cells.setdefault(int(numbers[env]), (self.pos, int(env)))

    def end_trajectory(self, number: int, final_observation: Any | None) -> None:
        """
        :param number: which trajectory ended
        :param final_observation: s_{T+1} of a truncated trajectory, whose return goes on with γV(s_{T+1}) where there is a
            critic; ``None`` for a terminated one, whose return ends
        """
        if final_observation is not None:
            self._final_observations[number] = final_observation

    def finish(self) -> None:
        """Sort the steps by trajectory and give back the memory that is not used."""
        order = np.argsort(self._numbers[: self._n_rows], kind="stable")
        for name in _STEP_FIELDS:
            setattr(self, name, getattr(self, name)[order])
        self.observations = self._map_observations(self.observations, lambda array: array[order])
        self.lengths = np.bincount(self._numbers[: self._n_rows])
        self._numbers = self._numbers[:0]
        self.advantages, self.returns = np.zeros_like(self.rewards), np.zeros_like(self.rewards)
        self.full = self.generator_ready = True

    def size(self) -> int:
        """
        :return: M, the number of steps stored
        """
        return self._n_rows

    @property
    def n_trajectories(self) -> int:
        """N, the number of trajectories stored, after :meth:`finish`."""
        return len(self.lengths)

    @property
    def mask(self) -> np.ndarray:
        """Which cells of the grid (n_steps, n_envs) belong to the sample, after :meth:`finish`."""
        mask = np.zeros((self.pos, self.n_envs), dtype=bool)
        for number, (step, env) in self._first_cells.items():
            mask[step : step + self.lengths[number], env] = True
        return mask

    @property
    def truncated(self) -> np.ndarray:
        """The numbers of the trajectories that were cut off rather than terminated, ascending."""
        return np.array(sorted(self._final_observations), dtype=np.int64)

    def final_observations(self) -> Observations:
        """
        :return: s_{T+1} of the trajectories in ``truncated``, in that order, shape (len(truncated), …)
        """
        found = [self._final_observations[number] for number in self.truncated]
        if isinstance(self.observations, dict):
            return {key: np.stack([obs[key] for obs in found]) for key in self.observations}
        return np.stack(found)

    def compute_returns_and_advantage(self, last_values: th.Tensor | np.ndarray, dones: np.ndarray) -> None:
        """
        GAE(λ) advantages and λ-returns from ``rewards`` and ``values``, as SB3's, over trajectories instead of envs.

        :param last_values: V(s_{T+1}) of each trajectory, shape (N,)
        :param dones: whether the trajectory terminated, so that nothing follows it, shape (N,)
        """
        self.advantages = self.advantages_of(self.values, np.where(dones, 0.0, last_values))
        self.returns = self.advantages + self.values

    def advantages_of(self, values: np.ndarray, final_values: np.ndarray) -> np.ndarray:
        """
        :param values: V(s_t), shape (M,)
        :param final_values: V(s_{T+1}), shape (N,), 0 where nothing follows
        :return: GAE(λ) with these values, float32, computed in float64, shape (M,)
        """
        rewards, values, final_values = (np.asarray(x, dtype=np.float64) for x in (self.rewards, values, final_values))
        advantages = generalized_advantages(rewards, values, final_values, self.lengths, self.gamma, self.gae_lambda)
        return advantages.astype(np.float32)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Every step once in random order, in ⌈M/batch_size⌉ minibatches whose sizes differ by at most one.

        :param batch_size: upper bound of a minibatch; ``None``: all steps at once
        :return: SB3's samples
        """
        yield from self._minibatches(np.random.permutation(self.size()), batch_size)

    def chunks(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Every step once in the order stored, in chunks as :meth:`get`'s; draws no random number.

        :param batch_size: upper bound of a chunk; ``None``: all steps at once
        :return: SB3's samples
        """
        yield from self._minibatches(np.arange(self.size()), batch_size)

    def _minibatches(
        self, indices: np.ndarray, batch_size: int | None
    ) -> Generator[RolloutBufferSamples | DictRolloutBufferSamples, None, None]:
        assert self.full, "The rollout is not finished"
        n_parts = 1 if batch_size is None else -(-len(indices) // batch_size)
        for part in np.array_split(indices, n_parts):
            yield self._get_samples(part)

    def _grow(self, n_rows: int) -> None:
        if n_rows > self._capacity:
            self._capacity = max(n_rows, int(_GROWTH * self._capacity))
            for name in (*_STEP_FIELDS, "_numbers"):
                setattr(self, name, _extended(getattr(self, name), self._capacity))
            self.observations = self._map_observations(self.observations, lambda array: _extended(array, self._capacity))

    def _allocate_observations(self, capacity: int) -> Any:
        return np.zeros((capacity, *self.obs_shape), dtype=self.observation_space.dtype)

    def _store_observations(self, obs: Any, envs: slice | np.ndarray, rows: slice) -> None:
        self.observations[rows] = obs.reshape(self.n_envs, *self.obs_shape)[envs]

    @staticmethod
    def _map_observations(observations: Any, function: Any) -> Any:
        return function(observations)


class DictTrajectoryBuffer(TrajectoryBuffer, DictRolloutBuffer):  # type: ignore[misc]
    """
    :class:`TrajectoryBuffer` for Dict observations, as SB3's ``DictRolloutBuffer``.

    :param buffer_size: ignored: the buffer grows with the rollout
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
    def _map_observations(observations: Any, function: Any) -> Any:
        return {key: function(array) for key, array in observations.items()}


def _split(samples: Any, batch_size: int) -> Iterator[Any]:
    """
    :param samples: SB3's samples
    :param batch_size: how many rows each part has, but for the last one
    :return: the parts, which share its memory
    """
    observations, *rest = samples
    if isinstance(observations, dict):
        split = [tensor.split(batch_size) for tensor in observations.values()]
        parts: Iterable[Any] = (dict(zip(observations, part, strict=True)) for part in zip(*split, strict=True))
    else:
        parts = observations.split(batch_size)
    for part in zip(parts, *(tensor.split(batch_size) for tensor in rest), strict=True):
        yield type(samples)(*part)


def _extended(array: np.ndarray, n_rows: int) -> np.ndarray:
    extended = np.zeros((n_rows, *array.shape[1:]), dtype=array.dtype)
    extended[: len(array)] = array
    return extended
