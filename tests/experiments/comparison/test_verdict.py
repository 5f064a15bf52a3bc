"""The verdict on two contenders, a sentence for each case."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashalgos.experiments.comparison import verdict as verdict_module
from crashalgos.experiments.comparison.statistics import compare_scores, seeds_needed
from crashalgos.experiments.comparison.verdict import verdict
from tests.helpers.scores import FEW, by_seed

pytestmark = pytest.mark.filterwarnings("error")


def test_on_identical_runs() -> None:
    pair = compare_scores(by_seed([1.0] * 10), by_seed([1.0] * 10), scale=1.0, identical=True)
    assert verdict(pair, "A", "B") == "A and B are identical: every evaluation on all 10 seeds is the same."
    one = compare_scores({0: 1.0}, {0: 1.0}, scale=1.0, identical=True)
    assert verdict(one, "A", "B") == "A and B are identical: every evaluation on the one seed is the same."
    # Of ten and four seeds the four in common are meant
    some = compare_scores(by_seed(range(10)), by_seed(range(4)), scale=1.0, identical=True)
    assert verdict(some, "A", "B") == "A and B are identical: every evaluation on all 4 seeds is the same."


def test_on_too_few_seeds() -> None:
    def told(a: list[float], b: list[float], first: int = 0) -> str:
        return verdict(compare_scores(by_seed(a), by_seed(b, first), scale=1.0), "A", "B")

    start = "Too few seeds to conclude: with "
    # Differences 10, 20, 30: mean 20, deviation 10
    needed = int(seeds_needed(20.0, 10.0))
    assert told([10.0, 20.0, 30.0], [0.0] * 3) == (
        f"{start}3, the smallest p possible is 0.25; a difference as large as the one seen (20) would need "
        f"about {needed} seeds."
    )
    assert told([1.5] * 5, [1.5] * 5) == f"{start}5, the smallest p possible is 0.0625; no difference was seen."
    assert told([2.0] * 5, [1.5] * 5).endswith("(0.5) would need about 6 seeds.")
    assert told([2.0], [1.5]) == f"{start}1, the smallest p possible is 1; the difference seen is 0.5."
    assert told([2.0, 2.0], [1.5] * 3, first=9) == (
        f"{start}2 and 3, the smallest p possible is 0.2; a difference as large as the one seen (0.5) would need "
        "about 4 seeds each."
    )
    assert told([100.0, -100.0, 1.0], [0.0] * 3).endswith("(0.333) would need more than 1,000 seeds.")

    # Of six comparisons the pair may be the only one that differs: 6 · 2/2^8 is below 0.05, 6 · 2/2^7 is not
    pair = compare_scores(by_seed([2.0] * 5), by_seed([1.5] * 5), scale=1.0)
    assert verdict(replace(pair, comparisons=6), "A", "B").endswith("(0.5) would need about 8 seeds.")


def test_it_names_the_better_one_first() -> None:
    better, worse = by_seed(np.arange(8) + 100.0), by_seed(np.arange(8.0))
    sentences = {
        verdict(compare_scores(better, worse, scale=10.0), "A", "B"),
        verdict(compare_scores(worse, better, scale=10.0), "B", "A"),
    }
    # p = 2/2^8
    assert sentences == {
        "A is better than B: by 100 (95 % interval 100 to 100), p = 0.00781, 8 paired seeds; "
        "probability of improvement 1.00 (1.00 to 1.00)."
    }
    independent = compare_scores(by_seed(np.arange(8.0) + 5.5), by_seed(np.arange(9.0), first=20), scale=10.0)
    assert "8 and 9 seeds, not paired" in verdict(independent, "A", "B")
    assert "9 and 8 seeds, not paired" in verdict(replace(independent, difference=-1.0), "A", "B")


def test_it_says_when_a_sure_difference_is_small() -> None:
    pair = compare_scores(by_seed([1.0] * 12), by_seed([0.0] * 12), scale=100.0)
    sentence = verdict(pair, "A", "B")
    assert sentence.startswith("A is better than B: by 1 (95 % interval 1 to 1), p < 0.001, 12 paired seeds")
    assert sentence.endswith("; all of the interval is within ±5 (5 % of the reference range).")


def test_it_goes_by_the_adjusted_p() -> None:
    pair = compare_scores(by_seed(np.arange(8) + 100.0), by_seed(np.arange(8.0)), scale=10.0)
    assert "p = 0.00781 (adjusted p = 0.04), 8 paired" in verdict(replace(pair, q=0.04), "A", "B")


def test_on_a_difference_that_several_comparisons_leave_open() -> None:
    # p = 2/2^8 = 0.0078125, and seven times that is 0.0546875; with nine seeds it would be 7 · 2/2^9 = 0.027
    better, worse = by_seed(np.arange(8) + 100.0), by_seed(np.arange(8.0))
    sentences = {
        verdict(replace(compare_scores(*scores, scale=10.0), q=7 * 2 / 2**8, comparisons=7), *names)
        for scores, names in (((better, worse), ("A", "B")), ((worse, better), ("B", "A")))
    }
    assert sentences == {
        "A scores higher than B by 100 (95 % interval 100 to 100), p = 0.00781, but that is not sure among 7 comparisons "
        "(adjusted p = 0.0547); about 9 seeds would do."
    }
    # For two comparisons seven seeds are the fewest, 2 · 2/2^7 = 0.031: eight are enough by that
    pair = compare_scores(better, worse, scale=10.0)
    assert verdict(replace(pair, q=0.05, comparisons=2), "A", "B").endswith("(adjusted p = 0.05); a few more seeds may do.")
    assert verdict(replace(pair, q=0.05, comparisons=2, margin=100.0), "A", "B").endswith(
        "; a few more seeds may do; all of the interval is within ±100 (5 % of the reference range)."
    )
    # 2/C(8, 4) = 2/70, twice that is 0.057; 2 · 2/C(10, 5) = 4/252 with five each
    independent = compare_scores(by_seed([9.0] * 4), by_seed([1.0] * 4, first=9), scale=1.0)
    assert verdict(replace(independent, q=2 * 2 / 70, comparisons=2), "A", "B") == (
        "A scores higher than B by 8 (95 % interval 8 to 8), p = 0.0286, but that is not sure among 2 comparisons "
        "(adjusted p = 0.0571); about 5 seeds each would do."
    )


def test_on_no_difference_needs_the_interval_within_the_margin() -> None:
    a = by_seed([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    zeros = by_seed([0.0] * 8)
    within = compare_scores(a, zeros, scale=100.0)
    assert verdict(within, "A", "B") == (
        f"No difference between A and B: 0 (95 % interval {within.low:.3g} to {within.high:.3g}), within ±5 (5 % of the "
        "reference range); p = 1."
    )
    outside = verdict(compare_scores(a, zeros, scale=1.0), "A", "B")
    assert outside.startswith("No difference found between A and B: 0 (95 % interval ")
    # The difference seen is below the margin of 0.05: deviation 1.07 / 0.05 needs thousands
    assert outside.endswith("; more than 1,000 seeds would show one of 0.05 (5 % of the reference range).")
    assert "p = 1; the interval does not exclude differences up to 0.75; " in outside
    assert verdict(compare_scores(a, zeros, scale=0.0), "A", "B").endswith("; the means are equal.")


def test_on_an_open_difference_says_how_many_seeds() -> None:
    differences = [3.0, -1.0, 2.0, -2.0, 1.0, 3.0]
    pair = compare_scores(by_seed(differences), by_seed([0.0] * 6), scale=1.0)
    needed = int(seeds_needed(1.0, float(np.std(differences, ddof=1))))
    assert verdict(pair, "A", "B") == (
        f"No difference found between A and B: 1 (95 % interval {pair.low:.3g} to {pair.high:.3g}), p = {pair.p:.3g}; the "
        f"interval does not exclude differences up to {pair.high:.3g}; about {needed} seeds would show one as large as the "
        "one seen."
    )
    # Enough by the t-test; but the signs as seen and those with the last one turned are 2 of 2^6 at this end: p = 4/64
    near = compare_scores(by_seed([3.0, 3.0, 3.0, 3.0, 3.0, -0.1]), by_seed([0.0] * 6), scale=1.0)
    sentence = verdict(replace(near, q=0.2, comparisons=2), "A", "B")
    # For two comparisons seven seeds are the fewest, 2 · 2/2^7 = 0.031
    assert sentence.startswith("No difference found between A and B: 2.48 ") and "p = 0.0625 (adjusted p = 0.2); " in sentence
    assert sentence.endswith("; about 7 seeds would show one as large as the one seen.")
    assert verdict(near, "A", "B").endswith("; a few more seeds may show one as large as the one seen.")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-1e-12, "0"), (1234567.8, "1,234,568"), (412.34, "412"), (99.96, "100"), (1.0, "1"), (-0.05012, "-0.0501")],
)
def test_numbers_are_readable(value: float, text: str) -> None:
    assert verdict_module._number(value) == text


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.integers(0, 9), st.floats(-1e3, 1e3), min_size=1),
    st.dictionaries(st.integers(0, 9), st.floats(-1e3, 1e3), min_size=1),
)
def test_every_pair_has_a_verdict(a: dict[int, float], b: dict[int, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentence = verdict(compare_scores(a, b, scale=100.0, n_resamples=FEW), "first", "second")
    assert sentence.endswith(".")
    assert "nan" not in sentence
    assert "inf" not in sentence
