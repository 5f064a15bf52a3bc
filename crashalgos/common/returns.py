"""
Returns of the course as pure functions on arrays: R(τ), R_t, R_t^γ, GAE(λ), the horizon.

Trajectories of unequal lengths lie one behind the other in flat arrays: ``rewards`` has shape (M,), M = T_1 + … + T_N,
and ``lengths`` = (T_1, …, T_N) says where each one ends. Time runs forward within a trajectory.
"""

import math

import numpy as np

from crashalgos.common.checks import check_number


def gamma_from_horizon(horizon: float) -> float:
    """
    γ = 1 − 1/h (slide "Discount factor – horizon").

    :param horizon: h, how many steps ahead to look; at least 1, ``math.inf`` gives γ = 1
    :return: the discount factor γ in [0, 1]
    :raises ValueError: if ``horizon`` is below 1 or not a number
    """
    check_number("horizon", horizon, low=1.0)
    return 1.0 - 1.0 / horizon


def horizon_from_gamma(gamma: float) -> float:
    """
    h = 1/(1 − γ) (slide "Discount factor – horizon").

    :param gamma: the discount factor, in [0, 1]
    :return: the horizon h ≥ 1; ``math.inf`` for γ = 1
    :raises ValueError: if ``gamma`` is outside [0, 1]
    """
    check_number("gamma", gamma, 0.0, 1.0)
    return math.inf if gamma == 1.0 else 1.0 / (1.0 - gamma)


def reward_to_go(rewards: np.ndarray, lengths: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    R_t^γ = Σ_{j≥t} γ^{j−t} r_j (slide "Practical notes – discount factor"); with γ = 1 the slides' R_t.

    :param rewards: r_t, shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), whole numbers that sum to M
    :param gamma: the discount factor
    :return: R_t^γ, shape (M,), of the rewards' dtype
    """
    return discounted_sum_to_end(rewards, lengths, gamma)


def total_return(rewards: np.ndarray, lengths: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    R(τ) = Σ_j γ^{j−1} r_j for every step of τ (slide "Return"; discounted where γ < 1).

    :param rewards: r_t, shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), whole numbers that sum to M
    :param gamma: the discount factor
    :return: R(τ_j) at each step of τ_j, shape (M,), of the rewards' dtype
    """
    first_steps = np.cumsum(lengths) - lengths
    return np.repeat(reward_to_go(rewards, lengths, gamma)[first_steps], lengths)


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    final_values: np.ndarray,
    lengths: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """
    GAE(λ): A_t = Σ_{j≥t} (γλ)^{j−t} δ_j, δ_t = r_t + γ V(s_{t+1}) − V(s_t) (https://arxiv.org/abs/1506.02438, eq. 16).

    λ = 1 is the slides' A_t = R_t − V(s_t) (slide "Advantage learning").

    :param rewards: r_t, shape (M,), floating
    :param values: V(s_t), shape (M,), of the rewards' dtype
    :param final_values: V(s_{T+1}) of each trajectory, shape (N,), of the rewards' dtype: 0 where it terminated
    :param lengths: T_1, …, T_N, shape (N,), whole numbers that sum to M
    :param gamma: the discount factor γ
    :param gae_lambda: λ
    :return: A_t, shape (M,), of the rewards' dtype
    """
    _check_flat(values, lengths, like=rewards)
    if final_values.shape != lengths.shape or final_values.dtype != rewards.dtype:
        raise ValueError(f"`final_values` must be {rewards.dtype} of shape {lengths.shape}, got {_describe(final_values)}")
    next_values = np.empty_like(values)
    next_values[:-1] = values[1:]
    next_values[np.cumsum(lengths) - 1] = final_values
    # δ_t = r_t + γ V(s_{t+1}) − V(s_t), in place: a rollout may fill most of the memory
    delta = next_values
    delta *= gamma
    delta += rewards
    delta -= values
    _sum_to_end_in_place(delta, lengths, gamma * gae_lambda)
    return delta


def discounted_sum_to_end(x: np.ndarray, lengths: np.ndarray, discount: float) -> np.ndarray:
    """
    y_t = Σ_{j≥t} discount^{j−t} x_j within each trajectory, the sum behind every return and advantage here.

    Instead of y_t = x_t + discount · y_{t+1} step by step, the sum doubles its reach: if y_t holds the first k terms,
    y_t + discount^k · y_{t+k} holds the first 2k: log₂(max T) passes over the whole array instead of a loop over t.

    :param x: shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), whole numbers that sum to M
    :param discount: the factor from one step to the next
    :return: y, shape (M,), of x's dtype
    """
    _check_flat(x, lengths, like=x)
    y = x.copy()
    _sum_to_end_in_place(y, lengths, discount)
    return y


def _sum_to_end_in_place(y: np.ndarray, lengths: np.ndarray, discount: float) -> None:
    steps_to_end = np.repeat(np.cumsum(lengths, dtype=np.int32) - 1, lengths)
    steps_to_end -= np.arange(len(y), dtype=np.int32)
    reach = 1
    longest = int(lengths.max(initial=0))
    while reach < longest:
        further = y[reach:] * y.dtype.type(discount**reach)
        # Row t + reach belongs to the same trajectory as row t exactly where that many steps remain
        further[steps_to_end[:-reach] < reach] = 0
        y[:-reach] += further
        reach *= 2


def _check_flat(x: np.ndarray, lengths: np.ndarray, like: np.ndarray) -> None:
    if x.ndim != 1 or not np.issubdtype(x.dtype, np.floating) or x.dtype != like.dtype or x.shape != like.shape:
        raise ValueError(f"expected a flat floating array like {_describe(like)}, got {_describe(x)}")
    if lengths.ndim != 1 or lengths.sum() != len(x) or (len(lengths) and lengths.min() < 1):
        raise ValueError(f"`lengths` must be flat, positive and sum to {len(x)}, got {lengths!r}")


def _describe(x: np.ndarray) -> str:
    return f"{x.dtype} of shape {x.shape}"
