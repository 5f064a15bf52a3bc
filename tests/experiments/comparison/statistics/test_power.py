"""The number of seeds that a difference needs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashalgos.experiments.comparison.statistics import Pair, adjust_pairs, compare_scores, seeds_needed
from tests.helpers.scores import FEW, by_seed

pytestmark = pytest.mark.filterwarnings("error")


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


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("comparisons", [1, 2, 3, 7, 20])
def test_a_pair_that_alone_differs_outlasts_the_adjustment(paired: bool, comparisons: int) -> None:
    def alone(n: int) -> Pair:
        differs = compare_scores(
            by_seed([1.0] * n), by_seed([0.0] * n, first=0 if paired else 100), scale=1.0, n_resamples=FEW
        )
        none = compare_scores(by_seed([1.0] * 9), by_seed([1.0] * 9), scale=1.0, n_resamples=FEW)
        return adjust_pairs([differs, *[none] * (comparisons - 1)])[0]

    needed = int(seeds_needed(1.0, 0.0, paired, comparisons))
    assert alone(needed).q < 0.05 and alone(needed).comparisons == comparisons
    assert alone(needed - 1).q >= 0.05
