"""
The course's returns and advantages as pure functions on arrays: R(τ), R_t, R_t^γ, GAE(λ), the horizon.

N trajectories of different lengths are stored one after the other in flat arrays. ``lengths`` = (T_1, …, T_N) has their
lengths, and ``rewards`` has shape (M,) with M = T_1 + … + T_N. Within a trajectory the steps are in the order of time.
"""

import math

import numpy as np

from crashalgos.common.checks import check_number


def gamma_from_horizon(horizon: float) -> float:
    """
    The discount factor γ of a horizon.

    γ = 1 − 1/h

    Source: slide "Discount factor – horizon".

    :param horizon: h, the number of steps to look ahead; at least 1; ``math.inf`` gives γ = 1
    :return: the discount factor γ in [0, 1]
    :raises ValueError: if ``horizon`` is below 1 or not a number
    """
    check_number("horizon", horizon, low=1.0)
    return 1.0 - 1.0 / horizon


def horizon_from_gamma(gamma: float) -> float:
    """
    The horizon h of a discount factor.

    h = 1/(1 − γ)

    Source: slide "Discount factor – horizon".

    :param gamma: the discount factor γ, in [0, 1]
    :return: the horizon h ≥ 1; ``math.inf`` for γ = 1
    :raises ValueError: if ``gamma`` is outside [0, 1]
    """
    check_number("gamma", gamma, 0.0, 1.0)
    return math.inf if gamma == 1.0 else 1.0 / (1.0 - gamma)


def reward_to_go(rewards: np.ndarray, lengths: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    The reward-to-go R_t^γ of every step.

    R_t^γ = Σ_{j≥t} γ^{j−t} r_j

    Source: slide "Practical notes – discount factor". With γ = 1 it is the slides' R_t.

    :param rewards: r_t, shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), integers that sum to M
    :param gamma: the discount factor γ
    :return: R_t^γ, shape (M,), of the rewards' dtype
    """
    return discounted_sum_to_end(rewards, lengths, gamma)


def total_return(rewards: np.ndarray, lengths: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    The total return R(τ) of the trajectory that a step belongs to, for every step.

    R(τ) = Σ_j γ^{j−1} r_j

    Source: slide "Return", where γ = 1.

    :param rewards: r_t, shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), integers that sum to M
    :param gamma: the discount factor γ
    :return: R(τ), the same at all steps of τ, shape (M,), of the rewards' dtype
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
    The generalized advantage estimates GAE(λ) of every step.

    A_t = Σ_{j≥t} (γλ)^{j−t} δ_j  with  δ_t = r_t + γ V(s_{t+1}) − V(s_t)

    Source: https://arxiv.org/abs/1506.02438, eq. 16. With λ = 1 it is A_t = R_t − V(s_t) of the slide "Advantage learning".

    :param rewards: r_t, shape (M,), floating
    :param values: V(s_t), shape (M,), of the rewards' dtype
    :param final_values: V(s_{T+1}) of each trajectory, 0 if the trajectory terminated, shape (N,), of the rewards' dtype
    :param lengths: T_1, …, T_N, shape (N,), integers that sum to M
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
    # δ_t = r_t + γ V(s_{t+1}) − V(s_t), in place, because a rollout can fill most of the memory
    delta = next_values
    delta *= gamma
    delta += rewards
    delta -= values
    _sum_to_end_in_place(delta, lengths, gamma * gae_lambda)
    return delta


def discounted_sum_to_end(x: np.ndarray, lengths: np.ndarray, discount: float) -> np.ndarray:
    """
    The discounted sum from every step to the end of its trajectory.

    y_t = Σ_{j≥t} d^{j−t} x_j

    Every return and advantage in this module is such a sum. A loop over t would compute y_t = x_t + d · y_{t+1}. This function
    doubles the number of terms in each pass: if y_t has the first k terms, y_t + d^k · y_{t+k} has the first 2k. So it makes
    log₂(max T) passes over the whole array.

    :param x: x_t, shape (M,), floating
    :param lengths: T_1, …, T_N, shape (N,), integers that sum to M
    :param discount: d, the factor from one step to the next
    :return: y_t, shape (M,), of x's dtype
    """
    _check_flat(x, lengths, like=x)
    y = x.copy()
    _sum_to_end_in_place(y, lengths, discount)
    return y


def normalized(weights: np.ndarray) -> np.ndarray:
    """
    Shifts and scales weights to mean 0 and standard deviation 1, as SB3 does with advantages.

    :param weights: shape (M,)
    :return: shape (M,); for M = 1 the weight itself
    """
    if len(weights) == 1:
        return weights
    return (weights - weights.mean()) / (weights.std(ddof=1) + 1e-8)


def _sum_to_end_in_place(y: np.ndarray, lengths: np.ndarray, discount: float) -> None:
    steps_to_end = np.repeat(np.cumsum(lengths, dtype=np.int32) - 1, lengths)
    steps_to_end -= np.arange(len(y), dtype=np.int32)
    n_terms = 1
    longest = int(lengths.max(initial=0))
    while n_terms < longest:
        next_terms = y[n_terms:] * y.dtype.type(discount**n_terms)
        # Rows t and t + n_terms are of the same trajectory only if at least n_terms steps follow row t
        next_terms[steps_to_end[:-n_terms] < n_terms] = 0
        y[:-n_terms] += next_terms
        n_terms *= 2


def _check_flat(x: np.ndarray, lengths: np.ndarray, like: np.ndarray) -> None:
    if x.ndim != 1 or not np.issubdtype(x.dtype, np.floating) or x.dtype != like.dtype or x.shape != like.shape:
        raise ValueError(f"expected a flat floating array like {_describe(like)}, got {_describe(x)}")
    if lengths.ndim != 1 or lengths.sum() != len(x) or (len(lengths) and lengths.min() < 1):
        raise ValueError(f"`lengths` must be flat, positive and sum to {len(x)}, got {lengths!r}")


def _describe(x: np.ndarray) -> str:
    return f"{x.dtype} of shape {x.shape}"
