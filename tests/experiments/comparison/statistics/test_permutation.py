"""The permutation test against brute force, and its smallest p-value."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashalgos.experiments.comparison.statistics import compare_scores, permutation, smallest_p
from tests.helpers.scores import FEW, by_seed

pytestmark = pytest.mark.filterwarnings("error")

WHOLE = st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=6)


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


@settings(max_examples=40, deadline=None)
@given(WHOLE)
def test_paired_p_by_enumeration(differences: list[float]) -> None:
    pair = compare_scores(by_seed(differences), by_seed([0.0] * len(differences)), scale=1.0, n_resamples=FEW)
    assert pair.paired
    assert pair.p == pytest.approx(sign_flip_p(np.array(differences)))
    assert pair.p >= smallest_p(len(differences))


@settings(max_examples=40, deadline=None)
@given(WHOLE, WHOLE)
def test_independent_p_by_enumeration(a: list[float], b: list[float]) -> None:
    pair = compare_scores(by_seed(a), by_seed(b, first=100), scale=1.0, n_resamples=FEW)
    assert not pair.paired
    assert pair.p == pytest.approx(exchange_p(np.array(a), np.array(b)))
    assert pair.p >= smallest_p(len(a), len(b)) - 1e-12


def test_drawn_permutations_are_near_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.array([3.0, -1.0, 2.0, 5.0, -2.0, 4.0, 1.0, -4.0, 6.0, 2.5])
    exact = sign_flip_p(differences)
    monkeypatch.setattr(permutation, "N_PERMUTATIONS", 1_000)
    drawn = compare_scores(by_seed(differences), by_seed([0.0] * 10), scale=1.0).p
    # Four standard errors of twice a share of 1,000
    assert drawn == pytest.approx(exact, abs=4 * 2 * math.sqrt(exact / 2 / 1_000))
    assert drawn != exact
    assert smallest_p(10) == 2 / 1_001


def test_smallest_p_by_hand() -> None:
    assert [smallest_p(n) for n in (1, 2, 3, 5, 6)] == [1.0, 0.5, 0.25, 0.0625, 0.03125]
    assert smallest_p(3, 3) == pytest.approx(2 / 20)
    assert smallest_p(4, 2) == smallest_p(2, 4) == pytest.approx(2 / 15)
    assert smallest_p(1, 99) == 1.0
    assert smallest_p(60) == 2 / (2**16 + 1)
    with pytest.raises(ValueError, match="`n_a` must be a whole number of at least 1, got 0"):
        smallest_p(0)
