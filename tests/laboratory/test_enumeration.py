"""
The estimators against the exact gradient of an MDP small enough to enumerate.

The first part tests them as pure functions, the second one through the algorithms.
"""

from itertools import product

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.returns import reward_to_go, total_return
from crashalgos.laboratory.enumeration import (
    HORIZON,
    N_ACTIONS,
    N_STATES,
    THETA,
    Sample,
    Trajectory,
    estimate,
    exact_gradient,
    expectation_and_variance,
    probability,
    relative_error,
    samples,
    trajectories,
)
from tests.helpers.algorithms import each_policy_gradient

TRAJECTORIES = trajectories()


def state_values(states: np.ndarray) -> np.ndarray:
    return np.array([1.7, -2.3])[np.asarray(states, dtype=int).flatten()]


def test_the_enumeration_is_complete():
    assert len(TRAJECTORIES) == 42 == len(set(TRAJECTORIES))
    assert sum(p for _, p in samples(1)) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("weighting", [reward_to_go, total_return])
@pytest.mark.parametrize("baseline", [None, 10.0, -3.0, state_values])
def test_unbiased_for_n_1(weighting, baseline):
    found, _ = expectation_and_variance(1, weighting, baseline=baseline)
    np.testing.assert_allclose(found, exact_gradient(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weighting", [reward_to_go, total_return])
@pytest.mark.parametrize("baseline", [None, "leave_one_out"])
def test_unbiased_for_n_2(weighting, baseline):
    found, _ = expectation_and_variance(2, weighting, baseline=baseline)
    np.testing.assert_allclose(found, exact_gradient(), rtol=0, atol=1e-12)


def test_reward_to_go_has_less_variance_than_the_total_return():
    assert expectation_and_variance(1, reward_to_go)[1] < expectation_and_variance(1, total_return)[1]


def test_environments_e_and_e_prime():
    """Returns shifted by −10 (a baseline of 10) have the same expected gradient and another variance."""
    mean, variance = expectation_and_variance(1, reward_to_go)
    shifted_mean, shifted_variance = expectation_and_variance(1, reward_to_go, baseline=10.0)
    np.testing.assert_allclose(shifted_mean, mean, rtol=0, atol=1e-12)
    assert shifted_variance > 2 * variance


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_discount(gamma):
    """Σγ^{j−1}r_j is exact for the discounted return; R_t^γ, which lacks the factor γ^{t−1}, is biased for either return."""
    exact = exact_gradient(gamma)
    found, _ = expectation_and_variance(1, total_return, gamma)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)
    biased, _ = expectation_and_variance(1, reward_to_go, gamma)
    assert relative_error(biased, exact) > 0.02
    assert relative_error(biased, exact_gradient(1.0)) > 0.02
    # The missing factor is all that is missing
    with_factor, _ = expectation_and_variance(
        1, lambda r, lengths, g: reward_to_go(r, lengths, g) * g ** np.arange(len(r)), gamma
    )
    np.testing.assert_allclose(with_factor, exact, rtol=0, atol=1e-12)


def test_batch_mean_is_biased_and_by_how_much():
    """
    Each return takes part in the mean that is subtracted from it, which is a bias.

    With the total return and trajectories of one length the expected gradient is (N − 1)/N of the exact one. With
    reward-to-go it is biased, too.
    """
    found, _ = expectation_and_variance(2, reward_to_go, baseline="mean")
    assert relative_error(found, exact_gradient()) > 0.1

    full_length = [tau for tau in TRAJECTORIES if len(tau.rewards) == HORIZON]
    theta = th.tensor(THETA, dtype=th.float64, requires_grad=True)
    p = [probability(tau, theta) for tau in full_length]
    q = [float(each.detach()) for each in p]
    # Trajectories as drawn under the condition that all have three steps, which depends on θ through actions alone
    expected_return = sum(each * sum(tau.rewards) for each, tau in zip(p, full_length, strict=True))
    exact = th.autograd.grad(expected_return, theta, retain_graph=True)[0]
    mass = th.autograd.grad(sum(p), theta)[0].numpy()
    total, mean_return = sum(q), float(expected_return.detach()) / sum(q)
    found = sum(
        q1 * q2 * estimate((t1, t2), total_return, 1.0, "mean") / total**2
        for (q1, t1), (q2, t2) in product(list(zip(q, full_length, strict=True)), repeat=2)
    )
    expected = (exact.numpy() - mean_return * mass) / total / 2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- through the classes


class EnumeratedEnv(gym.Env):
    """Gives the spaces; the trajectories are put into the buffer by hand."""

    observation_space = spaces.Discrete(N_STATES)
    action_space = spaces.Discrete(N_ACTIONS)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, True, False, {}


def tabular(algorithm, n: int, **kwargs):
    """Makes a tabular softmax policy that does not move: linear on one-hot states, bias 0, rate 0."""
    model = algorithm(
        "MlpPolicy",
        EnumeratedEnv(),
        learning_rate=0.0,
        n_trajectories=n,
        gamma=kwargs.pop("gamma", 1.0),
        device="cpu",
        seed=0,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={}),
        **kwargs,
    )
    with th.no_grad():
        model.policy.action_net.weight.copy_(th.tensor(THETA).T)
        model.policy.action_net.bias.zero_()
    model.learn(1)
    return model


def fill(model, sample: Sample) -> None:
    buffer = model.rollout_buffer
    buffer.reset()
    states, taken = (th.tensor([x for tau in sample for x in getattr(tau, name)]) for name in ("states", "actions"))
    with th.no_grad():
        values, log_probs, _ = model.policy.evaluate_actions(states, taken)
    start = 0
    for number, tau in enumerate(sample):
        for i, (state, action, reward) in enumerate(zip(tau.states, tau.actions, tau.rewards, strict=True), start):
            obs, actions, rewards, numbers = (np.array([x]) for x in (state, action, reward, number))
            value = None if values is None else values[i]
            buffer.add(obs, actions, rewards, np.array([False]), value, log_probs[i : i + 1], numbers)
        start += len(tau.states)
        buffer.end_trajectory(number, None)
    buffer.finish()
    model._evaluate_trajectories(buffer)


def gradient_of(model, sample: Sample) -> np.ndarray:
    """Gives ∇J(θ), which ``train`` leaves as the gradient of −J."""
    fill(model, sample)
    model.train()
    return -model.policy.action_net.weight.grad.numpy().T.astype(np.float64)


def expectation(model, n: int) -> np.ndarray:
    return sum(p * gradient_of(model, sample) for sample, p in samples(n))


@pytest.mark.parametrize("weighting", ["reward_to_go", "total_return"])
@pytest.mark.parametrize("baseline", [None, 10.0, state_values])
def test_reinforce_is_exact(weighting, baseline):
    model = tabular(REINFORCE, 1, weighting=weighting, baseline=baseline)
    assert relative_error(expectation(model, 1), exact_gradient()) < 1e-4


def test_reinforce_with_leave_one_out_is_exact():
    assert relative_error(expectation(tabular(REINFORCE, 2, baseline="leave_one_out"), 2), exact_gradient()) < 1e-4


def test_reinforce_total_return_is_exact_for_the_discounted_return():
    model = tabular(REINFORCE, 1, weighting="total_return", gamma=0.5)
    assert relative_error(expectation(model, 1), exact_gradient(0.5)) < 1e-4
    model = tabular(REINFORCE, 1, weighting="reward_to_go", gamma=0.5)
    assert relative_error(expectation(model, 1), exact_gradient(0.5)) > 0.02


def test_reinforce_batch_mean_is_biased():
    assert relative_error(expectation(tabular(REINFORCE, 2, baseline="mean"), 2), exact_gradient()) > 0.1


def test_baseline_pg_with_fixed_values_is_exact():
    model = tabular(BaselinePG, 1, value_learning_rate=0.0)
    with th.no_grad():
        model.policy.value_net.weight.copy_(th.tensor([[1.7, -2.3]]))
    assert relative_error(expectation(model, 1), exact_gradient()) < 1e-4


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5])
def test_baseline_pg_with_gae_below_one_is_biased_by_wrong_values(gae_lambda):
    model = tabular(BaselinePG, 1, value_learning_rate=0.0, gae_lambda=gae_lambda)
    assert relative_error(expectation(model, 1), exact_gradient()) > 0.02


def fitted(fit_value_first: bool) -> float:
    """
    Gives the bias with a V that is fitted on the batch itself, before or after the advantages.

    Each update starts from the same V.
    """
    model = tabular(
        BaselinePG, 1, value_learning_rate=0.25, n_value_epochs=5, value_batch_size=10, fit_value_first=fit_value_first
    )
    start = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    total = 0.0
    for sample, p in samples(1):
        model.policy.load_state_dict(start)
        total = total + p * gradient_of(model, sample)
    return relative_error(total, exact_gradient())


def test_values_fitted_on_the_same_batch_are_a_biased_baseline():
    assert fitted(fit_value_first=False) < 1e-4
    assert fitted(fit_value_first=True) > 0.1


def test_first_ppo_step_is_the_policy_gradient_over_m():
    """
    At θ = θ_OLD, ∇ρ = ∇ln π, so PPO's first gradient is N/M times BaselinePG's.

    This holds for one minibatch of all M samples, unnormalised.
    """
    sample = tuple(TRAJECTORIES[i] for i in (3, 17, 41))
    n, m = len(sample), sum(len(tau.rewards) for tau in sample)
    ppo = tabular(
        PPO, n, batch_size=1000, n_epochs=1, gae_lambda=1.0, normalize_advantage=False, max_grad_norm=None, vf_coef=0.0
    )
    baseline_pg = tabular(BaselinePG, n, fit_value_first=False, value_learning_rate=0.0)
    baseline_pg.policy.value_net.load_state_dict(ppo.policy.value_net.state_dict())
    np.testing.assert_allclose(gradient_of(ppo, sample), gradient_of(baseline_pg, sample) * n / m, rtol=1e-4, atol=1e-6)


def test_baseline_pg_with_zero_values_is_reinforce():
    sample = tuple(TRAJECTORIES[i] for i in (3, 17, 41))
    baseline_pg = tabular(BaselinePG, 3, fit_value_first=False, value_learning_rate=0.0)
    with th.no_grad():
        for parameter in baseline_pg.policy.critic_parameters():
            parameter.zero_()
    np.testing.assert_array_equal(gradient_of(baseline_pg, sample), gradient_of(tabular(REINFORCE, 3), sample))


@each_policy_gradient
def test_objective_is_a_sum_over_t_and_a_mean_over_n(algorithm):
    """Trailing steps without reward do not change the reward-to-go gradient; nor does the sample taken twice."""
    kwargs = {} if algorithm is REINFORCE else dict(fit_value_first=False, value_learning_rate=0.0)

    def gradient(sample):
        model = tabular(algorithm, len(sample), **kwargs)
        if algorithm is BaselinePG:
            with th.no_grad():
                for parameter in model.policy.critic_parameters():
                    parameter.zero_()
        return gradient_of(model, sample)

    first, second = TRAJECTORIES[17], TRAJECTORIES[41]
    longer = Trajectory((*second.states, 0, 1, 1), (*second.actions, 1, 0, 1), (*second.rewards, 0.0, 0.0, 0.0))
    once = gradient((first, second))
    assert np.abs(once).max() > 0.1
    np.testing.assert_allclose(gradient((first, longer)), once, rtol=1e-5)
    np.testing.assert_allclose(gradient((first, second, first, second)), once, rtol=1e-5)
    # A mean over steps would have shrunk the first by 3 steps
    m = len(first.rewards) + len(second.rewards)
    assert relative_error(once * m / (m + 3), once) > 0.1


@each_policy_gradient
def test_batch_size_bounds_memory_and_nothing_else(algorithm):
    sample = tuple(TRAJECTORIES[i] for i in (3, 17, 41, 20))
    kwargs = {} if algorithm is REINFORCE else dict(value_learning_rate=0.1)
    whole = gradient_of(tabular(algorithm, 4, ent_coef=0.1, **kwargs), sample)
    for batch_size in (1, 3, 100):
        found = gradient_of(tabular(algorithm, 4, ent_coef=0.1, batch_size=batch_size, **kwargs), sample)
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)
