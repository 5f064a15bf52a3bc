"""Power: how many seeds a difference needs."""

import math

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.common.checks import check_count, check_number
from crashalgos.experiments.comparison.statistics.bootstrap import ALPHA
from crashalgos.experiments.comparison.statistics.permutation import smallest_p

_POWER = 0.8
# The largest number of seeds that is still worth naming.
MAX_SEEDS = 1_000


def seeds_needed(difference: float, deviation: float, paired: bool = True, comparisons: int = 1) -> float:
    """
    Seeds that a t-test needs for 80 % power at α = 0.05, two-sided (noncentral t; Cohen, 1988, chapter 2).

    There is a lower bound: the permutation test's smallest p-value, times ``comparisons``, must be below α. So the adjusted
    p-value can be below α even if no other pair of the report differs. The t-test's own α is not adjusted.

    :param difference: the mean difference to find, of either sign
    :param deviation: standard deviation of the paired differences; for independent runs that of the scores
    :param paired: whether seeds are paired; otherwise the result is the number for each contender
    :param comparisons: number of pairs for which the p-value is adjusted
    :return: the number; ``inf`` if it is above ``MAX_SEEDS``, or no number is enough for so many comparisons
    :raises ValueError: if ``difference`` is not finite, ``deviation`` is negative or not finite, or ``comparisons`` is below 1
    """
    check_number("difference", difference)
    check_number("deviation", deviation, low=0.0)
    check_count("comparisons", comparisons)
    enough_runs = (n for n in range(2, MAX_SEEDS + 1) if smallest_p(n, None if paired else n) * comparisons < ALPHA)
    fewest = next(enough_runs, None)
    if difference == 0 or fewest is None:
        return math.inf
    if abs(difference) >= 5 * deviation:
        return float(fewest)
    n = np.arange(fewest, MAX_SEEDS + 1)
    effect = abs(difference) / deviation
    freedom, shift = (n - 1, effect * np.sqrt(n)) if paired else (2 * n - 2, effect * np.sqrt(n / 2))
    critical = stats.t.isf(ALPHA / 2, freedom)
    # Without the chance of the wrong sign: it is below 0.0001 where the power is 80 %, and SciPy's lower tail underflows.
    power = stats.nct.sf(critical, freedom, shift)
    enough = n[power >= _POWER]
    return float(enough[0]) if len(enough) else math.inf
