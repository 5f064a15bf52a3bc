"""
Baselines b: S → ℝ that are subtracted from the **returns**, never from the rewards (slide "Baseline function").

Unbiased: a constant, a callable of the observation, leave-one-out. Biased: the batch mean, because each return helps to
make the mean that is subtracted from it: R(τ) of N trajectories of one length gives (N − 1)/N of the exact gradient.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from crashalgos.common.checks import check_choice, check_number

Observations = np.ndarray | dict[str, np.ndarray]
Baseline = float | str | Callable[[Any], Any] | None

NAMED_BASELINES = ("mean", "leave_one_out")


def check_baseline(baseline: Baseline, n_trajectories: int) -> None:
    """
    :param baseline: ``None``, a number, ``"mean"``, ``"leave_one_out"`` or a callable
    :param n_trajectories: N
    :raises ValueError: if it is none of these, or leave-one-out of a single trajectory
    """
    if baseline is None or callable(baseline):
        return
    if isinstance(baseline, str):
        check_choice("baseline", baseline, NAMED_BASELINES)
        if baseline == "leave_one_out" and n_trajectories == 1:
            raise ValueError("`baseline`='leave_one_out' needs `n_trajectories` of at least 2, got 1: nothing is left")
    else:
        check_number("baseline", baseline)


def baseline_values(
    baseline: Baseline, returns: np.ndarray, lengths: np.ndarray, observations: Observations | None = None
) -> np.ndarray:
    """
    b(s_t) at every step.

    :param baseline: ``None`` (zero), a number, ``"mean"`` (of all M returns), ``"leave_one_out"`` (mean over all steps of
        the other trajectories), or a callable: observations, shape (M, …), a dict of such for Dict spaces → values, shape (M,)
    :param returns: R_t or R(τ), shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), whole numbers that sum to M
    :param observations: s_t as the buffer keeps them, shape (M, …); only a callable needs them
    :return: b(s_t), shape (M,), of the returns' dtype
    :raises ValueError: if a callable gives another shape or values that are not finite
    """
    if baseline is None:
        return np.zeros_like(returns)
    if callable(baseline):
        return _values_of(baseline, copy.deepcopy(observations), returns)  # whatever it does to them, the sample stays
    if baseline == "mean":
        return np.full_like(returns, returns.mean())
    if baseline == "leave_one_out":
        first_steps = np.cumsum(lengths) - lengths
        own_sums = np.add.reduceat(returns, first_steps)
        return np.repeat((returns.sum() - own_sums) / (len(returns) - lengths), lengths).astype(returns.dtype)
    return np.full_like(returns, baseline)


def _values_of(baseline: Callable[[Any], Any], observations: Observations | None, returns: np.ndarray) -> np.ndarray:
    values = baseline(observations)
    values = values.detach().cpu().numpy() if isinstance(values, th.Tensor) else np.asarray(values)
    if values.shape != returns.shape:
        raise ValueError(f"`baseline` must return one value a step, shape {returns.shape}, got shape {values.shape}")
    values = values.astype(returns.dtype)
    if not np.isfinite(values).all():
        raise ValueError("`baseline` must return finite values, got NaN or infinity")
    return values
