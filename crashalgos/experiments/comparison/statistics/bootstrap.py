"""
Intervals: 95 % percentile intervals of a stratified bootstrap.

A resample draws the runs of each task anew, with replacement. With fewer than about ten runs the percentile bootstrap is too
narrow: it covers the truth in clearly less than 95 % of the cases.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.common.checks import check_count

ALPHA = 0.05
N_RESAMPLES = 10_000
# Bands are only looked at: fewer resamples do.
N_BAND_RESAMPLES = 2_000
# The most numbers in one batch of resamples, or of permutations: 8 MiB.
BATCH_VALUES = 2**20

#: A function of all samples and ``axis``, the axis of the runs. Its result may have more axes in front.
Statistic = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """
    A number with its 95 % interval.

    :param value: the estimate
    :param low: the lower end of its interval; NaN if a task has only one run
    :param high: the upper end
    """

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """
    Estimates at several points, each point with an interval of its own.

    :param value: the estimates, shape (n_points,)
    :param low: the lower ends of the 95 % intervals, shape (n_points,); NaN if a task has only one run
    :param high: the upper ends, shape (n_points,)
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def estimate(self, index: int | tuple[()] = ()) -> Estimate:
        """
        Returns the estimate at one point.

        :param index: the point; ``()`` where the arrays have no axis
        :return: the estimate with its interval
        """
        return Estimate(float(self.value[index]), float(self.low[index]), float(self.high[index]))


def bootstrap(samples: Sequence[np.ndarray], statistic: Statistic, n_resamples: int, seed: int) -> Band:
    """
    Returns a statistic with its bootstrap interval.

    :param samples: one array for each task, shape (..., n_runs)
    :param statistic: the statistic of all samples
    :param n_resamples: number of resamples
    :param seed: seed of the resamples
    :return: the statistic with its interval. The interval is NaN if a task has one run, and the value itself where no sample
        varies
    """
    check_count("n_resamples", n_resamples)
    value = np.asarray(statistic(*samples, axis=-1))
    if min(sample.shape[-1] for sample in samples) < 2:
        return Band(value, np.full_like(value, math.nan), np.full_like(value, math.nan))
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=n_resamples,
        batch=max(1, BATCH_VALUES // sum(sample.size for sample in samples)),
        vectorized=True,
        axis=-1,
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # Summed in another order, equal numbers may give another last digit.
    constant = np.all([np.ptp(sample, axis=-1) == 0 for sample in samples], axis=0)
    return Band(value, np.where(constant, value, interval.low), np.where(constant, value, interval.high))


def check_samples(name: str, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """
    Checks one array of scores for each task.

    :param name: the argument's name, for the error
    :param samples: the scores, shape (n_runs,) for each task
    :return: the samples as float64
    :raises ValueError: if there is no task, one without runs, or a score that is not finite
    """
    arrays = [np.asarray(scores, dtype=np.float64) for scores in samples]
    if not arrays or any(scores.ndim != 1 or len(scores) == 0 for scores in arrays):
        shapes = [scores.shape for scores in arrays]
        raise ValueError(f"`{name}` must hold a flat array for each task, none empty, got the shapes {shapes}")
    if not all(np.isfinite(scores).all() for scores in arrays):
        raise ValueError(f"`{name}` must be finite, got {arrays!r}")
    return arrays
