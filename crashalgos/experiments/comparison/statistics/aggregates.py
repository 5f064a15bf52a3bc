"""
Aggregates over runs and tasks (Agarwal et al., 2021): IQM, median, mean, optimality gap, profiles, improvement.

``seed`` is always the seed of the bootstrap.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from crashalgos.experiments.comparison.statistics.bootstrap import (
    N_BAND_RESAMPLES,
    N_RESAMPLES,
    Band,
    Estimate,
    bootstrap,
    check_samples,
)


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    Interquartile mean: the mean without a quarter of the scores at either end, rounded down (section 4.3).

    :param scores: any shape; with fewer than four scores none is left out
    :param axis: the axis of the runs
    :return: the means, without that axis
    """
    return np.asarray(stats.trim_mean(scores, 0.25, axis=axis))


def aggregate(samples: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """
    Computes the four aggregates of normalised scores (section 4.3).

    The numbers of runs may differ. Then each run weighs the same in IQM and optimality gap, each task in median and mean.

    :param samples: the scores, shape (n_runs,) for each task
    :param n_resamples: number of bootstrap resamples
    :return: "IQM" of all runs of all tasks; "median" and "mean" of the tasks' means; "optimality gap",
        1 − mean(min(score, 1)) of all runs
    :raises ValueError: if there is no task, or one without runs, or a score is not finite
    """
    band = bootstrap(check_samples("samples", samples), _aggregates, n_resamples, seed)
    return {name: band.estimate(i) for i, name in enumerate(("IQM", "median", "mean", "optimality gap"))}


def probability_of_improvement(
    samples_x: Sequence[np.ndarray], samples_y: Sequence[np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """
    Mean over tasks of P(X > Y) + ½ P(X = Y), the Mann–Whitney statistic over n_x n_y (section 4.3).

    :param samples_x: scores of one contender, shape (n_x,) for each task
    :param samples_y: scores of the other, shape (n_y,) for each task, in the same order of tasks
    :param n_resamples: number of bootstrap resamples, which draw from both
    :return: the probability. Where all x lie above all y its interval is [1, 1], however few runs there are
    :raises ValueError: if the numbers of tasks are 0 or differ, a task has no runs, or a score is not finite
    """
    x, y = check_samples("samples_x", samples_x), check_samples("samples_y", samples_y)
    if len(x) != len(y):
        raise ValueError(f"`samples_y` must have as many tasks as `samples_x`, {len(x)}, got {len(y)}")
    return bootstrap([*x, *y], _improvement, n_resamples, seed).estimate()


def performance_profile(
    samples: Sequence[np.ndarray], thresholds: np.ndarray, n_resamples: int = N_BAND_RESAMPLES, seed: int = 0
) -> Band:
    """
    Share of the runs whose score is above τ, mean over tasks (section 4.2, run-score distribution).

    :param samples: the scores, shape (n_runs,) for each task
    :param thresholds: τ, shape (n_thresholds,)
    :param n_resamples: number of bootstrap resamples
    :return: the share at each τ
    :raises ValueError: if there is no task, or one without runs, a score is not finite, or ``thresholds`` is not flat
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or len(thresholds) == 0:
        raise ValueError(f"`thresholds` must be flat and not empty, got shape {thresholds.shape}")
    above = [(scores > thresholds[:, None]).astype(np.float64) for scores in check_samples("samples", samples)]
    return bootstrap(above, mean_of_means, n_resamples, seed)


def iqm_curve(values: np.ndarray | Sequence[np.ndarray], n_resamples: int = N_BAND_RESAMPLES, seed: int = 0) -> Band:
    """
    IQM at each point of a learning curve.

    :param values: one task's values, shape (n_runs, n_points); or such an array for each task, with the same points. Then
        the IQM is that of all runs of all tasks
    :param n_resamples: number of bootstrap resamples, which draw whole runs
    :return: the IQM at each point
    :raises ValueError: if there are no values, the numbers of points differ, or a value is not finite
    """
    one_task = isinstance(values, np.ndarray) and values.ndim == 2
    tasks = [np.asarray(task, dtype=np.float64) for task in ([values] if one_task else values)]
    shapes = [task.shape for task in tasks]
    if not tasks or any(task.ndim != 2 or task.size == 0 or task.shape[1] != tasks[0].shape[-1] for task in tasks):
        raise ValueError(f"`values` must be of shape (n_runs, n_points) for each task, equal in n_points, got {shapes}")
    if not all(np.isfinite(task).all() for task in tasks):
        raise ValueError("`values` must be finite, got NaN or infinity")
    return bootstrap([task.T for task in tasks], _pooled_iqm, n_resamples, seed)


def mean_of_means(*samples: np.ndarray, axis: int) -> np.ndarray:
    """
    Mean of the tasks' means: each task weighs the same.

    :param samples: one array for each task
    :param axis: the axis of the runs
    :return: the mean, without that axis
    """
    return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)


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


def _pooled_iqm(*samples: np.ndarray, axis: int) -> np.ndarray:
    return iqm(np.concatenate(samples, axis=axis), axis)
