"""
A small MDP in which the bias and the variance of every gradient estimator can be calculated exactly.

It has two states, two actions, and at most three steps; s₁ = 0. An action leads to the end of the episode, to state 0, or to
state 1. The third step always ends the episode. So there are 42 trajectories, and all samples of a few trajectories can be
enumerated. The policy is a softmax of a table of parameters θ, shape (2, 2).

The exact gradient is autograd's gradient of the expected return Σ_τ π_θ(τ) R(τ). It does not use the identity
∇π = π ∇ln π, on which the estimators are based.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch as th

from crashalgos.common.baselines import Baseline, baseline_values
from crashalgos.common.losses import policy_gradient_objective
from crashalgos.common.returns import reward_to_go

N_STATES = N_ACTIONS = 2
HORIZON = 3
#: Probabilities of the outcomes (end, state 0, state 1), by state and action
TRANSITIONS = (((0.2, 0.5, 0.3), (0.1, 0.3, 0.6)), ((0.4, 0.4, 0.2), (0.3, 0.1, 0.6)))
#: Rewards of the same outcomes, by state and action
REWARDS = (((2.0, -1.0, 0.5), (0.0, 1.0, 3.0)), ((5.0, 0.5, -2.0), (1.0, -0.5, 4.0)))
#: The policy's parameters θ, by state and action
THETA = ((0.3, -0.4), (-0.2, 0.9))

#: ``weighting(rewards, lengths, gamma)`` → the weight of every step, as in :mod:`crashalgos.common.returns`
Weighting = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Trajectory:
    """
    A trajectory τ, and the env's part of its probability.

    :param states: s_1, …, s_T
    :param actions: a_1, …, a_T
    :param rewards: r_1, …, r_T
    :param dynamics: Π_t p(r_t, s_{t+1}|s_t, a_t)
    """

    states: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()
    dynamics: float = 1.0


#: N trajectories
Sample = tuple[Trajectory, ...]


@cache
def trajectories(state: int = 0, steps_left: int = HORIZON) -> Sample:
    """
    Enumerates all trajectories from a state.

    :param state: the first state
    :param steps_left: largest number of steps
    :return: the trajectories
    """
    if steps_left == 0:
        return (Trajectory(),)
    found = []
    for action, outcome in product(range(N_ACTIONS), range(3)):
        last = steps_left == 1
        if last and outcome > 0:
            continue  # the last step always ends the episode, so "end" is its only outcome
        for rest in (Trajectory(),) if outcome == 0 else trajectories(outcome - 1, steps_left - 1):
            found.append(
                Trajectory(
                    (state, *rest.states),
                    (action, *rest.actions),
                    (REWARDS[state][action][outcome], *rest.rewards),
                    (1.0 if last else TRANSITIONS[state][action][outcome]) * rest.dynamics,
                )
            )
    return tuple(found)


def probability(tau: Trajectory, theta: th.Tensor) -> th.Tensor:
    """
    The probability π_θ(τ) of a trajectory.

    π_θ(τ) = Π_t p(r_t, s_{t+1}|s_t, a_t) π_θ(a_t|s_t)

    Source: slide "Trajectory – probability".

    :param tau: a trajectory τ
    :param theta: the policy's parameters θ, shape (2, 2)
    :return: π_θ(τ), a scalar
    """
    log_pi = th.log_softmax(theta, dim=-1)
    return tau.dynamics * log_pi[list(tau.states), list(tau.actions)].sum().exp()


@cache
def samples(n: int) -> tuple[tuple[Sample, float], ...]:
    """
    Enumerates all samples of N trajectories.

    :param n: N
    :return: every sample with its probability
    """
    theta = th.tensor(THETA, dtype=th.float64)
    known = [(tau, float(probability(tau, theta))) for tau in trajectories()]
    return tuple(
        (tuple(tau for tau, _ in chosen), float(np.prod([p for _, p in chosen]))) for chosen in product(known, repeat=n)
    )


def exact_gradient(gamma: float = 1.0) -> np.ndarray:
    """
    The exact gradient of the expected return.

    ∇_θ E[Σ_t γ^{t−1} r_t]

    :param gamma: the discount factor γ
    :return: the gradient, shape (2, 2)
    """
    theta = th.tensor(THETA, dtype=th.float64, requires_grad=True)
    returns = [sum(gamma**t * reward for t, reward in enumerate(tau.rewards)) for tau in trajectories()]
    expected = th.stack([probability(tau, theta) * r for tau, r in zip(trajectories(), returns, strict=True)]).sum()
    return th.autograd.grad(expected, theta)[0].numpy()


def estimate(sample: Sample, weighting: Weighting = reward_to_go, gamma: float = 1.0, baseline: Baseline = None) -> np.ndarray:
    """
    The gradient estimate ∇_θ J(θ) from one sample.

    :param sample: N trajectories
    :param weighting: ``reward_to_go``, ``total_return``, or a function with the same signature
    :param gamma: the discount factor γ
    :param baseline: REINFORCE's argument ``baseline``; a callable gets the states, shape (M,)
    :return: the estimate, shape (2, 2)
    """
    lengths = np.array([len(tau.rewards) for tau in sample])
    states, actions = (np.concatenate([getattr(tau, name) for tau in sample]) for name in ("states", "actions"))
    returns = weighting(np.concatenate([tau.rewards for tau in sample]), lengths, gamma)
    weights = returns - baseline_values(baseline, returns, lengths, states)
    theta = th.tensor(THETA, dtype=th.float64, requires_grad=True)
    log_probs = th.log_softmax(theta, dim=-1)[states, actions]
    objective = policy_gradient_objective(log_probs, th.as_tensor(weights), len(sample))
    return th.autograd.grad(objective, theta)[0].numpy()


def expectation_and_variance(
    n: int, weighting: Weighting = reward_to_go, gamma: float = 1.0, baseline: Baseline = None
) -> tuple[np.ndarray, float]:
    """
    The expectation and the variance of a gradient estimator, over all samples of N trajectories.

    :param n: N
    :param weighting: see :func:`estimate`
    :param gamma: see :func:`estimate`
    :param baseline: see :func:`estimate`
    :return: the expectation, shape (2, 2), and the variance, summed over the parameters
    """
    probabilities = np.array([p for _, p in samples(n)])
    gradients = np.stack([estimate(sample, weighting, gamma, baseline) for sample, _ in samples(n)])
    mean = np.tensordot(probabilities, gradients, axes=1)
    return mean, float(probabilities @ ((gradients - mean) ** 2).sum(axis=(1, 2)))


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """
    The relative error of a gradient.

    ‖found − exact‖ / ‖exact‖

    :param found: the gradient
    :param exact: the exact gradient
    :return: the error, a number
    """
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
