"""
An MDP small enough to enumerate, in which the bias and the variance of every gradient estimator can be calculated exactly.

Two states, two actions, at most three steps; s₁ = 0. An action leads to the end, to state 0 or to state 1; the third step is
the last. That makes 42 trajectories. The policy is a tabular softmax with parameters θ, shape (2, 2).

The exact gradient of the expected return is that of Σ_τ π_θ(τ) R(τ) by autograd, with no use of the score-function identity
that the estimators rest on.
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
#: Probabilities of (end, state 0, state 1), by state and action
TRANSITIONS = (((0.2, 0.5, 0.3), (0.1, 0.3, 0.6)), ((0.4, 0.4, 0.2), (0.3, 0.1, 0.6)))
#: Rewards of the same outcomes, by state and action
REWARDS = (((2.0, -1.0, 0.5), (0.0, 1.0, 3.0)), ((5.0, 0.5, -2.0), (1.0, -0.5, 4.0)))
#: The policy's parameters, by state and action
THETA = ((0.3, -0.4), (-0.2, 0.9))

Weighting = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Trajectory:
    """
    :param states: s_1, …, s_T
    :param actions: a_1, …, a_T
    :param rewards: r_1, …, r_T
    :param dynamics: the env's factor of the trajectory's probability; the policy's is the other
    """

    states: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()
    dynamics: float = 1.0


Sample = tuple[Trajectory, ...]


@cache
def trajectories(state: int = 0, steps_left: int = HORIZON) -> Sample:
    """
    :param state: where to start
    :param steps_left: after how many steps the episode ends at the latest
    :return: every trajectory there is
    """
    if steps_left == 0:
        return (Trajectory(),)
    found = []
    for action, outcome in product(range(N_ACTIONS), range(3)):
        last = steps_left == 1
        if last and outcome > 0:
            continue  # the last step ends the episode whatever comes out: the outcome "end" stands for all
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
    :param tau: a trajectory
    :param theta: the policy's parameters, shape (2, 2)
    :return: π_θ(τ) = Π_t p(r_t, s_{t+1}|s_t, a_t) π_θ(a_t|s_t), a scalar (slide "Trajectory – probability")
    """
    log_pi = th.log_softmax(theta, dim=-1)
    return tau.dynamics * log_pi[list(tau.states), list(tau.actions)].sum().exp()


@cache
def samples(n: int) -> tuple[tuple[Sample, float], ...]:
    """
    :param n: N
    :return: every sample of N trajectories with its probability
    """
    theta = th.tensor(THETA, dtype=th.float64)
    known = [(tau, float(probability(tau, theta))) for tau in trajectories()]
    return tuple(
        (tuple(tau for tau, _ in chosen), float(np.prod([p for _, p in chosen]))) for chosen in product(known, repeat=n)
    )


def exact_gradient(gamma: float = 1.0) -> np.ndarray:
    """
    :param gamma: discount factor
    :return: ∇_θ E[Σ_t γ^{t−1} r_t], shape (2, 2)
    """
    theta = th.tensor(THETA, dtype=th.float64, requires_grad=True)
    returns = [sum(gamma**t * reward for t, reward in enumerate(tau.rewards)) for tau in trajectories()]
    expected = th.stack([probability(tau, theta) * r for tau, r in zip(trajectories(), returns, strict=True)]).sum()
    return th.autograd.grad(expected, theta)[0].numpy()


def estimate(sample: Sample, weighting: Weighting = reward_to_go, gamma: float = 1.0, baseline: Baseline = None) -> np.ndarray:
    """
    :param sample: N trajectories
    :param weighting: ``reward_to_go``, ``total_return``, or another of their signature
    :param gamma: discount factor
    :param baseline: as REINFORCE takes it; a callable gets states, shape (M,)
    :return: ∇_θ J(θ) of this sample, shape (2, 2)
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
    :param n: N
    :param weighting: as :func:`estimate`
    :param gamma: as :func:`estimate`
    :param baseline: as :func:`estimate`
    :return: the estimator's expectation, shape (2, 2), and its variance, summed over the parameters
    """
    probabilities = np.array([p for _, p in samples(n)])
    gradients = np.stack([estimate(sample, weighting, gamma, baseline) for sample, _ in samples(n)])
    mean = np.tensordot(probabilities, gradients, axes=1)
    return mean, float(probabilities @ ((gradients - mean) ** 2).sum(axis=(1, 2)))


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """
    :param found: a gradient
    :param exact: what it should be
    :return: ‖found − exact‖ / ‖exact‖
    """
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
