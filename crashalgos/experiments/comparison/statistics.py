"""
What the scores of several runs say: aggregates, curves, and pairs, each with its uncertainty.

A *score* is one number a run. *Samples* are one flat array of scores for each task (environment), of any lengths. The
aggregates are those of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(https://arxiv.org/abs/2108.13264). Intervals are 95 % percentile intervals of a stratified bootstrap, which draws the runs
of each task anew, with replacement. With few runs (below about ten) the percentile bootstrap is too narrow: it then covers
the truth in clearly less than 95 % of the cases. Everything is seeded: the same scores give the same numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.common.checks import check_count, check_number

ALPHA = 0.05
POWER = 0.8
# What counts as no difference, as a part of the reference range.
MARGIN = 0.05
N_RESAMPLES = 10_000
# For bands, which are only looked at.
N_BAND_RESAMPLES = 2_000
# Up to so many permutations all of them are tried, otherwise so many drawn ones: exact up to 16 paired seeds.
N_PERMUTATIONS = 2**16
# The largest number of seeds that is still worth naming.
MOST_SEEDS = 1_000
# So many numbers one batch of resamples may hold: 8 MiB.
_BATCH_VALUES = 2**20

NOTE = (
    "The IQM (interquartile mean) is the mean of the middle half of all runs; median and mean are those of the environments' "
    "mean scores, the optimality gap is how far the scores, cut at 1, stay below 1 on average, and a performance profile is "
    "the share of runs above each score (Agarwal et al., 2021, https://arxiv.org/abs/2108.13264). "
    "Intervals and bands are 95 % percentile intervals of a bootstrap that draws the runs of each environment anew; with "
    "fewer than about ten runs they are too narrow. "
    "Two contenders are compared by a permutation test of the mean difference, which flips the signs of the differences where "
    "both ran the same seeds, and exchanges the runs where they did not; several comparisons are judged by p-values adjusted "
    "for the false discovery rate (Benjamini–Hochberg), below 0.05, over all pairs that are tested: those that are not "
    "identical, and have seeds enough to come below 0.05 at all. "
    "The probability of improvement is the chance that a run of one contender scores higher than a run of the other, ties "
    "counting half. "
    "“No difference” is said only where the whole interval lies within ±5 % of the reference range, and the number of seeds "
    "that a difference would need is that of a t-test at 0.05 with 80 % power, but never so few that the permutation test's "
    "smallest p-value would not outlast the adjustment, were the pair the only one that differs."
)


@dataclass(frozen=True)
class Estimate:
    """
    :param value: the estimate
    :param low: the lower end of its 95 % interval; NaN if a task has but one run
    :param high: the upper end
    """

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """
    Estimates at several points, with intervals for each point on its own.

    :param value: the estimates, shape (n_points,)
    :param low: the lower ends of the 95 % intervals, shape (n_points,); NaN if a task has but one run
    :param high: the upper ends, shape (n_points,)
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Reached:
    """
    :param n_reached: how many runs reached the threshold
    :param n_runs: how many runs there are
    :param median: the median over all runs, ``inf`` where half of them or more did not reach it
    """

    n_reached: int
    n_runs: int
    median: float


@dataclass(frozen=True)
class Pair:
    """
    Two contenders, a and b, in one environment.

    :param difference: mean score of a minus that of b
    :param low: the lower end of the difference's 95 % interval; NaN with fewer than two runs
    :param high: the upper end
    :param p: the permutation test's p-value, two-sided
    :param q: the same, adjusted for all pairs of a report that are tested (``adjust``); until then ``p``
    :param improvement: probability that a run of a scores higher than one of b
    :param n_a: how many runs of a are compared
    :param n_b: how many of b; equal to ``n_a`` if paired
    :param paired: whether run is compared with run of the same seed
    :param deviation: standard deviation of the paired differences, otherwise the pooled one of the scores; NaN where
        there are too few runs
    :param margin: differences up to it count as none
    :param identical: whether all evaluations of a and b are equal
    :param comparisons: how many pairs of the report are not identical (``adjust``): those with too few seeds too, which would
        be tested with more
    """

    difference: float
    low: float
    high: float
    p: float
    q: float
    improvement: Estimate
    n_a: int
    n_b: int
    paired: bool
    deviation: float
    margin: float
    identical: bool
    comparisons: int = 1


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    Interquartile mean: a quarter of the scores, rounded down, is left out at either end (Agarwal et al., 2021, section 4.3).

    :param scores: any shape; with fewer than four scores none is left out
    :param axis: that of the runs
    :return: the means, without that axis
    """
    return np.asarray(stats.trim_mean(scores, 0.25, axis=axis))


def aggregate(samples: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """
    The four aggregates of normalised scores (Agarwal et al., 2021, section 4.3).

    With different numbers of runs each run weighs the same in IQM and optimality gap, each task the same in median and mean.

    :param samples: the scores, shape (n_runs,) for each task
    :param n_resamples: of the bootstrap
    :param seed: of the bootstrap
    :return: "IQM" of all runs of all tasks; "median" and "mean" over tasks of the tasks' means; "optimality gap",
        1 − mean(min(score, 1)) of all runs
    :raises ValueError: if there is no task, or one without runs, or a score is not finite
    """
    band = _bootstrap(_check_samples("samples", samples), _aggregates, n_resamples, seed)
    return {name: _estimate(band, i) for i, name in enumerate(("IQM", "median", "mean", "optimality gap"))}


def probability_of_improvement(
    samples_x: Sequence[np.ndarray], samples_y: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """
    Mean over tasks of P(X > Y) + ½ P(X = Y), the Mann–Whitney statistic over n_x n_y (Agarwal et al., 2021, section 4.3).

    :param samples_x: scores of the one, shape (n_x,) for each task
    :param samples_y: scores of the other, shape (n_y,) for each task, in the same order of tasks
    :param n_resamples: of the bootstrap, which draws from both
    :param seed: of the bootstrap
    :return: the probability; where all x lie above all y its interval is [1, 1], however few runs there are
    :raises ValueError: if there is no task, not the same number of them, one without runs, or a score is not finite
    """
    x, y = _check_samples("samples_x", samples_x), _check_samples("samples_y", samples_y)
    if len(x) != len(y):
        raise ValueError(f"`samples_y` must have as many tasks as `samples_x`, {len(x)}, got {len(y)}")
    return _estimate(_bootstrap([*x, *y], _improvement, n_resamples, seed))


def performance_profile(
    samples: Sequence[np.ndarray], thresholds: np.ndarray, n_resamples: int = N_BAND_RESAMPLES, seed: int = 0
) -> Band:
    """
    Share of the runs whose score is above τ, mean over tasks (Agarwal et al., 2021, section 4.2, run-score distribution).

    :param samples: the scores, shape (n_runs,) for each task
    :param thresholds: τ, shape (n_thresholds,)
    :param n_resamples: of the bootstrap
    :param seed: of the bootstrap
    :return: the shares at each τ
    :raises ValueError: if there is no task, or one without runs, a score is not finite, or ``thresholds`` is not flat
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or len(thresholds) == 0:
        raise ValueError(f"`thresholds` must be flat and not empty, got shape {thresholds.shape}")
    above = [(scores > thresholds[:, None]).astype(np.float64) for scores in _check_samples("samples", samples)]
    return _bootstrap(above, _mean_of_means, n_resamples, seed)


def curve(values: np.ndarray | Sequence[np.ndarray], n_resamples: int = N_BAND_RESAMPLES, seed: int = 0) -> Band:
    """
    IQM at each point of a learning curve (sample efficiency).

    :param values: one task's values, shape (n_runs, n_points), or a sequence of such arrays, one for each task, with the same
        points; then the IQM is that of all runs of all tasks
    :param n_resamples: of the bootstrap, which draws whole runs
    :param seed: of the bootstrap
    :return: the IQM at each point
    :raises ValueError: if there are no values, the points differ in number, or a value is not finite
    """
    one_task = isinstance(values, np.ndarray) and values.ndim == 2
    tasks = [np.asarray(task, dtype=np.float64) for task in ([values] if one_task else values)]
    shapes = [task.shape for task in tasks]
    if not tasks or any(task.ndim != 2 or task.size == 0 or task.shape[1] != tasks[0].shape[-1] for task in tasks):
        raise ValueError(f"`values` must be of shape (n_runs, n_points) for each task, equal in n_points, got {shapes}")
    if not all(np.isfinite(task).all() for task in tasks):
        raise ValueError("`values` must be finite, got NaN or infinity")
    return _bootstrap([task.T for task in tasks], _pooled_iqm, n_resamples, seed)


def on_common_times(
    seconds: Sequence[np.ndarray], returns: Sequence[np.ndarray], n_times: int = 101
) -> tuple[np.ndarray, np.ndarray]:
    """
    Wall-clock curves: each run's return as a step function of its training seconds, read at times that all runs share.

    The value at a time is that of the last evaluation made so far; before the first one, that of the first.

    :param seconds: for each run the training seconds at its evaluations, shape (n_evaluations,), never falling
    :param returns: for each run the mean returns of these evaluations, shape (n_evaluations,)
    :param n_times: how many times
    :return: the times, shape (n_times,), evenly from 0 to the end of the shortest run; the values, shape (n_runs, n_times)
    :raises ValueError: if there is no run, or one whose seconds and returns do not fit or fall
    """
    check_count("n_times", n_times)
    runs = _check_runs("seconds", seconds, returns)
    for own_seconds, _ in runs:
        if (np.diff(own_seconds) < 0).any():
            raise ValueError(f"`seconds` must not fall within a run, got {own_seconds!r}")
    times = np.linspace(0.0, min(own_seconds[-1] for own_seconds, _ in runs), n_times)
    values = [
        own_returns[np.maximum(np.searchsorted(own_seconds, times, side="right") - 1, 0)] for own_seconds, own_returns in runs
    ]
    return times, np.stack(values)


def time_to_threshold(at: Sequence[np.ndarray], returns: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """
    When each run's mean evaluated return first reaches a threshold.

    :param at: for each run the steps or seconds of its evaluations, shape (n_evaluations,)
    :param returns: for each run the mean returns of these evaluations, shape (n_evaluations,)
    :param threshold: the return to be reached
    :return: the first ``at`` whose return is at least ``threshold``, shape (n_runs,); ``inf`` where there is none
    :raises ValueError: if there is no run, or one whose two arrays do not fit
    """
    check_number("threshold", threshold)
    runs = _check_runs("at", at, returns)
    return np.array([min(own_at[own_returns >= threshold], default=math.inf) for own_at, own_returns in runs])


def summarize_times(times: np.ndarray) -> Reached:
    """
    :param times: what ``time_to_threshold`` returns, shape (n_runs,)
    :return: how many runs reached the threshold, and the median time of all
    :raises ValueError: if there are no runs
    """
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(f"`times` must be flat and not empty, got shape {times.shape}")
    return Reached(int(np.isfinite(times).sum()), len(times), float(np.median(times)))


def compare(
    scores_a: Mapping[int, float],
    scores_b: Mapping[int, float],
    *,
    scale: float,
    identical: bool = False,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Pair:
    """
    Whether two contenders differ in their mean score: a permutation test and a bootstrap interval.

    Paired, on the seeds that both have, where these are at least half of the larger number of seeds: the test flips signs
    of differences. Otherwise all runs of both are two independent groups, and the test exchanges runs between them. The
    choice depends on the seeds alone. The two-sided p-value is twice the smaller one-sided one, and at most 1. Two groups
    of which one has a single run are not tested (p = 1).

    :param scores_a: a's scores by seed
    :param scores_b: b's scores by seed
    :param scale: the reference range, at least 0; 5 % of it is the margin within which a difference counts as none
    :param identical: whether every evaluation of a and b is equal on every seed that both have
    :param n_resamples: of the bootstrap
    :param seed: of the bootstrap and of drawn permutations
    :return: what was found
    :raises ValueError: if a contender has no scores or one that is not finite, ``scale`` is not a finite number of at
        least 0, or ``identical`` is said of contenders that have no seed in common, or different scores
    """
    check_number("scale", scale, low=0.0)
    if math.isinf(scale):
        raise ValueError(f"`scale` must be finite, got {scale!r}")
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        _check_samples(name, [np.array(list(scores.values()), dtype=np.float64)])
    common = sorted(scores_a.keys() & scores_b.keys())
    if identical and (not common or any(scores_a[key] != scores_b[key] for key in common)):
        raise ValueError(f"`identical` must be False for scores that are not equal on common seeds: {scores_a}, {scores_b}")
    paired = identical or 2 * len(common) >= max(len(scores_a), len(scores_b))
    a = np.array([scores_a[key] for key in (common if paired else sorted(scores_a))], dtype=np.float64)
    b = np.array([scores_b[key] for key in (common if paired else sorted(scores_b))], dtype=np.float64)
    samples, statistic = ([a - b], _mean) if paired else ([a, b], _difference_of_means)
    difference = _estimate(_bootstrap(samples, statistic, n_resamples, seed))
    p = _permutation_p(samples, statistic, paired, seed)
    return Pair(
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p=p,
        q=p,
        improvement=probability_of_improvement([a], [b], n_resamples, seed),
        n_a=len(a),
        n_b=len(b),
        paired=paired,
        deviation=_pooled_deviation(samples),
        margin=MARGIN * scale,
        identical=identical,
    )


def adjust(pairs: Sequence[Pair]) -> list[Pair]:
    """
    Benjamini and Hochberg's (1995) p-values, which hold the false discovery rate over all pairs of a report that are tested:
    those that are not identical, and have runs enough to reach α.

    :param pairs: all of the report
    :return: the same, in their order, with the adjusted p-value as ``q``, which stays ``p`` where nothing is tested; and with
        the number of those that are not identical as ``comparisons``
    """
    tested = [not pair.identical and can_reach_alpha(pair.n_a, None if pair.paired else pair.n_b) for pair in pairs]
    p = np.array([pair.p for pair in pairs], dtype=np.float64)
    if any(tested):
        p[tested] = adjust_p(p[tested])
    comparisons = sum(not pair.identical for pair in pairs)
    return [replace(pair, q=float(q), comparisons=comparisons) for pair, q in zip(pairs, p, strict=True)]


def adjust_p(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """
    :param p: p-values
    :return: Benjamini and Hochberg's, which hold the false discovery rate over all of them
    """
    return np.asarray(stats.false_discovery_control(np.asarray(p, dtype=np.float64)))


def mean_over_tasks(
    differences: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Estimate, float]:
    """
    Whether paired differences in several tasks are 0 on average, every task weighing the same.

    :param differences: for each task those of its seeds, shape (n_seeds,)
    :param n_resamples: of the bootstrap, which draws the seeds of each task anew
    :param seed: of the bootstrap and of drawn permutations
    :return: the mean of the tasks' means; the two-sided p-value of a test that flips the differences' signs
    :raises ValueError: if there is no task, or one without a difference or with one that is not finite
    """
    samples = _check_samples("differences", differences)
    estimate = _estimate(_bootstrap(samples, _mean_of_means, n_resamples, seed))
    weighted = np.concatenate([sample / len(sample) for sample in samples])
    return estimate, _permutation_p([weighted], _mean, True, seed)


def smallest_p(n_a: int, n_b: int | None = None) -> float:
    """
    The smallest p-value that the permutation test can give for these numbers of runs, two-sided.

    :param n_a: how many paired seeds, or runs of the one
    :param n_b: how many runs of the other, for independent runs
    :return: 2/2^n for pairs, 2/C(n_a + n_b, n_a) for independent runs; more where permutations are drawn, not enumerated
    :raises ValueError: if a number is below 1
    """
    check_count("n_a", n_a)
    if n_b is not None:
        check_count("n_b", n_b)
        if min(n_a, n_b) < 2:
            return 1.0
    n_permutations = 2**n_a if n_b is None else math.comb(n_a + n_b, n_a)
    return 2 / n_permutations if n_permutations <= N_PERMUTATIONS else 2 / (N_PERMUTATIONS + 1)


def can_reach_alpha(n_a: int, n_b: int | None = None) -> bool:
    """
    :param n_a: how many paired seeds, or runs of the one
    :param n_b: how many runs of the other, for independent runs
    :return: whether the permutation test can give a p-value below 0.05
    """
    return smallest_p(n_a, n_b) < ALPHA


def seeds_needed(difference: float, deviation: float, paired: bool = True, comparisons: int = 1) -> float:
    """
    How many seeds a t-test needs for 80 % power at α = 0.05, two-sided (noncentral t; Cohen, 1988, chapter 2).

    Never fewer than the permutation test needs to give a p-value that, times ``comparisons``, is below α: so adjusted, it is
    below α even if the pair is the only one of the report that differs. The t-test's own α is not adjusted.

    :param difference: the mean difference to be found, of either sign
    :param deviation: standard deviation of the paired differences; for independent runs that of the scores
    :param paired: whether seeds are paired; otherwise the number is that of each contender
    :param comparisons: how many pairs the p-value is adjusted for
    :return: the number; ``inf`` if it is above ``MOST_SEEDS``, or no number is enough for so many comparisons
    :raises ValueError: if ``difference`` is not finite, ``deviation`` is negative or not finite, or ``comparisons`` is below 1
    """
    check_number("difference", difference)
    check_number("deviation", deviation, low=0.0)
    check_count("comparisons", comparisons)
    enough_runs = (n for n in range(2, MOST_SEEDS + 1) if smallest_p(n, None if paired else n) * comparisons < ALPHA)
    fewest = next(enough_runs, None)
    if difference == 0 or fewest is None:
        return math.inf
    if abs(difference) >= 5 * deviation:
        return float(fewest)
    n = np.arange(fewest, MOST_SEEDS + 1)
    effect = abs(difference) / deviation
    freedom, shift = (n - 1, effect * np.sqrt(n)) if paired else (2 * n - 2, effect * np.sqrt(n / 2))
    critical = stats.t.isf(ALPHA / 2, freedom)
    # The chance of the wrong sign is left out: it is below 0.0001 where the power is 80 %, and SciPy's lower tail underflows
    power = stats.nct.sf(critical, freedom, shift)
    enough = n[power >= POWER]
    return float(enough[0]) if len(enough) else math.inf


Statistic = Callable[..., np.ndarray]


def _aggregates(*samples: np.ndarray, axis: int) -> np.ndarray:
    pooled = np.concatenate(samples, axis=axis)
    means = np.stack([scores.mean(axis=axis) for scores in samples])
    gap = 1.0 - np.minimum(pooled, 1.0).mean(axis=axis)
    return np.stack([iqm(pooled, axis), np.median(means, axis=0), means.mean(axis=0), gap])


def _improvement(*samples: np.ndarray, axis: int) -> np.ndarray:
    n_tasks = len(samples) // 2
    signs = [
        np.sign(x[..., :, None] - y[..., None, :]).mean(axis=(-2, -1))
        for x, y in zip(samples[:n_tasks], samples[n_tasks:], strict=True)
    ]
    return 0.5 + 0.5 * np.mean(signs, axis=0)


def _mean_of_means(*samples: np.ndarray, axis: int) -> np.ndarray:
    return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)


def _pooled_iqm(*samples: np.ndarray, axis: int) -> np.ndarray:
    return iqm(np.concatenate(samples, axis=axis), axis)


def _mean(x: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis=axis)


def _difference_of_means(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis=axis) - y.mean(axis=axis)


def _bootstrap(samples: Sequence[np.ndarray], statistic: Statistic, n_resamples: int, seed: int) -> Band:
    """
    :param samples: the strata, shape (..., n_runs), the runs last
    :param statistic: a function of all strata and ``axis``; its result may have axes before those of the strata
    :param n_resamples: how many resamples
    :param seed: of their choice
    :return: the statistic with its interval, NaN if a stratum has one run, and the value itself where no stratum varies
    """
    check_count("n_resamples", n_resamples)
    value = np.asarray(statistic(*samples, axis=-1))
    if min(sample.shape[-1] for sample in samples) < 2:
        return Band(value, np.full_like(value, math.nan), np.full_like(value, math.nan))
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_VALUES // sum(sample.size for sample in samples)),
        vectorized=True,
        axis=-1,
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # Summed in another order, equal numbers may give another last digit
    constant = np.all([np.ptp(sample, axis=-1) == 0 for sample in samples], axis=0)
    return Band(value, np.where(constant, value, interval.low), np.where(constant, value, interval.high))


def _estimate(band: Band, index: int | tuple[()] = ()) -> Estimate:
    return Estimate(float(band.value[index]), float(band.low[index]), float(band.high[index]))


def _permutation_p(samples: Sequence[np.ndarray], statistic: Statistic, paired: bool, seed: int) -> float:
    if min(map(len, samples)) < 2 or not (np.any(samples[0]) if paired else np.ptp(np.concatenate(samples))):
        return 1.0
    result = stats.permutation_test(
        samples,
        statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=N_PERMUTATIONS,
        batch=max(1, _BATCH_VALUES // sum(map(len, samples))),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _pooled_deviation(samples: Sequence[np.ndarray]) -> float:
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    return math.sqrt(squares / freedom) if freedom else math.nan


def _check_samples(name: str, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [np.asarray(scores, dtype=np.float64) for scores in samples]
    if not arrays or any(scores.ndim != 1 or len(scores) == 0 for scores in arrays):
        shapes = [scores.shape for scores in arrays]
        raise ValueError(f"`{name}` must hold a flat array for each task, none empty, got the shapes {shapes}")
    if not all(np.isfinite(scores).all() for scores in arrays):
        raise ValueError(f"`{name}` must be finite, got {arrays!r}")
    return arrays


def _check_runs(
    name: str, positions: Sequence[np.ndarray], returns: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [
        (np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64))
        for at, values in zip(positions, returns, strict=False)
    ]
    if not pairs or len(positions) != len(returns) or any(x.ndim != 1 or x.shape != y.shape or not len(x) for x, y in pairs):
        raise ValueError(f"`{name}` and `returns` must hold flat arrays of equal lengths for the same runs, none empty")
    if not all(np.isfinite(x).all() and np.isfinite(y).all() for x, y in pairs):
        raise ValueError(f"`{name}` and `returns` must be finite, got {pairs!r}")
    return pairs
