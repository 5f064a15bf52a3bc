"""
Baselines b(s_t), which REINFORCE subtracts from the **returns**, never from the rewards.

Source: slide "Baseline function". A constant, a function of the observation and leave-one-out keep the gradient estimate
unbiased. The batch mean makes it biased, because each return is part of the mean that is subtracted from it. With R(τ) of N
trajectories of equal length, the expected estimate is (N − 1)/N of the exact gradient.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from crashalgos.common.checks import check_choice, check_number

Observations = np.ndarray | dict[str, np.ndarray]
Baseline = float | str | Callable[[Any], Any] | None

_NAMED_BASELINES = ("mean", "leave_one_out")


def check_baseline(baseline: Baseline, n_trajectories: int) -> None:
    """
    Checks the argument ``baseline``.

    :param baseline: ``None``, a number, ``"mean"``, ``"leave_one_out"`` or a callable
    :param n_trajectories: N
    :raises ValueError: if ``baseline`` is none of these, or ``"leave_one_out"`` with N = 1
    """
    if baseline is None or callable(baseline):
        return
    if isinstance(baseline, str):
        check_choice("baseline", baseline, _NAMED_BASELINES)
        if baseline == "leave_one_out" and n_trajectories == 1:
            raise ValueError("`baseline`='leave_one_out' needs `n_trajectories` of at least 2, got 1: nothing is left")
    else:
        check_number("baseline", baseline)


def baseline_values(
    baseline: Baseline, returns: np.ndarray, lengths: np.ndarray, observations: Observations | None = None
) -> np.ndarray:
    """
    The baseline b(s_t) of every step.

    - ``None``: b(s_t) = 0
    - a number c: b(s_t) = c
    - ``"mean"``: b(s_t) = (1/M) Σ_i R_i, the mean of all M returns
    - ``"leave_one_out"``: the mean of the returns of all steps of the other trajectories
    - a callable: its result for the observations

    :param baseline: one of these; a callable gets ``observations`` and returns M values, an array or tensor of shape (M,)
    :param returns: R_t or R(τ), shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), integers that sum to M
    :param observations: s_t as the rollout buffer stores them, shape (M, …), or a dict of such arrays; only for a callable
    :return: b(s_t), shape (M,), of the returns' dtype
    :raises ValueError: if a callable returns another shape or values that are not finite
    """
    if baseline is None:
        return np.zeros_like(returns)
    if callable(baseline):
        return _values_of(baseline, copy.deepcopy(observations), returns)  # a copy: the callable may change them
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
