"""Two contenders compared: numbers by hand, pairing by seeds, adjusted p-values."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashalgos.experiments.comparison.statistics import (
    Estimate,
    adjust_pairs,
    benjamini_hochberg,
    compare_scores,
    mean_difference,
)
from tests.helpers.scores import FEW, by_seed

pytestmark = pytest.mark.filterwarnings("error")

WHOLE = st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=6)


@settings(max_examples=25, deadline=None)
@given(WHOLE, WHOLE, st.booleans())
def test_reversed_pairs_mirror(a: list[float], b: list[float], paired: bool) -> None:
    n = min(len(a), len(b))
    x, y = by_seed(a[:n]), by_seed(b[:n], first=0 if paired else 50)
    forth, back = (compare_scores(*scores, scale=1.0, n_resamples=FEW) for scores in ((x, y), (y, x)))
    assert forth.p == pytest.approx(back.p)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.improvement.value + back.improvement.value == pytest.approx(1)
    assert forth.deviation == pytest.approx(back.deviation)


def test_paired_numbers_by_hand() -> None:
    # Differences 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14 over 3; all positive: p = 2/16
    pair = compare_scores({0: 2.0, 1: 4.0, 2: 5.0, 3: 7.0}, {3: 1.0, 2: 2.0, 1: 2.0, 0: 1.0}, scale=40.0)
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
    pair = compare_scores({0: 3.0, 1: 5.0}, {7: 0.0, 8: 1.0, 9: 2.0}, scale=0.0)
    assert pair.difference == 3.0
    assert pair.p == pytest.approx(2 / 10)
    assert pair.deviation == pytest.approx(math.sqrt(4 / 3))
    assert (pair.n_a, pair.n_b, pair.paired) == (2, 3, False)
    assert pair.improvement == Estimate(1.0, 1.0, 1.0)


def test_pairs_need_half_of_the_seeds_in_common() -> None:
    nine_of_ten = compare_scores(by_seed(range(10)), by_seed(range(9)), scale=1.0)
    assert (nine_of_ten.paired, nine_of_ten.n_a, nine_of_ten.n_b) == (True, 9, 9)
    assert nine_of_ten.difference == 0.0
    half = compare_scores(by_seed(range(4)), by_seed(range(4), first=2), scale=1.0)
    assert (half.paired, half.n_a) == (True, 2)
    four_of_ten = compare_scores(by_seed(range(10)), by_seed(range(4)), scale=1.0)
    assert (four_of_ten.paired, four_of_ten.n_a, four_of_ten.n_b) == (False, 10, 4)


def test_equal_scores_differ_by_nothing() -> None:
    for b in (by_seed([0.1] * 7), by_seed([0.1] * 7, first=50)):
        pair = compare_scores(by_seed([0.1] * 7), b, scale=1.0)
        assert (pair.difference, pair.low, pair.high, pair.p) == (0.0, 0.0, 0.0, 1.0)
        assert pair.improvement == Estimate(0.5, 0.5, 0.5)


def test_one_run_is_no_test() -> None:
    for a, b in ((by_seed([1.0]), by_seed([3.0])), (by_seed([1.0]), by_seed([3.0, 4.0, 5.0], first=9))):
        pair = compare_scores(a, b, scale=1.0)
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
        compare_scores(a, b, **options)


def test_adjusted_p_by_hand() -> None:
    # Benjamini–Hochberg: 0.01 · 4/1, 0.02 · 4/2, 0.03 · 4/3, 0.5 · 4/4, never above the next
    some = compare_scores(by_seed(range(6)), by_seed([0.0] * 6), scale=1.0)
    pairs = [replace(some, p=p) for p in (0.5, 0.01, 0.03, 0.02)]
    assert [pair.q for pair in adjust_pairs(pairs)] == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert [pair.p for pair in adjust_pairs(pairs)] == [0.5, 0.01, 0.03, 0.02]
    assert adjust_pairs([]) == []
    assert adjust_pairs([replace(some, p=0.3)])[0].q == pytest.approx(0.3)
    assert [pair.comparisons for pair in (some, *adjust_pairs(pairs))] == [1, 4, 4, 4, 4]


def test_adjusted_over_what_is_tested() -> None:
    # Tested: six pairs of seeds, and four and four runs. Not tested: five pairs (2/32), a single run, equal runs
    paired = replace(compare_scores(by_seed(range(6)), by_seed([0.0] * 6), scale=1.0), p=0.04)
    independent = replace(compare_scores(by_seed(range(4)), by_seed(range(4), first=9), scale=1.0), p=0.03)
    five = compare_scores(by_seed([1.0] * 5), by_seed([0.0] * 5), scale=1.0)
    single = compare_scores(by_seed([1.0]), by_seed(range(9), first=9), scale=1.0)
    same = compare_scores(by_seed(range(9)), by_seed(range(9)), scale=1.0, identical=True)
    adjusted = adjust_pairs([five, paired, same, independent, single])
    # 0.03 · 2/1 is above 0.04 · 2/2; the others keep theirs
    assert [pair.q for pair in adjusted] == pytest.approx([0.0625, 0.04, 1.0, 0.04, 1.0])
    # All but the identical one
    assert [pair.comparisons for pair in adjusted] == [4] * 5
    # Nothing to adjust
    assert [(pair.q, pair.comparisons) for pair in adjust_pairs([five, same])] == [(0.0625, 1), (1.0, 1)]
    assert [(pair.q, pair.comparisons) for pair in adjust_pairs([same, same])] == [(1.0, 0), (1.0, 0)]


def test_adjusted_p_values_by_hand():
    # Benjamini and Hochberg: the i-th smallest times n/i, never above the next one: .03·3/1, .04·3/2, .05·3/3.
    np.testing.assert_allclose(benjamini_hochberg([0.04, 0.03, 0.05]), [0.05, 0.05, 0.05])
    np.testing.assert_allclose(benjamini_hochberg([0.01, 0.5, 0.02]), [0.03, 0.5, 0.03])


def test_mean_difference_weighs_tasks_not_seeds():
    # Task means 3 and 1. Of the 2^4 sign flips of (4, 2)/2 and (1, 1)/2 one has a sum of 4 or more: p = 2/16, two-sided.
    estimate, p = mean_difference([np.array([4.0, 2.0]), np.array([1.0, 1.0])])
    assert estimate.value == 2.0 and p == pytest.approx(2 / 16)
    # The second task does not vary: the interval is that of the first task's mean, (2, 2) to (4, 4), halved.
    assert (estimate.low, estimate.high) == (1.5, 2.5)
    assert mean_difference([np.zeros(5), np.zeros(3)])[1] == 1.0
