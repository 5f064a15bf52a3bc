"""Two contenders compared: the difference of their mean scores, its interval and its p-value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.common.checks import check_number
from crashalgos.experiments.comparison.statistics.aggregates import mean_of_means, probability_of_improvement
from crashalgos.experiments.comparison.statistics.bootstrap import N_RESAMPLES, Estimate, bootstrap, check_samples
from crashalgos.experiments.comparison.statistics.permutation import can_reach_alpha, permutation_p

# A difference of this part of the reference range or less counts as none.
_MARGIN = 0.05


@dataclass(frozen=True)
class Pair:
    """
    Statistics of two contenders, a and b, in one environment.

    :param difference: mean score of a minus that of b
    :param low: the lower end of the difference's 95 % interval; NaN with fewer than two runs
    :param high: the upper end
    :param p: the permutation test's p-value, two-sided
    :param q: the p-value adjusted for all tested pairs of a report (``adjust_pairs``); ``p`` before that
    :param improvement: probability that a run of a scores higher than one of b
    :param n_a: number of runs of a that are compared
    :param n_b: number of runs of b; equal to ``n_a`` if paired
    :param paired: whether each run is compared with the run of the same seed
    :param deviation: standard deviation of the paired differences, otherwise the pooled one of the scores; NaN where
        there are too few runs
    :param margin: differences up to it count as none
    :param identical: whether all evaluations of a and b are equal
    :param comparisons: number of pairs of the report that are not identical (``adjust_pairs``), with or without enough seeds
        for a test
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


def compare_scores(
    scores_a: Mapping[int, float],
    scores_b: Mapping[int, float],
    *,
    scale: float,
    identical: bool = False,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Pair:
    """
    Tests whether two contenders differ in their mean score: a permutation test and a bootstrap interval.

    - Paired, if the seeds that both have are at least half of the larger number of seeds. Only these seeds count, and the
      test flips signs of differences.
    - Independent otherwise. All runs of both count, and the test exchanges runs between the two groups. If a group has a
      single run, there is no test (p = 1).

    The choice depends on the seeds alone. The two-sided p-value is twice the smaller one-sided one, and at most 1.

    :param scores_a: a's scores by seed
    :param scores_b: b's scores by seed
    :param scale: the reference range, at least 0. A difference within 5 % of it counts as none
    :param identical: whether every evaluation of a and b is equal on every seed that both have
    :param n_resamples: number of bootstrap resamples
    :param seed: seed of the bootstrap and of drawn permutations
    :return: the pair's statistics
    :raises ValueError: if a contender has no scores, or one that is not finite; if ``scale`` is not a finite number of at
        least 0; if ``identical`` is given for contenders without a common seed, or with different scores
    """
    check_number("scale", scale, low=0.0)
    if math.isinf(scale):
        raise ValueError(f"`scale` must be finite, got {scale!r}")
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        check_samples(name, [np.array(list(scores.values()), dtype=np.float64)])
    common = sorted(scores_a.keys() & scores_b.keys())
    if identical and (not common or any(scores_a[key] != scores_b[key] for key in common)):
        raise ValueError(f"`identical` must be False for scores that are not equal on common seeds: {scores_a}, {scores_b}")
    paired = identical or 2 * len(common) >= max(len(scores_a), len(scores_b))
    a = np.array([scores_a[key] for key in (common if paired else sorted(scores_a))], dtype=np.float64)
    b = np.array([scores_b[key] for key in (common if paired else sorted(scores_b))], dtype=np.float64)
    samples, statistic = ([a - b], _mean) if paired else ([a, b], _difference_of_means)
    difference = bootstrap(samples, statistic, n_resamples, seed).estimate()
    p = permutation_p(samples, statistic, paired, seed)
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
        margin=_MARGIN * scale,
        identical=identical,
    )


def adjust_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """
    Adjusts the p-values of a report for the number of its tests (Benjamini and Hochberg, 1995).

    Tested are the pairs that are not identical and have enough runs to reach α.

    :param pairs: all pairs of the report
    :return: the pairs in their order, with ``comparisons``, and with the adjusted p-value as ``q``; where there is no test,
        ``q`` stays ``p``
    """
    tested = [not pair.identical and can_reach_alpha(pair.n_a, None if pair.paired else pair.n_b) for pair in pairs]
    p = np.array([pair.p for pair in pairs], dtype=np.float64)
    if any(tested):
        p[tested] = benjamini_hochberg(p[tested])
    comparisons = sum(not pair.identical for pair in pairs)
    return [replace(pair, q=float(q), comparisons=comparisons) for pair, q in zip(pairs, p, strict=True)]


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """
    Adjusts p-values so that the false discovery rate holds over all of them (Benjamini and Hochberg, 1995).

    :param p: p-values, shape (n,)
    :return: the adjusted ones, shape (n,)
    """
    return np.asarray(stats.false_discovery_control(np.asarray(p, dtype=np.float64)))


def mean_difference(
    differences: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Estimate, float]:
    """
    Tests whether paired differences in several tasks are 0 on average; every task weighs the same.

    :param differences: for each task the differences of its seeds, shape (n_seeds,)
    :param n_resamples: number of bootstrap resamples, which draw the seeds of each task anew
    :param seed: seed of the bootstrap and of drawn permutations
    :return: the mean of the tasks' means; the two-sided p-value of a test that flips the differences' signs
    :raises ValueError: if there is no task, or one without a difference or with one that is not finite
    """
    samples = check_samples("differences", differences)
    estimate = bootstrap(samples, mean_of_means, n_resamples, seed).estimate()
    weighted = np.concatenate([sample / len(sample) for sample in samples])
    return estimate, permutation_p([weighted], _mean, True, seed)


def _mean(x: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis=axis)


def _difference_of_means(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis=axis) - y.mean(axis=axis)


def _pooled_deviation(samples: Sequence[np.ndarray]) -> float:
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    return math.sqrt(squares / freedom) if freedom else math.nan
