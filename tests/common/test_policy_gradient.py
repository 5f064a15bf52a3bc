"""What REINFORCE and BaselinePG share: the policy-gradient step, its bound, its entropy bonus."""

import math

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.algorithms import assert_refused, each_policy_gradient
from tests.helpers.envs import of_spaces
from tests.helpers.one_state import moved, updated


@pytest.mark.parametrize(("algorithm", "kwargs"), [(REINFORCE, {}), (BaselinePG, dict(value_learning_rate=0.0))])
def test_entropy_bonus_is_a_sum_over_t_and_a_mean_over_n(algorithm, kwargs):
    """
    Where all weights are 0 (baseline = R_t), entropy alone moves θ, upwards.

    For biases (x, 0), π = σ(x) and ∂H/∂x = −x π(1 − π). With N = 2 trajectories of 3 steps: 3 · ∂H/∂x, times the rates.
    """
    x, ent_coef = 1.5, 0.3
    pi = 1 / (1 + math.exp(-x))
    if algorithm is REINFORCE:
        kwargs = dict(baseline=lambda obs: np.array([7.0, 6.0, 4.0] * 2))
        model = updated(algorithm, 2, bias=(x, 0.0), ent_coef=ent_coef, **kwargs)
    else:
        without = updated(algorithm, 2, bias=(x, 0.0), **kwargs)
        model = updated(algorithm, 2, bias=(x, 0.0), ent_coef=ent_coef, **kwargs)
    change = moved(model, (x, 0.0)) - (0 if algorithm is REINFORCE else moved(without, (x, 0.0)))
    expected = 0.5 * ent_coef * 3 * -x * pi * (1 - pi)
    np.testing.assert_allclose(change, [expected, -expected], rtol=1e-4)
    entropy = -pi * math.log(pi) - (1 - pi) * math.log(1 - pi)
    assert model.logger.name_to_value["train/entropy_loss"] == pytest.approx(-entropy, rel=1e-5)


@each_policy_gradient
def test_max_grad_norm_bounds_the_step_on_theta_alone(algorithm):
    kwargs = {} if algorithm is REINFORCE else dict(value_learning_rate=0.1, n_value_epochs=1)
    free, bounded = updated(algorithm, **kwargs), updated(algorithm, max_grad_norm=0.01, **kwargs)
    assert np.linalg.norm(moved(free)) > 0.1
    assert np.linalg.norm(moved(bounded)) == pytest.approx(0.5 * 0.01, rel=1e-3)
    # What is logged is the norm before clipping
    for model in (free, bounded):
        assert model.logger.name_to_value["train/grad_norm"] == pytest.approx(np.linalg.norm(moved(free)) / 0.5, rel=1e-4)
    if algorithm is BaselinePG:
        assert th.equal(free.policy.value_net.bias, bounded.policy.value_net.bias)
        # One step on the mean of (R − 0)² over R = 7, 6, 4, by 0.1: 0.1 · 2 · 17/3
        assert bounded.policy.value_net.bias.item() == pytest.approx(0.2 * 17 / 3, rel=1e-5)


@each_policy_gradient
def test_n_trajectories_is_what_a_gradient_step_is_made_from(algorithm):
    assert_refused(algorithm, "`n_trajectories` must be a whole number", n_trajectories=None)


def test_policies_with_a_critic_where_there_must_be_none():
    assert_refused(REINFORCE, "got ActorCriticPolicy: REINFORCE has no critic", policy=ActorCriticPolicy)
    assert_refused(BaselinePG, "got ActorCriticPolicy: actor and critic need an optimizer each", policy=ActorCriticPolicy)


@each_policy_gradient
@pytest.mark.parametrize("kwargs", [dict(use_sde=True), dict(policy_kwargs=dict(use_sde=True))])
def test_gsde_is_for_ppo_alone(algorithm, kwargs):
    assert_refused(
        algorithm, "`use_sde` must be False, got True: gSDE is for PPO alone", env=of_spaces("box", "box"), **kwargs
    )
    assert_refused(algorithm, "gSDE is for PPO alone", env=of_spaces("box", "discrete"), **kwargs)
    PPO("MlpPolicy", of_spaces("box", "box"), use_sde=True, n_trajectories=4, device="cpu").learn(1)
