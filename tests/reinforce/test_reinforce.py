"""REINFORCE: one update by hand, its arguments, its baselines."""

import math

import numpy as np
import pytest

from crashalgos import REINFORCE
from tests.helpers.algorithms import assert_refused
from tests.helpers.envs import scripted
from tests.helpers.one_state import moved, policy_gradient, updated


def test_one_step_of_reinforce():
    # R_t = 7, 6, 4; learning rate 1/2; N = 2
    model = updated(REINFORCE, 2)
    actions = model.rollout_buffer.actions
    expected = 0.5 * policy_gradient(actions, np.array([7, 6, 4] * 2)) / 2
    np.testing.assert_allclose(moved(model), expected, rtol=1e-6)
    assert model.logger.name_to_value["train/policy_gradient_loss"] == pytest.approx(2 * 17 * math.log(2) / 2, rel=1e-6)


def test_baseline_first_then_normalisation_over_all_steps_in_chunks():
    # R_t − b = 7, 6, 4 minus 0, 1, 2 = 7, 5, 2 | 7, 5, 2: mean 14/3, Σ(…)² = 2 · (49 + 25 + 4) − 6 · 196/9 = 76/3,
    # standard deviation √(76/15)
    steps = np.array([0.0, 1.0, 2.0] * 2)
    model = updated(REINFORCE, 2, baseline=lambda obs: steps, normalize_weights=True, batch_size=4)
    weights = (np.array([7, 5, 2] * 2) - 14 / 3) / math.sqrt(76 / 15)
    np.testing.assert_allclose(model.rollout_buffer.advantages, weights, rtol=1e-6)
    np.testing.assert_allclose(
        moved(model), 0.5 * policy_gradient(model.rollout_buffer.actions, weights) / 2, rtol=1e-5, atol=1e-7
    )


def test_a_baseline_that_writes_into_its_argument_changes_nothing():
    def ruthless(observations: np.ndarray) -> np.ndarray:
        observations *= 0
        return np.zeros(len(observations))

    model = REINFORCE("MlpPolicy", scripted([[3]]), n_trajectories=2, baseline=ruthless, device="cpu")
    model.learn(1)
    assert model.rollout_buffer.observations.any()


def test_wrong_arguments():
    assert_refused(REINFORCE, "`weighting` must be one of 'reward_to_go', 'total_return', got 'returns'", weighting="returns")
    assert_refused(REINFORCE, "`baseline` must be one of 'mean', 'leave_one_out', got 'median'", baseline="median")
    assert_refused(
        REINFORCE, "`n_trajectories` of at least 2, got 1", baseline="leave_one_out", n_trajectories=1, env=scripted([[3]])
    )
    assert_refused(REINFORCE, "`batch_size` must be a whole number of at least 1, got 0", batch_size=0)


def test_a_baseline_of_the_wrong_shape_is_refused_in_training():
    model = REINFORCE("MlpPolicy", scripted([[3]]), n_trajectories=2, baseline=lambda obs: obs[:, :1], device="cpu")
    with pytest.raises(ValueError, match=r"`baseline` must return one value a step, shape \(6,\), got shape \(6, 1\)"):
        model.learn(1)
