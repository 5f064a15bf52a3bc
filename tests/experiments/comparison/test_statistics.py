import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm  # type: ignore[import-untyped]

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.statistics import (
    Estimate,
    Pair,
    Reached,
    adjust,
    adjust_p,
    aggregate,
    compare,
    curve,
    iqm,
    mean_over_tasks,
    on_common_times,
    performance_profile,
    probability_of_improvement,
    seeds_needed,
    smallest_p,
    summarize_times,
    time_to_threshold,
)

pytestmark = pytest.mark.filterwarnings("error")

# What rliable computes on fixed scores: make_rliable_numbers.py.
RLIABLE: dict[str, Any] = json.loads(Path(__file__).with_name("rliable_numbers.json").read_text(encoding="utf-8"))

SCORES = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=6)
TASKS = st.lists(SCORES, min_size=1, max_size=3)
# Enough for properties that hold for any number of resamples
FEW = 20


def arrays(tasks: list[list[float]]) -> list[np.ndarray]:
    return [np.array(scores) for scores in tasks]


def by_seed(scores: Any, first: int = 0) -> dict[int, float]:
    return {first + i: float(score) for i, score in enumerate(scores)}


# --- Aggregates ---


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


def test_resamples_are_drawn_within_each_task() -> None:
    # The tasks differ but their runs do not: drawing across tasks would vary
    for estimate in aggregate(arrays([[1.0, 1.0], [5.0, 5.0, 5.0]])).values():
        assert estimate.low == estimate.value == estimate.high


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    mean = aggregate([scores])["mean"]
    half = norm.isf(0.025) * scores.std() / 20
    np.testing.assert_allclose([mean.low, mean.high], [scores.mean() - half, scores.mean() + half], atol=0.05 * half)


def test_bootstrap_of_two_runs_by_enumeration() -> None:
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4; the 2.5 % quantile is 0
    assert aggregate([np.array([0.0, 1.0])])["mean"] == Estimate(0.5, 0.0, 1.0)


def test_batches_change_only_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [np.arange(10.0), np.arange(5.0)]
    whole = aggregate(samples)["IQM"]
    monkeypatch.setattr(statistics, "_BATCH_VALUES", 1_000)
    batched = aggregate(samples)["IQM"]
    assert batched.value == whole.value
    assert [batched.low, batched.high] == pytest.approx([whole.low, whole.high], abs=0.2)


@pytest.mark.parametrize("samples", [[[0.3]], [[0.3], [0.4, 0.5]]])
def test_single_runs_have_no_interval(samples: list[list[float]]) -> None:
    for estimate in aggregate(arrays(samples)).values():
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    band = performance_profile(arrays(samples), np.array([0.0, 0.35]))
    assert np.isnan(band.low).all()
    assert np.isnan(probability_of_improvement(arrays(samples), arrays(samples)).low)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e9 / 7, 0.0])
def test_equal_scores_have_an_interval_of_one_point(value: float) -> None:
    samples = [np.full(7, value), np.full(3, value)]
    for estimate in aggregate(samples).values():
        assert estimate.low == estimate.value == estimate.high
    band = curve(np.full((7, 4), value))
    np.testing.assert_array_equal(band.low, band.value)
    np.testing.assert_array_equal(band.high, band.value)


@settings(max_examples=25, deadline=None)
@given(TASKS, st.floats(0.1, 10), st.floats(-10, 10))
def test_aggregates_shift_and_scale(tasks: list[list[float]], scale: float, shift: float) -> None:
    before = aggregate(arrays(tasks), n_resamples=FEW)
    after = aggregate([shift + scale * scores for scores in arrays(tasks)], n_resamples=FEW)
    for name in ("IQM", "median", "mean"):
        old, new = before[name], after[name]
        expected = [shift + scale * x for x in (old.value, old.low, old.high)]
        np.testing.assert_allclose([new.value, new.low, new.high], expected, atol=1e-9)


def test_same_seed_same_numbers() -> None:
    samples = [np.random.default_rng(3).normal(size=9)]
    assert aggregate(samples) == aggregate(samples)
    assert aggregate(samples, seed=1) != aggregate(samples)


@pytest.mark.parametrize(
    "samples", [[], [np.array([])], [np.ones((2, 2))], [np.array([1.0, math.nan])], [np.array([math.inf])]]
)
def test_unusable_samples_are_refused(samples: list[np.ndarray]) -> None:
    for function in (aggregate, lambda x: probability_of_improvement(x, x), lambda x: performance_profile(x, np.zeros(1))):
        with pytest.raises(ValueError, match="`samples"):
            function(samples)


# --- Probability of improvement and profiles ---


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


# --- Against rliable ---


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


# --- Curves and times ---


def test_curve_is_the_iqm_of_each_column() -> None:
    values = np.random.default_rng(1).normal(size=(9, 5))
    band = curve(values)
    np.testing.assert_allclose(band.value, [np.sort(column)[2:7].mean() for column in values.T])
    # Each column's interval, by SciPy on its own
    for i, column in enumerate(values.T):
        interval = bootstrap((column,), iqm, n_resamples=10_000, method="percentile", rng=7).confidence_interval
        width = interval.high - interval.low
        np.testing.assert_allclose([band.low[i], band.high[i]], interval, atol=0.05 * width)


def test_curve_of_several_tasks_draws_runs_within_tasks() -> None:
    band = curve([np.array([[1.0, 2.0]] * 3), np.array([[5.0, 8.0]] * 5)])
    # All eight runs: the middle four are 1 5 5 5, and 2 8 8 8
    np.testing.assert_array_equal(band.value, [4.0, 6.5])
    np.testing.assert_array_equal(band.low, band.value)


def test_curve_draws_whole_runs() -> None:
    # The second column is the first plus 3: so are its ends
    values = np.random.default_rng(2).normal(size=(6, 1)) + np.array([0.0, 3.0])
    band = curve(values)
    for line in band:
        assert line[1] - line[0] == pytest.approx(3)


def test_curves_of_one_run_have_no_band() -> None:
    band = curve(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(band.value, [1.0, 2.0])
    assert np.isnan(band.low).all()


@pytest.mark.parametrize(
    "values", [[], np.ones(3), np.ones((0, 3)), [np.ones((2, 3)), np.ones((2, 4))], [np.full((2, 2), np.nan)]]
)
def test_unusable_curves_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="`values` must be"):
        curve(values)


def test_common_times_read_the_last_evaluation_so_far() -> None:
    times, values = on_common_times(
        [np.array([0.0, 2.0, 4.0]), np.array([0.5, 1.0, 1.0, 9.0])],
        [np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0, 8.0])],
        5,
    )
    np.testing.assert_array_equal(times, [0, 1, 2, 3, 4])
    # The second run's first evaluation is at 0.5: its value holds before, too; of the two at 1 the later one holds
    np.testing.assert_array_equal(values, [[1, 1, 2, 2, 3], [5, 7, 7, 7, 7]])


@pytest.mark.parametrize(
    ("seconds", "returns", "message"),
    [
        ([], [], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0]], [[1.0], [2.0]], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0, 1.0]], [[1.0]], "`seconds` and `returns` must hold flat arrays"),
        ([[]], [[]], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0, math.nan]], [[1.0, 2.0]], "`seconds` and `returns` must be finite"),
        ([[2.0, 1.0]], [[1.0, 2.0]], "`seconds` must not fall within a run"),
    ],
)
def test_unusable_runs_are_refused(seconds: list, returns: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_common_times(seconds, returns)


def test_time_to_threshold_is_the_first_crossing() -> None:
    at = [np.array([0.0, 10.0, 20.0])] * 4
    returns = arrays([[0.0, 5.0, 4.0], [5.0, 0.0, 0.0], [0.0, 4.9, 4.9], [0.0, 0.0, 6.0]])
    times = time_to_threshold(at, returns, 5.0)
    np.testing.assert_array_equal(times, [10.0, 0.0, math.inf, 20.0])
    assert summarize_times(times) == Reached(3, 4, 15.0)
    assert summarize_times(np.array([1.0, math.inf, math.inf])) == Reached(1, 3, math.inf)
    # Half of the runs: the median lies between a time and infinity
    assert summarize_times(np.array([1.0, math.inf])) == Reached(1, 2, math.inf)
    with pytest.raises(ValueError, match="`times` must be flat and not empty"):
        summarize_times(np.array([]))


# --- Pairs ---


def sign_flip_p(differences: np.ndarray) -> float:
    """By brute force: twice the smaller share of sign patterns whose sum is as far out as the one seen."""
    sums = [np.dot(signs, differences) for signs in itertools.product([1, -1], repeat=len(differences))]
    below = np.mean([total <= differences.sum() + 1e-9 for total in sums])
    above = np.mean([total >= differences.sum() - 1e-9 for total in sums])
    return min(1.0, 2 * min(below, above))


def exchange_p(a: np.ndarray, b: np.ndarray) -> float:
    """By brute force: twice the smaller share of ways to choose a's runs whose difference is as far out as the one seen."""
    pooled = np.concatenate([a, b])
    seen = a.mean() - b.mean()
    differences = []
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        rest = np.delete(pooled, chosen)
        differences.append(pooled[list(chosen)].mean() - rest.mean())
    below = np.mean([difference <= seen + 1e-9 for difference in differences])
    above = np.mean([difference >= seen - 1e-9 for difference in differences])
    return min(1.0, 2 * min(below, above))


WHOLE = st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(WHOLE)
def test_paired_p_by_enumeration(differences: list[float]) -> None:
    pair = compare(by_seed(differences), by_seed([0.0] * len(differences)), scale=1.0, n_resamples=FEW)
    assert pair.paired
    assert pair.p == pytest.approx(sign_flip_p(np.array(differences)))
    assert pair.p >= smallest_p(len(differences))


@settings(max_examples=40, deadline=None)
@given(WHOLE, WHOLE)
def test_independent_p_by_enumeration(a: list[float], b: list[float]) -> None:
    pair = compare(by_seed(a), by_seed(b, first=100), scale=1.0, n_resamples=FEW)
    assert not pair.paired
    assert pair.p == pytest.approx(exchange_p(np.array(a), np.array(b)))
    assert pair.p >= smallest_p(len(a), len(b)) - 1e-12


@settings(max_examples=25, deadline=None)
@given(WHOLE, WHOLE, st.booleans())
def test_reversed_pairs_mirror(a: list[float], b: list[float], paired: bool) -> None:
    n = min(len(a), len(b))
    x, y = by_seed(a[:n]), by_seed(b[:n], first=0 if paired else 50)
    forth, back = (compare(*scores, scale=1.0, n_resamples=FEW) for scores in ((x, y), (y, x)))
    assert forth.p == pytest.approx(back.p)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.improvement.value + back.improvement.value == pytest.approx(1)
    assert forth.deviation == pytest.approx(back.deviation)


def test_paired_numbers_by_hand() -> None:
    # Differences 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14 over 3; all positive: p = 2/16
    pair = compare({0: 2.0, 1: 4.0, 2: 5.0, 3: 7.0}, {3: 1.0, 2: 2.0, 1: 2.0, 0: 1.0}, scale=40.0)
    assert pair.difference == 3.0
    assert pair.p == pair.q == 2 / 16
    assert pair.deviation == pytest.approx(math.sqrt(14 / 3))
    assert pair.margin == 2.0
    assert (pair.n_a, pair.n_b, pair.paired, pair.identical) == (4, 4, True, False)
    # a beats b in all pairs but 2 = 2 (two of them, half each)
    assert pair.improvement.value == (16 - 1) / 16
    # The lowest mean of four draws from 1, 2, 3, 6 is 1, with probability 1/256 < 2.5 %
    assert 1 < pair.low < 3 < pair.high < 6


def test_independent_numbers_by_hand() -> None:
    # Means 4 and 1; squares 2 + 2 over 1 + 2; all of a above all of b: p = 2/C(5, 2)
    pair = compare({0: 3.0, 1: 5.0}, {7: 0.0, 8: 1.0, 9: 2.0}, scale=0.0)
    assert pair.difference == 3.0
    assert pair.p == pytest.approx(2 / 10)
    assert pair.deviation == pytest.approx(math.sqrt(4 / 3))
    assert (pair.n_a, pair.n_b, pair.paired) == (2, 3, False)
    assert pair.improvement == Estimate(1.0, 1.0, 1.0)


def test_pairs_need_half_of_the_seeds_in_common() -> None:
    nine_of_ten = compare(by_seed(range(10)), by_seed(range(9)), scale=1.0)
    assert (nine_of_ten.paired, nine_of_ten.n_a, nine_of_ten.n_b) == (True, 9, 9)
    assert nine_of_ten.difference == 0.0
    half = compare(by_seed(range(4)), by_seed(range(4), first=2), scale=1.0)
    assert (half.paired, half.n_a) == (True, 2)
    four_of_ten = compare(by_seed(range(10)), by_seed(range(4)), scale=1.0)
    assert (four_of_ten.paired, four_of_ten.n_a, four_of_ten.n_b) == (False, 10, 4)


def test_drawn_permutations_are_near_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.array([3.0, -1.0, 2.0, 5.0, -2.0, 4.0, 1.0, -4.0, 6.0, 2.5])
    exact = sign_flip_p(differences)
    monkeypatch.setattr(statistics, "N_PERMUTATIONS", 1_000)
    drawn = compare(by_seed(differences), by_seed([0.0] * 10), scale=1.0).p
    # Four standard errors of twice a share of 1,000
    assert drawn == pytest.approx(exact, abs=4 * 2 * math.sqrt(exact / 2 / 1_000))
    assert drawn != exact
    assert smallest_p(10) == 2 / 1_001


def test_equal_scores_differ_by_nothing() -> None:
    for b in (by_seed([0.1] * 7), by_seed([0.1] * 7, first=50)):
        pair = compare(by_seed([0.1] * 7), b, scale=1.0)
        assert (pair.difference, pair.low, pair.high, pair.p) == (0.0, 0.0, 0.0, 1.0)
        assert pair.improvement == Estimate(0.5, 0.5, 0.5)


def test_one_run_is_no_test() -> None:
    for a, b in ((by_seed([1.0]), by_seed([3.0])), (by_seed([1.0]), by_seed([3.0, 4.0, 5.0], first=9))):
        pair = compare(a, b, scale=1.0)
        assert pair.p == 1.0
        assert math.isnan(pair.low)
        assert math.isnan(pair.high)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ({}, {0: 1.0}, {"scale": 1.0}, "`scores_a` must hold a flat array"),
        ({0: 1.0}, {0: math.nan}, {"scale": 1.0}, "`scores_b` must be finite"),
        ({0: 1.0}, {0: 1.0}, {"scale": -1.0}, "`scale` must be"),
        ({0: 1.0}, {0: 1.0}, {"scale": math.inf}, "`scale` must be finite, got inf"),
        ({0: 1.0}, {0: 2.0}, {"scale": 1.0, "identical": True}, "`identical` must be False"),
        ({0: 1.0}, {1: 1.0}, {"scale": 1.0, "identical": True}, "`identical` must be False"),
    ],
)
def test_unusable_pairs_are_refused(a: dict[int, float], b: dict[int, float], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(a, b, **options)


def test_adjusted_p_by_hand() -> None:
    # Benjamini–Hochberg: 0.01 · 4/1, 0.02 · 4/2, 0.03 · 4/3, 0.5 · 4/4, never above the next
    some = compare(by_seed(range(6)), by_seed([0.0] * 6), scale=1.0)
    pairs = [replace(some, p=p) for p in (0.5, 0.01, 0.03, 0.02)]
    assert [pair.q for pair in adjust(pairs)] == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert [pair.p for pair in adjust(pairs)] == [0.5, 0.01, 0.03, 0.02]
    assert adjust([]) == []
    assert adjust([replace(some, p=0.3)])[0].q == pytest.approx(0.3)
    assert [pair.comparisons for pair in (some, *adjust(pairs))] == [1, 4, 4, 4, 4]


def test_adjusted_over_what_is_tested() -> None:
    # Tested: six pairs of seeds, and four and four runs. Not tested: five pairs (2/32), a single run, equal runs
    paired = replace(compare(by_seed(range(6)), by_seed([0.0] * 6), scale=1.0), p=0.04)
    independent = replace(compare(by_seed(range(4)), by_seed(range(4), first=9), scale=1.0), p=0.03)
    five = compare(by_seed([1.0] * 5), by_seed([0.0] * 5), scale=1.0)
    single = compare(by_seed([1.0]), by_seed(range(9), first=9), scale=1.0)
    same = compare(by_seed(range(9)), by_seed(range(9)), scale=1.0, identical=True)
    adjusted = adjust([five, paired, same, independent, single])
    # 0.03 · 2/1 is above 0.04 · 2/2; the others keep theirs
    assert [pair.q for pair in adjusted] == pytest.approx([0.0625, 0.04, 1.0, 0.04, 1.0])
    # All but the identical one
    assert [pair.comparisons for pair in adjusted] == [4] * 5
    # Nothing to adjust
    assert [(pair.q, pair.comparisons) for pair in adjust([five, same])] == [(0.0625, 1), (1.0, 1)]
    assert [(pair.q, pair.comparisons) for pair in adjust([same, same])] == [(1.0, 0), (1.0, 0)]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("comparisons", [1, 2, 3, 7, 20])
def test_a_pair_that_alone_differs_outlasts_the_adjustment(paired: bool, comparisons: int) -> None:
    def alone(n: int) -> Pair:
        differs = compare(by_seed([1.0] * n), by_seed([0.0] * n, first=0 if paired else 100), scale=1.0, n_resamples=FEW)
        none = compare(by_seed([1.0] * 9), by_seed([1.0] * 9), scale=1.0, n_resamples=FEW)
        return adjust([differs, *[none] * (comparisons - 1)])[0]

    needed = int(seeds_needed(1.0, 0.0, paired, comparisons))
    assert alone(needed).q < 0.05 and alone(needed).comparisons == comparisons
    assert alone(needed - 1).q >= 0.05


def test_smallest_p_by_hand() -> None:
    assert [smallest_p(n) for n in (1, 2, 3, 5, 6)] == [1.0, 0.5, 0.25, 0.0625, 0.03125]
    assert smallest_p(3, 3) == pytest.approx(2 / 20)
    assert smallest_p(4, 2) == smallest_p(2, 4) == pytest.approx(2 / 15)
    assert smallest_p(1, 99) == 1.0
    assert smallest_p(60) == 2 / (2**16 + 1)
    with pytest.raises(ValueError, match="`n_a` must be a whole number of at least 1, got 0"):
        smallest_p(0)


# --- Power ---


@pytest.mark.parametrize(
    ("effect", "paired", "needed"),
    # statsmodels 0.15, TTestIndPower and TTestPower, solve_power(effect, power=0.8, alpha=0.05): 393.41, 63.77, 25.52 each;
    # 198.15, 33.37, 14.30 pairs (rounded up)
    [(0.2, False, 394), (0.5, False, 64), (0.8, False, 26), (0.2, True, 199), (0.5, True, 34), (0.8, True, 15)],
)
def test_seeds_needed_are_the_published_ones(effect: float, paired: bool, needed: int) -> None:
    assert seeds_needed(effect, 1.0, paired) == needed
    assert seeds_needed(-30 * effect, 30.0, paired) == needed


def test_power_by_simulation() -> None:
    rng = np.random.default_rng(0)
    n = int(seeds_needed(1.0, 1.0))
    draws = rng.normal(1.0, 1.0, size=(20_000, n))
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * math.sqrt(n)
    # The 97.5 % quantile of t with 9 degrees of freedom, from any table
    assert n == 10
    assert (np.abs(t) > 2.262).mean() == pytest.approx(0.803, abs=0.012)


def test_seeds_needed_at_the_ends() -> None:
    # The sign-flip test reaches 0.05 with six pairs (2/64), the exchange of runs with four each (2/70)
    for deviation in (0.0, 1e-9, 0.01, 0.15):
        assert seeds_needed(1.0, deviation) == 6
        assert seeds_needed(1.0, deviation, paired=False) == 4
    # Three comparisons: 3 · 2/128 with seven, 3 · 2/252 with five each; six: 6 · 2/256 with eight, 6 · 2/252 with five each
    assert [seeds_needed(1.0, 0.0, comparisons=n) for n in (3, 6)] == [7, 8]
    assert [seeds_needed(1.0, 0.0, paired=False, comparisons=n) for n in (3, 6)] == [5, 5]
    # What the t-test needs is more than that
    assert seeds_needed(1.0, 1.0, comparisons=6) == seeds_needed(1.0, 1.0) == 10
    # No p-value is below 2/65,537, and 0.05 is 1,638 of these
    assert seeds_needed(1.0, 0.0, comparisons=1_638) == 17 - 1
    assert seeds_needed(1.0, 0.0, comparisons=1_639) == math.inf
    assert seeds_needed(0.0, 1.0) == math.inf
    assert seeds_needed(0.0, 0.0) == math.inf
    assert seeds_needed(0.01, 1.0) == math.inf
    with pytest.raises(ValueError, match="`deviation`"):
        seeds_needed(1.0, math.nan)
    with pytest.raises(ValueError, match="`comparisons` must be a whole number of at least 1, got 0"):
        seeds_needed(1.0, 1.0, comparisons=0)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 20), st.floats(1.01, 3), st.booleans())
def test_larger_differences_need_no_more_seeds(effect: float, factor: float, paired: bool) -> None:
    assert seeds_needed(factor * effect, 1.0, paired) <= seeds_needed(effect, 1.0, paired)


def test_mean_over_tasks_weighs_tasks_not_seeds():
    # Task means 3 and 1. Of the 2^4 sign flips of (4, 2)/2 and (1, 1)/2 one has a sum of 4 or more: p = 2/16, two-sided.
    estimate, p = mean_over_tasks([np.array([4.0, 2.0]), np.array([1.0, 1.0])])
    assert estimate.value == 2.0 and p == pytest.approx(2 / 16)
    # The second task does not vary: the interval is that of the first task's mean, (2, 2) to (4, 4), halved.
    assert (estimate.low, estimate.high) == (1.5, 2.5)
    assert mean_over_tasks([np.zeros(5), np.zeros(3)])[1] == 1.0


def test_adjusted_p_values_by_hand():
    # Benjamini and Hochberg: the i-th smallest times n/i, never above the next one: .03·3/1, .04·3/2, .05·3/3.
    np.testing.assert_allclose(adjust_p([0.04, 0.03, 0.05]), [0.05, 0.05, 0.05])
    np.testing.assert_allclose(adjust_p([0.01, 0.5, 0.02]), [0.03, 0.5, 0.03])
