"""Numbers as the reports write them."""

import math
from collections.abc import Iterable

from crashalgos.experiments.comparison.statistics import Estimate

NOTHING = "–"


def format_number(value: float, digits: int) -> str:
    """
    Formats a number.

    :param value: the number
    :param digits: number of decimals
    :return: the number with commas between thousands; a dash if it is not finite
    """
    if not math.isfinite(value):
        return NOTHING
    # The sum turns −0 into 0.
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def format_interval(estimate: Estimate, digits: int) -> str:
    """
    Formats an estimate's interval.

    :param estimate: the estimate
    :param digits: number of decimals
    :return: ``low to high``; a dash if there is no interval
    """
    if not math.isfinite(estimate.low):
        return NOTHING
    return f"{format_number(estimate.low, digits)} to {format_number(estimate.high, digits)}"


def format_seeds(seeds: Iterable[int]) -> str:
    """
    Formats seeds as ranges.

    :param seeds: the seeds
    :return: the ranges in order: ``0–2, 5``
    """
    groups: list[list[int]] = []
    for seed in sorted(seeds):
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ", ".join(f"{group[0]}" if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups)


def decimals(scale: float) -> int:
    """
    Returns the number of decimals for an environment's returns: one, or as many as show a hundredth of the range.

    :param scale: the environment's reference range
    :return: the number of decimals
    """
    return max(1, 2 - math.floor(math.log10(scale))) if scale > 0 else 1
