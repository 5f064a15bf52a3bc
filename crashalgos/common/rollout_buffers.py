"""
SB3's rollout buffers with fewer copies, and with columns that can be added.

A column is added by one entry of ``columns``. Both kinds of buffers then store it. Minibatches and compiled graphs have it.
"""

import keyword
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

# A part of a tensor that starts at a multiple of 64 rows is aligned to 64 bytes, as every new tensor is. The last bit of a
# matrix product can depend on that
_ALIGNED_ROWS = 64
#: Minibatches of this many bytes together are gathered at a time, so that the copies need little memory
_BLOCK_BYTES = 4 * 2**20
#: The columns of a minibatch, after the observations and in the order of SB3's samples. Added columns follow
_SAMPLE_COLUMNS = ("actions", "values", "log_probs", "advantages", "returns")
#: Names that no added column may have: arguments of ``add`` and of a policy's ``forward``, fields of SB3's minibatches, and
#: attributes of the trajectory buffers
_RESERVED = frozenset(
    {"obs", "action", "reward", "episode_start", "value", "log_prob", "numbers", "deterministic"}
    | {*RolloutBufferSamples._fields, "lengths", "mask", "truncated", "n_trajectories"}
)


class Column(NamedTuple):
    """
    A column of a rollout buffer: it has one row for each step of each env.

    :param shape: shape of a row; ``()`` for a number
    :param dtype: dtype of the column
    """

    shape: tuple[int, ...] = ()
    dtype: Any = np.float32


class ColumnBuffer(RolloutBuffer):
    """
    SB3's ``RolloutBuffer`` to which columns can be added. Minibatches are gathered on the device.

    On a CPU the tensors from which minibatches are gathered share their memory with the arrays.

    :param args: arguments of SB3's buffer
    :param columns: the columns to add, a :class:`Column` for each name. Minibatches have them under the same names
    :param kwargs: arguments of SB3's buffer
    :raises ValueError: if a column's name is reserved or is no identifier
    """

    def __init__(self, *args: Any, columns: Mapping[str, Column] | None = None, **kwargs: Any) -> None:
        self.columns: dict[str, Column] = {}
        super().__init__(*args, **kwargs)
        if columns:
            for name in columns:
                if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
                    raise ValueError(f"the name of a column must be a public identifier, got {name!r}")
                if name in _RESERVED or hasattr(self, name):
                    raise ValueError(f"the name of a column must not be one that the buffers use, got {name!r}")
            self.columns = dict(columns)
            self.reset()

    def added_rows(self, rows: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """
        Copies one step's rows of added columns, in the dtypes of the columns.

        :param rows: arrays or tensors of shape (n_envs, …), by column
        :return: arrays that the caller owns
        :raises ValueError: if a column is unknown, or its rows have another shape or kind of dtype than it declares
        """
        return {name: self._added_row(name, values) for name, values in rows.items()}

    def _added_row(self, name: str, values: Any) -> np.ndarray:
        if name not in self.columns:
            raise ValueError(f"column {name!r} must be one that is declared, {list(self.columns)}")
        array, shape, dtype = _as_array(values), self._row_shapes[name], np.dtype(self.columns[name].dtype)
        if array.shape != shape:
            raise ValueError(f"column {name!r} must have shape {shape} (n_envs, …) in a step, got {array.shape}")
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"column {name!r} must have dtype {dtype} or one that it can hold, got {array.dtype}")
        return array.astype(dtype)

    def _prepare(self) -> None:
        self._arrays: tuple[np.ndarray, ...] = ()
        self._tensors: tuple[th.Tensor, ...] = ()
        self._row_shapes = {name: (self.n_envs, *column.shape) for name, column in self._step_columns().items()}

    def _step_columns(self) -> dict[str, Column]:
        """What a step holds beside its observation: SB3's columns and the added ones."""
        return {
            "actions": Column((self.action_dim,), self.action_space.dtype),
            "rewards": Column(),
            "values": Column(),
            "log_probs": Column(),
            **self.columns,
        }

    def _step_rows(
        self, action: np.ndarray, reward: np.ndarray, value: th.Tensor | None, log_prob: th.Tensor, added: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """One step's rows of all envs, by column."""
        if added.keys() != self.columns.keys():
            raise ValueError(f"a step must have the columns {list(self.columns)} besides SB3's, got {list(added)}")
        rows = {
            "actions": action.reshape(self._row_shapes["actions"]),
            "rewards": reward,
            "log_probs": log_prob.cpu().numpy().reshape(self.n_envs),
        }
        if value is not None:
            rows["values"] = value.cpu().numpy().reshape(self.n_envs)
        return rows | self.added_rows(added) if added else rows

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        indices = th.as_tensor(batch_inds, device=self.device)
        samples = [tensor.index_select(0, indices) for tensor in self._sample_tensors()]
        samples_class = _samples_class(isinstance(self.observations, dict), tuple(self.columns))
        if isinstance(self.observations, dict):
            observations = dict(zip(self.observations, samples, strict=False))
            return samples_class(observations, *samples[len(observations) :])
        return samples_class(*samples)

    def _sample_arrays(self) -> tuple[np.ndarray, ...]:
        observations = self.observations.values() if isinstance(self.observations, dict) else (self.observations,)
        return (*observations, *(getattr(self, name) for name in (*_SAMPLE_COLUMNS, *self.columns)))

    def _sample_tensors(self) -> tuple[th.Tensor, ...]:
        """The observations, one tensor a key, and the columns of a minibatch, M rows of each."""
        arrays = self._sample_arrays()
        if len(arrays) != len(self._arrays) or any(a is not b for a, b in zip(arrays, self._arrays, strict=True)):
            names = (*_SAMPLE_COLUMNS, *self.columns)
            observations, columns = arrays[: -len(names)], arrays[-len(names) :]
            rows = [self._flat(name, column) for name, column in zip(names, columns, strict=True)]
            self._tensors = tuple(th.as_tensor(array, device=self.device) for array in (*observations, *rows))
            self._arrays = arrays
        return self._tensors

    def _flat(self, name: str, column: np.ndarray) -> np.ndarray:
        if name == "actions":
            return column.astype(np.float32, copy=False)  # as in SB3
        # SB3's arrays of numbers have shape (M, 1)
        return column.reshape(len(column), *self.columns[name].shape) if name in self.columns else column.reshape(-1)


class FastRolloutBuffer(ColumnBuffer):
    """
    SB3's ``RolloutBuffer``, to the last bit, without the copies.

    :param buffer_size: Max number of element in the buffer
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device
    :param gae_lambda: λ of GAE
    :param gamma: Discount factor
    :param n_envs: Number of parallel environments
    :param columns: columns to add to SB3's
    """

    def reset(self) -> None:
        """Forgets everything, and allocates the arrays again."""
        super().reset()
        self._prepare()
        for name, column in self.columns.items():
            setattr(self, name, np.zeros((self.buffer_size, self.n_envs, *column.shape), dtype=column.dtype))

    def add(
        self,
        obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: th.Tensor,
        log_prob: th.Tensor,
        **columns: Any,
    ) -> None:
        """
        Stores one step of all envs.

        :param obs: s_t of all envs, shape (n_envs, …), a dict of such for Dict spaces
        :param action: a_t, shape (n_envs, …)
        :param reward: r_t, shape (n_envs,)
        :param episode_start: whether s_t is the first of an episode, shape (n_envs,)
        :param value: V(s_t), n_envs values
        :param log_prob: ln π(a_t|s_t), shape (n_envs,)
        :param columns: the step's rows of the added columns, shape (n_envs, …) each
        :raises ValueError: if an added column is missing, unknown, or has another shape
        """
        self._store_observations(obs)
        self.episode_starts[self.pos] = episode_start
        for name, rows in self._step_rows(action, reward, value, log_prob, columns).items():
            getattr(self, name)[self.pos] = rows
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _store_observations(self, obs: Any) -> None:
        self.observations[self.pos] = obs.reshape(self.n_envs, *self.obs_shape)

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        """
        GAE(λ) advantages A_t and λ-returns A_t + V(s_t) (https://arxiv.org/abs/1506.02438).

        All but the recursion A_t = δ_t + γλ A_{t+1} is done for all steps at once, in SB3's order of operations.

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

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Minibatches as SB3's, with the same random draw. Several of them are gathered at a time.

        :param batch_size: size of a minibatch; ``None``: all steps at once
        :return: SB3's samples, with the added columns behind SB3's
        """
        if self.full and not self.generator_ready:
            for name in self.columns:
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
        if batch_size is None or batch_size % _ALIGNED_ROWS > 0:
            yield from super().get(batch_size)
            return
        n_rows = self.buffer_size * self.n_envs
        n_bytes = sum(array.nbytes for array in self._sample_arrays())
        n_minibatches = max(1, _BLOCK_BYTES * n_rows // (n_bytes * batch_size))
        for block in super().get(n_minibatches * batch_size):
            yield from _split(block, batch_size)


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
    :param columns: columns to add to SB3's
    """

    def _store_observations(self, obs: Any) -> None:
        for key, stored in self.observations.items():
            stored[self.pos] = obs[key].reshape(self.n_envs, *self.obs_shape[key])


@cache
def _samples_class(is_dict: bool, added: tuple[str, ...]) -> Any:
    """SB3's class of minibatches, or one that has the added columns behind SB3's fields."""
    sb3s: Any = DictRolloutBufferSamples if is_dict else RolloutBufferSamples
    if not added:
        return sb3s
    return NamedTuple("Samples", [(name, Any) for name in (*sb3s._fields, *added)])


def _as_array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, th.Tensor) else np.asarray(values)


def _split(samples: Any, batch_size: int) -> Iterator[Any]:
    """The samples in parts of ``batch_size`` rows, which share their memory; the last part may have fewer."""
    observations, *rest = samples
    if isinstance(observations, dict):
        split = [tensor.split(batch_size) for tensor in observations.values()]
        parts: Iterable[Any] = (dict(zip(observations, part, strict=True)) for part in zip(*split, strict=True))
    else:
        parts = observations.split(batch_size)
    for part in zip(parts, *(tensor.split(batch_size) for tensor in rest), strict=True):
        yield type(samples)(*part)
