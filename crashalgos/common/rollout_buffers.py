"""
SB3's rollout buffers with fewer copies, and with columns that can be added.

What a step holds is declared in one place, :meth:`ColumnBuffer.step_columns`. The trajectory buffers read the same
declaration.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

# A part of a tensor that starts at a multiple of 64 rows starts at one of 64 bytes, as every new tensor does: the last bit of
# a product can depend on it
_ALIGNED_ROWS = 64
#: As much is copied at a time, so that the copies need no memory to speak of
_BLOCK_BYTES = 4 * 2**20
#: The columns of a minibatch, after the observations and in the order of SB3's samples. Added columns follow
_SAMPLE_COLUMNS = ("actions", "values", "log_probs", "advantages", "returns")


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
    SB3's ``RolloutBuffer`` with declared columns. Minibatches are gathered on the device.

    On a CPU the tensors from which minibatches are gathered share their memory with the arrays.

    :param args: arguments of SB3's buffer
    :param columns: columns to add to SB3's: by name, what :class:`Column` says of them. Minibatches have them under the same
        names
    :param kwargs: arguments of SB3's buffer
    :raises ValueError: if a column's name is taken or is no identifier
    """

    def __init__(self, *args: Any, columns: Mapping[str, Column] | None = None, **kwargs: Any) -> None:
        self.columns: dict[str, Column] = {}
        super().__init__(*args, **kwargs)
        if columns:
            for name in columns:
                if not name.isidentifier() or name.startswith("_") or hasattr(self, name) or name in _SB3_FIELDS:
                    raise ValueError(
                        f"column {name!r} must have a name that the buffer does not use, and that is an identifier"
                    )
            self.columns = dict(columns)
            self.reset()

    def step_columns(self) -> dict[str, Column]:
        """
        Declares what a step holds beside its observation.

        :return: SB3's columns and the added ones, by name
        """
        return {
            "actions": Column((self.action_dim,), self.action_space.dtype),
            "rewards": Column(),
            "values": Column(),
            "log_probs": Column(),
            **self.columns,
        }

    def reset(self) -> None:
        """Forgets everything, the memory too."""
        super().reset()
        self._prepare()

    def check_added(self, rows: Mapping[str, Any]) -> None:
        """
        Checks one step's rows of the added columns.

        :param rows: by column, shape (n_envs, …) each
        :raises ValueError: if a column is missing, unknown, or has another shape than declared
        """
        if rows.keys() != self.columns.keys():
            raise ValueError(f"a step must have the columns {list(self.columns)} besides SB3's, got {list(rows)}")
        for name, values in rows.items():
            if np.shape(values) != self._row_shapes[name]:
                raise ValueError(
                    f"column {name!r} must have shape {self._row_shapes[name]} (n_envs, …) in a step, got {np.shape(values)}"
                )

    def _prepare(self) -> None:
        self._arrays: tuple[np.ndarray, ...] = ()
        self._tensors: tuple[th.Tensor, ...] = ()
        self._row_shapes = {name: (self.n_envs, *column.shape) for name, column in self.step_columns().items()}

    def _step_rows(
        self, action: np.ndarray, reward: np.ndarray, value: th.Tensor | None, log_prob: th.Tensor, added: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """One step's rows of all envs, by column."""
        if added or self.columns:
            self.check_added(added)
        given = {"actions": action, "rewards": reward, "log_probs": log_prob, **added}
        if value is not None:
            given["values"] = value
        return {name: _as_array(rows).reshape(self._row_shapes[name]) for name, rows in given.items()}

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """
        Minibatches as SB3's, with the same random draw. Several of them are gathered at a time.

        :param batch_size: size of a minibatch; ``None``: all steps at once
        :return: SB3's samples, with the added columns behind SB3's
        """
        if batch_size is None or batch_size % _ALIGNED_ROWS > 0:
            yield from super().get(batch_size)
            return
        n_rows = self.buffer_size * self.n_envs
        n_bytes = sum(array.nbytes for array in self._sample_arrays())
        n_minibatches = max(1, _BLOCK_BYTES * n_rows // (n_bytes * batch_size))
        for block in super().get(n_minibatches * batch_size):
            yield from _split(block, batch_size)

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
        """Allocates the arrays anew."""
        super().reset()
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
        Minibatches as SB3's, with the same random draw.

        :param batch_size: size of a minibatch; ``None``: all steps at once
        :return: SB3's samples, with the added columns behind SB3's
        """
        if self.full and not self.generator_ready:
            for name in self.columns:
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
        yield from super().get(batch_size)


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


_SB3_FIELDS = frozenset(RolloutBufferSamples._fields)


@cache
def _samples_class(is_dict: bool, added: tuple[str, ...]) -> Any:
    """SB3's class of minibatches, or one that has the added columns behind SB3's fields."""
    sb3s: Any = DictRolloutBufferSamples if is_dict else RolloutBufferSamples
    if not added:
        return sb3s
    return NamedTuple("Samples", [(name, Any) for name in (*sb3s._fields, *added)])


def _as_array(values: Any) -> np.ndarray:
    if isinstance(values, th.Tensor):
        return (values.detach() if values.requires_grad else values).cpu().numpy()
    return np.asarray(values)


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
