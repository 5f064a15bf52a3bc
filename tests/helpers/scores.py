"""Scores for the tests of a comparison's statistics."""

from collections.abc import Iterable

import numpy as np

# Enough resamples for properties that hold for any number of them.
FEW = 20


def arrays(tasks: list[list[float]]) -> list[np.ndarray]:
    """Returns the scores of each task as an array."""
    return [np.array(scores) for scores in tasks]


def by_seed(scores: Iterable[float], first: int = 0) -> dict[int, float]:
    """Returns scores by seed; the seeds count up from ``first``."""
    return {first + i: float(score) for i, score in enumerate(scores)}
