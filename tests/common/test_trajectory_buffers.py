"""The trajectory buffers: order, mask, growth, memory, minibatches."""

import tracemalloc

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from crashalgos.common.trajectory_buffers import NO_TRAJECTORY, DictTrajectoryBuffer, TrajectoryBuffer

BOX = spaces.Box(-1e6, 1e6, (2,), dtype=np.float32)
DICT = spaces.Dict({"vector": BOX, "which": spaces.Discrete(3), "image": spaces.Box(0, 255, (1, 4, 4), dtype=np.uint8)})


def make(n_envs: int, observation_space=BOX, action_space=None, **kwargs) -> TrajectoryBuffer:
    kind = DictTrajectoryBuffer if isinstance(observation_space, spaces.Dict) else TrajectoryBuffer
    return kind(0, observation_space, action_space or spaces.Discrete(5), device="cpu", n_envs=n_envs, **kwargs)


def add_step(buffer: TrajectoryBuffer, step: int, numbers: list[int]) -> None:
    """Adds a step whose every figure says its step and env: 10 · step + env."""
    cell = 10 * step + np.arange(buffer.n_envs)
    obs = np.stack([cell, -cell], axis=1).astype(np.float32)
    if isinstance(buffer, DictTrajectoryBuffer):
        image = np.broadcast_to(cell.astype(np.uint8)[:, None, None, None], (buffer.n_envs, 1, 4, 4))
        obs = {"vector": obs, "which": cell % 3, "image": image}
    buffer.add(
        obs, cell % 5, cell.astype(np.float32), np.zeros(buffer.n_envs), th.as_tensor(2.0 * cell).reshape(-1, 1),
        th.as_tensor(-0.5 * cell), np.array(numbers),
    )  # fmt: skip


def three_trajectories(observation_space=BOX, **kwargs) -> TrajectoryBuffer:
    """Gives trajectories 0 (env 0, steps 0–1), 1 (env 1, steps 0–2), 2 (env 0, steps 2–4); then env 1 idles."""
    buffer = make(2, observation_space, **kwargs)
    for step, numbers in enumerate([[0, 1], [0, 1], [2, 1], [2, NO_TRAJECTORY], [2, NO_TRAJECTORY]]):
        add_step(buffer, step, numbers)
    buffer.end_trajectory(0, None)
    final = np.full(2, 7.0, dtype=np.float32)
    buffer.end_trajectory(1, {"vector": final, "which": 1, "image": np.zeros((1, 4, 4), np.uint8)}
                          if isinstance(observation_space, spaces.Dict) else final)  # fmt: skip
    buffer.end_trajectory(2, None)
    buffer.finish()
    return buffer


CELLS = [0, 10, 1, 11, 21, 20, 30, 40]


def test_steps_are_sorted_by_trajectory_then_time():
    buffer = three_trajectories()
    assert buffer.rewards.tolist() == CELLS
    assert buffer.values.tolist() == [2 * cell for cell in CELLS]
    assert buffer.log_probs.tolist() == [-0.5 * cell for cell in CELLS]
    assert buffer.actions.flatten().tolist() == [cell % 5 for cell in CELLS]
    assert buffer.observations[:, 1].tolist() == [-cell for cell in CELLS]
    assert buffer.lengths.tolist() == [2, 3, 3] and buffer.n_trajectories == 3 and buffer.size() == 8
    assert buffer.mask.tolist() == [[True, True], [True, True], [True, True], [True, False], [True, False]]
    assert buffer.truncated.tolist() == [1] and buffer.final_observations().tolist() == [[7, 7]]


def test_dict_observations_are_sorted_alike():
    buffer = three_trajectories(DICT)
    assert buffer.observations["vector"][:, 0].tolist() == CELLS
    assert buffer.observations["which"].flatten().tolist() == [cell % 3 for cell in CELLS]
    assert buffer.observations["image"][:, 0, 0, 0].tolist() == CELLS
    assert buffer.observations["image"].dtype == np.uint8
    assert buffer.final_observations()["which"].tolist() == [1]
    samples = next(buffer.micro_batches())
    assert samples.observations["vector"].shape == (8, 2) and samples.observations["image"].shape == (8, 1, 4, 4)


def test_returns_and_advantages_by_hand():
    # γ = 1/2, λ = 1, V = 2 · cell. Trajectory 0: r = (0, 10), terminated: returns 5, 10.
    # 1: r = (1, 11, 21), truncated with V(s_4) = 8: 1 + 5.5 + 5.25 + 1, 11 + 10.5 + 2, 21 + 4. 2: r = (20, 30, 40): 45, 50, 40
    buffer = three_trajectories(gamma=0.5, gae_lambda=1.0)
    buffer.compute_returns_and_advantage(np.array([99.0, 8.0, 99.0]), np.array([True, False, True]))
    expected = np.array([5, 10, 12.75, 23.5, 25, 45, 50, 40])
    np.testing.assert_allclose(buffer.returns, expected, rtol=1e-6)
    np.testing.assert_allclose(buffer.advantages, expected - 2.0 * np.array(CELLS), rtol=1e-6)
    assert buffer.returns.dtype == buffer.advantages.dtype == np.float32
    assert buffer.rewards.tolist() == CELLS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 40))
def test_any_rollout_keeps_every_step_once(lengths_of_envs, batch_size):
    """Envs play their episodes one after the other and then idle; numbers are in the order of the starts."""
    n_envs = len(lengths_of_envs)
    buffer = make(n_envs)
    remaining = [list(lengths) for lengths in lengths_of_envs]
    numbers, left, started, cells_of = [NO_TRAJECTORY] * n_envs, [0] * n_envs, 0, {}
    step = 0
    while True:
        for env in range(n_envs):
            if left[env] == 0:
                numbers[env] = NO_TRAJECTORY
                if remaining[env]:
                    left[env], numbers[env] = remaining[env].pop(0), started
                    started += 1
        if all(number == NO_TRAJECTORY for number in numbers):
            break
        for env, number in enumerate(numbers):
            if number != NO_TRAJECTORY:
                cells_of.setdefault(number, []).append(10 * step + env)
                left[env] -= 1
        add_step(buffer, step, numbers)
        step += 1
    buffer.finish()
    assert buffer.lengths.tolist() == [len(cells_of[number]) for number in range(started)]
    assert buffer.rewards.tolist() == [cell for number in range(started) for cell in cells_of[number]]
    assert buffer.mask.sum() == buffer.size() and buffer.mask.shape == (step, n_envs)

    buffer.compute_returns_and_advantage(np.zeros(started), np.ones(started, dtype=bool))
    for minibatches in (list(buffer.get(batch_size)), list(buffer.micro_batches(batch_size))):
        sizes = [len(batch.advantages) for batch in minibatches]
        assert len(sizes) == -(-buffer.size() // batch_size)
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch_size
        seen = np.concatenate([batch.observations[:, 0].numpy() for batch in minibatches])
        assert sorted(seen) == sorted(buffer.rewards)


def test_minibatches_keep_the_figures_of_a_step_together():
    buffer = three_trajectories()
    buffer.compute_returns_and_advantage(np.zeros(3), np.ones(3, dtype=bool))
    np.random.seed(3)
    batches = list(buffer.get(3))
    assert [len(batch.returns) for batch in batches] == [3, 3, 2]
    cells = [int(cell) for batch in batches for cell in batch.observations[:, 0]]
    assert cells != CELLS and sorted(cells) == sorted(CELLS)
    for batch in batches:
        cell = batch.observations[:, 0]
        assert th.equal(batch.old_values, 2 * cell) and th.equal(batch.old_log_prob, -0.5 * cell)
        assert th.equal(batch.actions.flatten(), cell % 5)


def test_reset_forgets():
    buffer = three_trajectories()
    buffer.reset()
    assert buffer.size() == 0 and not buffer.full
    add_step(buffer, 0, [0, 1])
    buffer.finish()
    assert buffer.rewards.tolist() == [0, 1] and buffer.lengths.tolist() == [1, 1] and len(buffer.truncated) == 0


def test_unfinished_rollout_gives_no_minibatch():
    buffer = make(2)
    add_step(buffer, 0, [0, 1])
    with pytest.raises(AssertionError, match="not finished"):
        next(buffer.get(1))


@pytest.mark.parametrize("collecting", ["all", pytest.param("one", marks=pytest.mark.slow)])
@pytest.mark.parametrize("n_envs", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 64)), 8])
@pytest.mark.parametrize("shape", [(1,), (4,), (3, 40, 40)])
def test_peak_memory_is_at_most_three_times_the_steps_stored(shape, n_envs, collecting):
    """Growing, sorting, GAE and minibatches are included; idle envs cost nothing."""
    obs = np.zeros((n_envs, *shape), dtype=np.float32)
    zeros, zeros_tensor = np.zeros(n_envs), th.zeros(n_envs)
    numbers = np.arange(n_envs) if collecting == "all" else np.array([0] + [NO_TRAJECTORY] * (n_envs - 1))
    n_rows = 30_000 if len(shape) == 1 else 1_500
    buffer = make(n_envs, spaces.Box(-1, 1, shape, dtype=np.float32))
    tracemalloc.start()
    try:
        for _ in range(-(-n_rows // int((numbers != NO_TRAJECTORY).sum()))):
            buffer.add(obs, zeros, zeros, zeros, zeros_tensor, zeros_tensor, numbers)
        buffer.finish()
        n_trajectories = buffer.n_trajectories
        buffer.compute_returns_and_advantage(np.zeros(n_trajectories), np.ones(n_trajectories, dtype=bool))
        for _ in buffer.get(64):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stored = sum(
        getattr(buffer, name).nbytes
        for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns")
    )
    assert len(buffer.rewards) >= n_rows
    assert stored < peak <= 3 * stored
