"""Aggregates, profiles and curves: by hand, by their properties, and against rliable's numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from crashalgos.experiments.comparison.statistics import (
    Estimate,
    aggregate,
    iqm,
    iqm_curve,
    performance_profile,
    probability_of_improvement,
)
from tests.helpers.scores import FEW, arrays

pytestmark = pytest.mark.filterwarnings("error")

RLIABLE: dict[str, Any] = json.loads(Path(__file__).with_name("rliable_numbers.json").read_text(encoding="utf-8"))

SCORES = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=6)
TASKS = st.lists(SCORES, min_size=1, max_size=3)


def test_iqm_leaves_out_a_quarter_at_either_end() -> None:
    # Of eight the middle four, of five (5/4 rounds down to one) the middle three, of three all
    assert iqm(np.array([8.0, 1.0, 100.0, 2.0, 3.0, 4.0, -50.0, 6.0])) == (2 + 3 + 4 + 6) / 4
    assert iqm(np.array([9.0, 1.0, 2.0, 3.0, -9.0])) == 2.0
    assert iqm(np.array([0.0, 0.0, 9.0])) == 3.0
    np.testing.assert_array_equal(iqm(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [99.0, 1.0]]), axis=0), [1.5, 1.0])


def test_aggregates_by_hand() -> None:
    # Task means 1, 2 and 6. All runs: -1 0 1 1.5 2 2.5 4 12: the middle four are 1 1.5 2 2.5.
    # Cut at 1: -1 + 0 + 6 · 1 = 5, of 8 runs.
    estimates = aggregate(arrays([[-1.0, 1.0, 2.0, 2.0], [1.5, 2.5], [0.0, 12.0]]))
    runs = sorted([-1.0, 1.0, 2.0, 2.0, 1.5, 2.5, 0.0, 12.0])
    assert estimates["IQM"].value == pytest.approx(sum(runs[2:6]) / 4)
    assert estimates["mean"].value == pytest.approx((1 + 2 + 6) / 3)
    assert estimates["median"].value == pytest.approx(2)
    assert estimates["optimality gap"].value == pytest.approx(1 - (-1 + 0 + 6) / 8)


@settings(max_examples=25, deadline=None)
@given(TASKS, st.floats(0.1, 10), st.floats(-10, 10))
def test_aggregates_shift_and_scale(tasks: list[list[float]], scale: float, shift: float) -> None:
    before = aggregate(arrays(tasks), n_resamples=FEW)
    after = aggregate([shift + scale * scores for scores in arrays(tasks)], n_resamples=FEW)
    for name in ("IQM", "median", "mean"):
        old, new = before[name], after[name]
        expected = [shift + scale * x for x in (old.value, old.low, old.high)]
        np.testing.assert_allclose([new.value, new.low, new.high], expected, atol=1e-9)


def test_probability_of_improvement_by_hand() -> None:
    # Task 1: (2 > 1), (2 = 2), (4 > 1), (4 > 2): 3.5 of 4; task 2: 0 < 5: 0 of 1
    x, y = arrays([[2.0, 4.0], [0.0]]), arrays([[1.0, 2.0], [5.0]])
    assert probability_of_improvement(x, y).value == (3.5 / 4 + 0) / 2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=3))
def test_probabilities_of_either_side_sum_to_1(tasks: list[tuple[list[float], list[float]]]) -> None:
    x, y = arrays([a for a, _ in tasks]), arrays([b for _, b in tasks])
    forth = probability_of_improvement(x, y, n_resamples=FEW).value
    back = probability_of_improvement(y, x, n_resamples=FEW).value
    pairs = [[(p > q) + 0.5 * (p == q) for p in a for q in b] for a, b in tasks]
    assert forth == pytest.approx(np.mean([np.mean(task) for task in pairs]), abs=1e-12)
    assert forth + back == pytest.approx(1)


def test_numbers_of_tasks_must_agree() -> None:
    with pytest.raises(ValueError, match="`samples_y` must have as many tasks as `samples_x`, 1, got 2"):
        probability_of_improvement(arrays([[1.0]]), arrays([[1.0], [2.0]]))


def test_profile_by_hand() -> None:
    # Strictly above 1: one of two, and three of four
    band = performance_profile(arrays([[1.0, 2.0], [0.0, 2.0, 3.0, 4.0]]), np.array([-1.0, 1.0, 4.0]))
    np.testing.assert_allclose(band.value, [1, (1 / 2 + 3 / 4) / 2, 0])
    # Resampled, the first share is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4, the second binomial (4, 3/4)/4. Their mean is
    # at most 1/8 with probability 1/4 · 13/256 = 1.3 %, 1/4 with 5.5 %, and 1 with 7.9 %.
    assert (band.low[1], band.high[1]) == (0.25, 1.0)


@settings(max_examples=25, deadline=None)
@given(TASKS.filter(lambda tasks: all(len(scores) > 1 for scores in tasks)))
def test_profiles_fall_and_their_bands_hold_them(tasks: list[list[float]]) -> None:
    band = performance_profile(arrays(tasks), np.linspace(-51, 51, 15), n_resamples=200)
    for line in band:
        assert (np.diff(line) <= 1e-12).all()
    assert (band.low <= band.value + 1e-12).all()
    assert (band.value <= band.high + 1e-12).all()
    assert (band.value[0], band.value[-1]) == (1.0, 0.0)


def test_thresholds_must_be_flat() -> None:
    with pytest.raises(ValueError, match=r"`thresholds` must be flat and not empty, got shape \(1, 2\)"):
        performance_profile([np.ones(2)], np.ones((1, 2)))


def close_to_rliable(estimate: Estimate, expected: dict[str, float]) -> None:
    assert estimate.value == pytest.approx(expected["value"], abs=1e-12)
    # A bootstrap quantile of 10,000 normal values has a standard error of 0.7 % of the interval's width, of 50,000 half of
    # it: together 0.8 %, and four of these are allowed.
    tolerance = 0.032 * (expected["high"] - expected["low"])
    assert estimate.low == pytest.approx(expected["low"], abs=tolerance)
    assert estimate.high == pytest.approx(expected["high"], abs=tolerance)


def test_aggregates_are_those_of_rliable() -> None:
    estimates = aggregate(arrays(RLIABLE["x"]))
    assert list(estimates) == list(RLIABLE["aggregate"])
    for name, expected in RLIABLE["aggregate"].items():
        close_to_rliable(estimates[name], expected)


def test_probability_of_improvement_is_that_of_rliable() -> None:
    estimate = probability_of_improvement(arrays(RLIABLE["x"]), arrays(RLIABLE["y"]))
    close_to_rliable(estimate, RLIABLE["probability_of_improvement"])


def test_profile_is_that_of_rliable() -> None:
    band = performance_profile(arrays(RLIABLE["x"]), np.array(RLIABLE["thresholds"]))
    expected = RLIABLE["performance_profile"]
    np.testing.assert_allclose(band.value, expected["value"], atol=1e-12)
    # Shares of 30 runs: a quantile may lie one run beside
    np.testing.assert_allclose(band.low, expected["low"], atol=1 / 30 + 1e-9)
    np.testing.assert_allclose(band.high, expected["high"], atol=1 / 30 + 1e-9)


def test_curve_is_the_iqm_of_each_column() -> None:
    values = np.random.default_rng(1).normal(size=(9, 5))
    band = iqm_curve(values)
    np.testing.assert_allclose(band.value, [np.sort(column)[2:7].mean() for column in values.T])
    # Each column's interval, by SciPy on its own
    for i, column in enumerate(values.T):
        interval = bootstrap((column,), iqm, n_resamples=10_000, method="percentile", rng=7).confidence_interval
        width = interval.high - interval.low
        np.testing.assert_allclose([band.low[i], band.high[i]], interval, atol=0.05 * width)


def test_curve_of_several_tasks_draws_runs_within_tasks() -> None:
    band = iqm_curve([np.array([[1.0, 2.0]] * 3), np.array([[5.0, 8.0]] * 5)])
    # All eight runs: the middle four are 1 5 5 5, and 2 8 8 8
    np.testing.assert_array_equal(band.value, [4.0, 6.5])
    np.testing.assert_array_equal(band.low, band.value)


def test_curve_draws_whole_runs() -> None:
    # The second column is the first plus 3: so are its ends
    values = np.random.default_rng(2).normal(size=(6, 1)) + np.array([0.0, 3.0])
    band = iqm_curve(values)
    for line in band:
        assert line[1] - line[0] == pytest.approx(3)


def test_curves_of_one_run_have_no_band() -> None:
    band = iqm_curve(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(band.value, [1.0, 2.0])
    assert np.isnan(band.low).all()


@pytest.mark.parametrize(
    "values", [[], np.ones(3), np.ones((0, 3)), [np.ones((2, 3)), np.ones((2, 4))], [np.full((2, 2), np.nan)]]
)
def test_unusable_curves_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="`values` must be"):
        iqm_curve(values)
