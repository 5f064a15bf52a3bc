"""The returns of the slides, against numbers from paper and against their definitions as sums."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashalgos.common.returns import (
    discounted_sum_to_end,
    gamma_from_horizon,
    generalized_advantages,
    horizon_from_gamma,
    reward_to_go,
    total_return,
)

# Two trajectories: rewards (1, 2, 4) and (−1, 3)
REWARDS = np.array([1.0, 2.0, 4.0, -1.0, 3.0])
LENGTHS = np.array([3, 2])


def test_reward_to_go_by_hand():
    # γ = 1: 1+2+4, 2+4, 4 | −1+3, 3
    np.testing.assert_array_equal(reward_to_go(REWARDS, LENGTHS), [7, 6, 4, 2, 3])
    # γ = 1/2: 1+2/2+4/4, 2+4/2, 4 | −1+3/2, 3
    np.testing.assert_array_equal(reward_to_go(REWARDS, LENGTHS, 0.5), [3, 4, 4, 0.5, 3])


def test_total_return_by_hand():
    np.testing.assert_array_equal(total_return(REWARDS, LENGTHS), [7, 7, 7, 2, 2])
    np.testing.assert_array_equal(total_return(REWARDS, LENGTHS, 0.5), [3, 3, 3, 0.5, 0.5])


def test_gamma_zero_keeps_the_imminent_reward():
    np.testing.assert_array_equal(reward_to_go(REWARDS, LENGTHS, 0.0), REWARDS)


def test_generalized_advantages_by_hand():
    # γ = 1/2, λ = 1/2; V = (2, 4, 6 | 8, 10), V(s_END) = 0 | 20 (the second trajectory is truncated)
    # δ = 1+2−2, 2+3−4, 4+0−6 | −1+5−8, 3+10−10 = 1, 1, −2 | −4, 3, and A_t = δ_t + A_{t+1}/4
    advantages = generalized_advantages(
        REWARDS, np.array([2.0, 4.0, 6.0, 8.0, 10.0]), np.array([0.0, 20.0]), LENGTHS, gamma=0.5, gae_lambda=0.5
    )
    np.testing.assert_array_equal(advantages, [1.125, 0.5, -2.0, -3.25, 3.0])


@st.composite
def ragged(draw):
    lengths = np.array(draw(st.lists(st.integers(1, 40), min_size=1, max_size=6)))
    number = st.floats(-10, 10, allow_subnormal=False)
    n = int(lengths.sum())
    arrays = [np.array(draw(st.lists(number, min_size=n, max_size=n))) for _ in range(2)]
    final_values = np.array(draw(st.lists(number, min_size=len(lengths), max_size=len(lengths))))
    return arrays[0], arrays[1], final_values, lengths


unit = st.floats(0, 1)


@given(ragged(), unit)
def test_discounted_sum_is_its_definition(data, discount):
    x, _, _, lengths = data
    expected = []
    for trajectory in np.split(x, np.cumsum(lengths)[:-1]):
        steps = range(len(trajectory))
        expected += [sum(discount ** (j - t) * trajectory[j] for j in steps if j >= t) for t in steps]
    np.testing.assert_allclose(discounted_sum_to_end(x, lengths, discount), expected, rtol=1e-10, atol=1e-10)


@given(ragged(), unit, unit)
def test_gae_obeys_its_recursion(data, gamma, gae_lambda):
    rewards, values, final_values, lengths = data
    found = generalized_advantages(rewards, values, final_values, lengths, gamma, gae_lambda)
    ends = np.cumsum(lengths)
    for start, end, final_value in zip(ends - lengths, ends, final_values, strict=True):
        advantage, next_value = 0.0, final_value
        for t in reversed(range(start, end)):
            advantage = rewards[t] + gamma * next_value - values[t] + gamma * gae_lambda * advantage
            next_value = values[t]
            assert found[t] == pytest.approx(advantage, rel=1e-9, abs=1e-9)


@given(ragged(), unit)
def test_lambda_one_is_the_slides_advantage(data, gamma):
    rewards, values, final_values, lengths = data
    with_bootstrap = rewards.copy()
    with_bootstrap[np.cumsum(lengths) - 1] += gamma * final_values
    expected = reward_to_go(with_bootstrap, lengths, gamma) - values
    found = generalized_advantages(rewards, values, final_values, lengths, gamma, gae_lambda=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_float32_stays_float32():
    assert reward_to_go(REWARDS.astype(np.float32), LENGTHS, 0.9).dtype == np.float32


@pytest.mark.parametrize(("gamma", "horizon"), [(0.8, 5), (0.95, 20), (0.999, 1000), (0.0, 1), (1.0, math.inf)])
def test_horizon_as_on_the_slide(gamma, horizon):
    assert horizon_from_gamma(gamma) == pytest.approx(horizon, rel=1e-9)
    assert gamma_from_horizon(horizon) == pytest.approx(gamma, rel=1e-12)


@pytest.mark.parametrize("horizon", [0.5, 0, -1, math.nan, -math.inf, "10", None])
def test_bad_horizon(horizon):
    with pytest.raises(ValueError, match=r"`horizon` must be a number of at least 1, got"):
        gamma_from_horizon(horizon)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, math.nan])
def test_bad_gamma(gamma):
    with pytest.raises(ValueError, match=r"`gamma` must be a number in \[0, 1\]"):
        horizon_from_gamma(gamma)


@pytest.mark.parametrize(
    ("rewards", "lengths"),
    [
        (REWARDS.reshape(-1, 1), LENGTHS),
        (REWARDS.astype(int), LENGTHS),
        (REWARDS, np.array([3, 3])),
        (REWARDS, np.array([5, 0])),
    ],
)
def test_wrong_shapes_and_dtypes_do_not_pass_the_door(rewards, lengths):
    with pytest.raises(ValueError):
        reward_to_go(rewards, lengths)


def test_values_of_another_shape_do_not_pass_the_door():
    with pytest.raises(ValueError, match="flat floating array"):
        generalized_advantages(REWARDS, REWARDS[:-1], np.zeros(2), LENGTHS, 1.0, 1.0)
    with pytest.raises(ValueError, match="final_values"):
        generalized_advantages(REWARDS, REWARDS, np.zeros(5), LENGTHS, 1.0, 1.0)
