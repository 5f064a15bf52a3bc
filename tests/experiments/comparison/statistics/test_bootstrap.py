"""The bootstrap's intervals, seen through the functions that use it."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from crashalgos.experiments.comparison.statistics import (
    Estimate,
    aggregate,
    bootstrap,
    iqm_curve,
    performance_profile,
    probability_of_improvement,
)
from tests.helpers.scores import arrays

pytestmark = pytest.mark.filterwarnings("error")


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
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 1_000)
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
    band = iqm_curve(np.full((7, 4), value))
    np.testing.assert_array_equal(band.low, band.value)
    np.testing.assert_array_equal(band.high, band.value)


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
