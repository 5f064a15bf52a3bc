"""The rollout buffers of fixed steps are SB3's to the last bit, and need little memory for minibatches."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from crashalgos.common import rollout_buffers as buffers
from crashalgos.common.rollout_buffers import Column, FastDictRolloutBuffer, FastRolloutBuffer
from crashalgos.common.trajectory_buffers import DictTrajectoryBuffer, TrajectoryBuffer
from tests.helpers.envs import ACTION_SPACES, OBSERVATION_SPACES

ARRAYS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    assert first.dtype == second.dtype
    return bool((first == second).all()) and first.shape == second.shape


def pair(observation: spaces.Space, action: spaces.Space, n_steps: int, n_envs: int, **arguments: Any):
    """Gives SB3's buffer and ours after the same rollout of random numbers."""
    is_dict = isinstance(observation, spaces.Dict)
    kinds = (DictRolloutBuffer, FastDictRolloutBuffer) if is_dict else (RolloutBuffer, FastRolloutBuffer)
    found = [kind(n_steps, observation, action, device="cpu", n_envs=n_envs, **arguments) for kind in kinds]
    rng = np.random.default_rng(n_steps)
    observation.seed(0)
    action.seed(0)
    for _ in range(n_steps):
        sampled = [observation.sample() for _ in range(n_envs)]
        obs = {key: np.stack([one[key] for one in sampled]) for key in sampled[0]} if is_dict else np.stack(sampled)
        actions = np.stack([action.sample() for _ in range(n_envs)])
        rewards, starts = rng.normal(size=n_envs), rng.random(n_envs) < 0.3
        values = th.as_tensor(rng.normal(size=(n_envs, 1)), dtype=th.float32)
        log_probs = th.as_tensor(rng.normal(size=n_envs), dtype=th.float32)
        for buffer in found:
            buffer.add(obs, actions, rewards, starts, values, log_probs)
    last_values, dones = th.as_tensor(rng.normal(size=(n_envs, 1)), dtype=th.float32), rng.random(n_envs) < 0.5
    for buffer in found:
        buffer.compute_returns_and_advantage(last_values, dones)
    return found


@given(
    observation=st.sampled_from(sorted(OBSERVATION_SPACES)),
    action=st.sampled_from(sorted(ACTION_SPACES)),
    n_steps=st.integers(1, 12),
    n_envs=st.integers(1, 4),
    gamma=st.floats(0, 1),
    gae_lambda=st.one_of(st.floats(0, 1), st.builds(np.float64, st.floats(0, 1))),
    batch_size=st.one_of(st.none(), st.integers(1, 50)),
)
@settings(max_examples=60, deadline=None)
def test_they_are_sb3s(observation, action, n_steps, n_envs, gamma, gae_lambda, batch_size):
    arguments = dict(gamma=gamma, gae_lambda=gae_lambda)
    theirs, ours = pair(OBSERVATION_SPACES[observation][1], ACTION_SPACES[action], n_steps, n_envs, **arguments)
    assert ours.full and ours.size() == theirs.size()
    for _ in range(2):
        for name in ARRAYS:
            assert equal(getattr(theirs, name), getattr(ours, name)), name
        samples = []
        for buffer in (theirs, ours):
            np.random.seed(1)
            samples.append(list(buffer.get(batch_size)))
            samples[-1].append(np.random.random())
        assert len(samples[0]) == len(samples[1]) and samples[0].pop() == samples[1].pop()
        for expected, found in zip(*samples, strict=True):
            assert type(expected) is type(found)
            assert all(equal(*each) for each in zip(expected, found, strict=True))


@pytest.mark.parametrize("observation", ["box", "dict"])
@pytest.mark.parametrize("block_bytes", [1, 40_000, 10**9], ids=["one at a time", "a few", "all"])
def test_blocks_of_minibatches_are_the_same_minibatches(observation, block_bytes, monkeypatch):
    """Splits 320 samples into two minibatches of 128 and one of 64."""
    monkeypatch.setattr(buffers, "_BLOCK_BYTES", block_bytes)
    theirs, ours = pair(OBSERVATION_SPACES[observation][1], ACTION_SPACES["box"], 80, 4)
    samples = []
    for buffer in (theirs, ours):
        np.random.seed(1)
        samples.append(list(buffer.get(128)))
    assert [len(part.actions) for part in samples[1]] == [128, 128, 64]
    for expected, found in zip(*samples, strict=True):
        assert all(equal(*each) for each in zip(expected, found, strict=True))
        assert all(tensor.data_ptr() % 64 == 0 for tensor in found[1:])


def test_a_block_needs_little_memory():
    """16 MB of observations are gathered 4 MiB at a time."""
    ours = FastRolloutBuffer(4096, spaces.Box(-1, 1, (1000,)), spaces.Discrete(2), device="cpu")
    ours.pos, ours.full = 4096, True
    next(ours.get(64))
    sizes = [part.observations.untyped_storage().nbytes() for part in ours.get(64)]
    assert len(sizes) == 64 and max(sizes) <= buffers._BLOCK_BYTES


@pytest.mark.parametrize("observation", ["box", "dict"])
def test_a_rollout_is_gone_when_the_next_one_begins(observation):
    _, ours = pair(OBSERVATION_SPACES[observation][1], ACTION_SPACES["discrete"], 4, 2)
    list(ours.get())
    arrays = ours.observations.values() if isinstance(ours.observations, dict) else [ours.observations]
    kept = [weakref.ref(array) for array in arrays]
    del arrays
    ours.reset()
    assert [array() for array in kept] == [None] * len(kept)


def test_what_is_put_in_the_place_of_an_array_is_gathered():
    """Callbacks and our own algorithms replace arrays of the buffer."""
    _, ours = pair(OBSERVATION_SPACES["box"][1], ACTION_SPACES["discrete"], 4, 2)
    list(ours.get())
    ours.advantages = np.arange(8, dtype=np.float32)
    assert sorted(next(ours.get()).advantages.tolist()) == list(range(8))
    ours.advantages += 1
    assert sorted(next(ours.get()).advantages.tolist()) == list(range(1, 9))


# ------------------------------------------------------------------ added columns

#: A number, a boolean matrix, an integer vector; every row is calculated from the number of its step
COLUMNS = {"number": Column(), "matrix": Column((2, 3), np.bool_), "whole": Column((1,), np.int64)}
WIDE = spaces.Box(-1e9, 1e9, (1,))


def rows_of(numbers: np.ndarray) -> dict[str, Any]:
    """One step's rows: as an array, a tensor, and of another dtype of the same kind."""
    return {
        "number": numbers.astype(np.float64),
        "matrix": th.as_tensor(numbers[:, None, None] % np.arange(2, 8).reshape(2, 3) == 0),
        "whole": numbers[:, None].astype(np.int32),
    }


def column_buffers(observation: spaces.Space, n_envs: int) -> list[Any]:
    """A grid and a trajectory buffer after 100 steps, whose values and observations are the numbers of the steps."""
    is_dict = isinstance(observation, spaces.Dict)
    kinds = (FastDictRolloutBuffer, DictTrajectoryBuffer) if is_dict else (FastRolloutBuffer, TrajectoryBuffer)
    grid, growing = (
        kind(100, observation, spaces.Discrete(3), device="cpu", n_envs=n_envs, columns=COLUMNS) for kind in kinds
    )
    for _ in range(2):  # the second rollout must not see the first
        grid.reset()
        growing.reset()
        trajectories = np.arange(n_envs)
        for step in range(100):
            numbers = (step * n_envs + np.arange(n_envs)).astype(np.float32)
            obs = {"a": numbers[:, None], "b": numbers[:, None]} if is_dict else numbers[:, None]
            values, log_probs = th.as_tensor(numbers)[:, None], th.as_tensor(numbers)
            given = obs, (numbers % 3).astype(int)[:, None], numbers, np.zeros(n_envs), values, log_probs
            grid.add(*given, **rows_of(numbers))
            growing.add(*given, trajectories.copy(), **rows_of(numbers))
            if step % 17 == 16:  # a trajectory ends and another one begins, so that rows have to be sorted
                trajectories[step % n_envs] = trajectories.max() + 1
        grid.compute_returns_and_advantage(th.zeros(n_envs, 1), np.zeros(n_envs))
        growing.finish()
    return [grid, growing]


@pytest.mark.parametrize("batch_size", [None, 7, 64, 128, 1000])
@pytest.mark.parametrize("block_bytes", [1, 1_000, 10**9])
@pytest.mark.parametrize("n_envs", [1, 5])
@pytest.mark.parametrize("observation", [WIDE, spaces.Dict({"a": WIDE, "b": WIDE})], ids=["box", "dict"])
def test_added_columns_stay_with_their_steps(observation, n_envs, block_bytes, batch_size, monkeypatch):
    monkeypatch.setattr(buffers, "_BLOCK_BYTES", block_bytes)
    for buffer in column_buffers(observation, n_envs):
        for _ in range(2):
            seen = []
            for batch in buffer.get(batch_size):
                numbers = batch.old_values
                observed = batch.observations["a"] if isinstance(observation, spaces.Dict) else batch.observations
                assert th.equal(observed[:, 0], numbers)
                for name, rows in rows_of(numbers.numpy()).items():
                    found, expected = getattr(batch, name), th.as_tensor(rows)
                    assert found.numpy().dtype == COLUMNS[name].dtype and found.shape == expected.shape
                    assert th.equal(found, expected.to(found.dtype))
                seen += numbers.tolist()
            assert sorted(seen) == list(range(100 * n_envs))


RESERVED = [
    "values",
    "old_values",
    "obs",
    "value",
    "numbers",
    "mask",
    "lengths",
    "deterministic",
    "gamma",
    "class",
    "_x",
    "a b",
]


@pytest.mark.parametrize("kind", [FastRolloutBuffer, TrajectoryBuffer])
@pytest.mark.parametrize("name", RESERVED)
def test_a_column_name_that_cannot_be_is_refused(kind, name):
    with pytest.raises(ValueError, match=rf"the name of a column must .*got '{name}'"):
        kind(8, WIDE, spaces.Discrete(2), device="cpu", columns={name: Column()})


@pytest.mark.parametrize("kind", [FastRolloutBuffer, TrajectoryBuffer])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, r"a step must have the columns \['memory'\] besides SB3's, got \[\]"),
        ({"other": np.zeros((2, 3))}, r"a step must have the columns \['memory'\] besides SB3's, got \['other'\]"),
        ({"memory": np.zeros((2, 4))}, r"column 'memory' must have shape \(2, 3\) .* in a step, got \(2, 4\)"),
        ({"memory": np.zeros((2, 3))}, "column 'memory' must have dtype int64 or one that it can hold, got float64"),
    ],
)
def test_wrong_rows_of_a_column_are_refused(kind, rows, message):
    buffer = kind(8, WIDE, spaces.Discrete(2), device="cpu", n_envs=2, columns={"memory": Column((3,), np.int64)})
    numbers = () if kind is FastRolloutBuffer else (np.arange(2),)
    given = np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2), np.zeros(2), th.zeros(2, 1), th.zeros(2)
    with pytest.raises(ValueError, match=message):
        buffer.add(*given, *numbers, **rows)
