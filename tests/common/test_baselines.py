"""Baselines by hand, for the returns (7, 6, 4 | 2, 3) of trajectories of 3 and 2 steps."""

import math

import numpy as np
import pytest
import torch as th

from crashalgos.common.baselines import baseline_values, check_baseline

RETURNS = np.array([7.0, 6.0, 4.0, 2.0, 3.0])
LENGTHS = np.array([3, 2])
OBSERVATIONS = np.arange(10.0).reshape(5, 2)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (None, [0, 0, 0, 0, 0]),
        (10, [10, 10, 10, 10, 10]),
        (-0.5, [-0.5] * 5),
        ("mean", [4.4] * 5),  # 22 / 5
        ("leave_one_out", [2.5, 2.5, 2.5, 17 / 3, 17 / 3]),  # (2+3)/2 | (7+6+4)/3
        (lambda obs: obs[:, 1], [1, 3, 5, 7, 9]),
        (lambda obs: th.as_tensor(obs[:, 0]), [0, 2, 4, 6, 8]),
    ],
)
def test_baselines_by_hand(baseline, expected):
    np.testing.assert_allclose(baseline_values(baseline, RETURNS, LENGTHS, OBSERVATIONS), expected, rtol=1e-14)


def test_leave_one_out_of_three():
    # Trajectories with returns (1), (2, 4), (9): means over all steps of the others 15/3, 10/2, 7/3
    found = baseline_values("leave_one_out", np.array([1.0, 2.0, 4.0, 9.0]), np.array([1, 2, 1]))
    np.testing.assert_allclose(found, [5, 5, 5, 7 / 3], rtol=1e-14)


@pytest.mark.parametrize("values", [np.zeros((5, 1)), np.zeros(4), 0.0])
def test_callable_of_the_wrong_shape(values):
    with pytest.raises(ValueError, match=r"`baseline` must return one value a step, shape \(5,\), got shape"):
        baseline_values(lambda obs: values, RETURNS, LENGTHS, OBSERVATIONS)


def test_callable_with_nan():
    with pytest.raises(ValueError, match="finite"):
        baseline_values(lambda obs: np.full(5, np.nan), RETURNS, LENGTHS, OBSERVATIONS)


def test_unknown_and_impossible_baselines():
    with pytest.raises(ValueError, match="`baseline` must be one of 'mean', 'leave_one_out', got 'median'"):
        check_baseline("median", 20)
    with pytest.raises(ValueError, match="needs `n_trajectories` of at least 2, got 1"):
        check_baseline("leave_one_out", 1)
    for wrong in (math.inf, math.nan, [1.0], True):
        with pytest.raises(ValueError, match="`baseline` must be a number"):
            check_baseline(wrong, 20)
