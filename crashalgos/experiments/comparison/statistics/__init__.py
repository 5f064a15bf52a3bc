"""
Statistics over the scores of several runs, each with its uncertainty.

A *score* is one number a run. *Samples* are one flat array of scores for each task; a task is an environment. The arrays
may differ in length. The aggregates are those of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (https://arxiv.org/abs/2108.13264). Everything is seeded: the same scores give the same numbers.
"""

from crashalgos.experiments.comparison.statistics.aggregates import (
    aggregate,
    iqm,
    iqm_curve,
    performance_profile,
    probability_of_improvement,
)
from crashalgos.experiments.comparison.statistics.bootstrap import ALPHA, Band, Estimate
from crashalgos.experiments.comparison.statistics.pairs import (
    Pair,
    adjust_pairs,
    benjamini_hochberg,
    compare_scores,
    mean_difference,
)
from crashalgos.experiments.comparison.statistics.permutation import can_reach_alpha, smallest_p
from crashalgos.experiments.comparison.statistics.power import MAX_SEEDS, seeds_needed
from crashalgos.experiments.comparison.statistics.times import (
    TimeSummary,
    returns_at_common_times,
    summarize_times,
    time_to_threshold,
)

__all__ = [
    "ALPHA",
    "MAX_SEEDS",
    "Band",
    "Estimate",
    "Pair",
    "TimeSummary",
    "adjust_pairs",
    "aggregate",
    "benjamini_hochberg",
    "can_reach_alpha",
    "compare_scores",
    "iqm",
    "iqm_curve",
    "mean_difference",
    "performance_profile",
    "probability_of_improvement",
    "returns_at_common_times",
    "seeds_needed",
    "smallest_p",
    "summarize_times",
    "time_to_threshold",
]
