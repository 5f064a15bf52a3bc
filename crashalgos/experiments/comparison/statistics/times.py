"""Wall-clock time: returns at common times, and times until a return is reached."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crashalgos.common.checks import check_count, check_number


@dataclass(frozen=True)
class TimeSummary:
    """
    When several runs reached a threshold.

    :param n_reached: number of runs that reached the threshold
    :param n_runs: number of runs
    :param median: the median time of all runs; ``inf`` if half of them or more did not reach the threshold
    """

    n_reached: int
    n_runs: int
    median: float


def returns_at_common_times(
    seconds: Sequence[np.ndarray], returns: Sequence[np.ndarray], n_times: int = 101
) -> tuple[np.ndarray, np.ndarray]:
    """
    Reads each run's return as a step function of training seconds, at times that all runs share.

    The value at a time is that of the last evaluation made so far. Before the first evaluation it is that of the first.

    :param seconds: for each run the training seconds at its evaluations, shape (n_evaluations,), never falling
    :param returns: for each run the mean returns of these evaluations, shape (n_evaluations,)
    :param n_times: number of times
    :return: the times, shape (n_times,), evenly from 0 to the end of the shortest run; the values, shape (n_runs, n_times)
    :raises ValueError: if there is no run, the arrays of a run differ in length, or its seconds fall
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
    Finds when each run's mean evaluated return first reaches a threshold.

    :param at: for each run the steps or seconds of its evaluations, shape (n_evaluations,)
    :param returns: for each run the mean returns of these evaluations, shape (n_evaluations,)
    :param threshold: the return to reach
    :return: the first ``at`` whose return is at least ``threshold``, shape (n_runs,); ``inf`` where there is none
    :raises ValueError: if there is no run, or the arrays of a run differ in length
    """
    check_number("threshold", threshold)
    runs = _check_runs("at", at, returns)
    return np.array([min(own_at[own_returns >= threshold], default=math.inf) for own_at, own_returns in runs])


def summarize_times(times: np.ndarray) -> TimeSummary:
    """
    Counts the runs that reached a threshold, and takes the median time of all.

    :param times: result of ``time_to_threshold``, shape (n_runs,)
    :return: the summary
    :raises ValueError: if there are no runs
    """
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(f"`times` must be flat and not empty, got shape {times.shape}")
    return TimeSummary(int(np.isfinite(times).sum()), len(times), float(np.median(times)))


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
