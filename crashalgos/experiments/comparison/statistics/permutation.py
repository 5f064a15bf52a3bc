"""The permutation test, and the smallest p-value it can give."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.common.checks import check_count
from crashalgos.experiments.comparison.statistics.bootstrap import ALPHA, BATCH_VALUES, Statistic

# Up to this number, all permutations are tried: exact up to 16 paired seeds. Above it, this number of them is drawn.
N_PERMUTATIONS = 2**16


def permutation_p(samples: Sequence[np.ndarray], statistic: Statistic, paired: bool, seed: int) -> float:
    """
    Two-sided p-value of a permutation test.

    :param samples: the paired differences as one array of shape (n_seeds,), or two independent groups, shape (n_runs,) each
    :param statistic: the statistic to test
    :param paired: whether the test flips signs of differences; otherwise it exchanges runs between the groups
    :param seed: seed of the permutations where they are drawn
    :return: twice the smaller one-sided p-value, at most 1; 1 if a sample has one run or nothing differs
    """
    if min(map(len, samples)) < 2 or not (np.any(samples[0]) if paired else np.ptp(np.concatenate(samples))):
        return 1.0
    result = stats.permutation_test(
        samples,
        statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=N_PERMUTATIONS,
        batch=max(1, BATCH_VALUES // sum(map(len, samples))),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def smallest_p(n_a: int, n_b: int | None = None) -> float:
    """
    Smallest two-sided p-value that the permutation test can give for these numbers of runs.

    :param n_a: number of paired seeds, or of runs of one contender
    :param n_b: number of runs of the other; ``None`` for paired seeds
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
    Whether the permutation test can give a p-value below 0.05.

    :param n_a: number of paired seeds, or of runs of one contender
    :param n_b: number of runs of the other; ``None`` for paired seeds
    :return: whether it can
    """
    return smallest_p(n_a, n_b) < ALPHA
