"""The objectives by hand, and the six cases of the slide by their gradients."""

import math

import pytest
import torch as th

from crashalgos.common.losses import (
    SIX_CASES,
    clip_value_change,
    clipped_surrogate_objective,
    kl_k1,
    kl_k3,
    policy_gradient_objective,
    six_cases,
    value_loss,
)

EPSILON = 0.2
BELOW, INSIDE, ABOVE = 0.5, 1.1, 1.5


def test_policy_gradient_objective_by_hand():
    # N = 2: ((−1)·3 + (−2)·4 + (−0.5)·(−6)) / 2 = −4
    log_probs, weights = th.tensor([-1.0, -2.0, -0.5]), th.tensor([3.0, 4.0, -6.0])
    assert policy_gradient_objective(log_probs, weights, n_trajectories=2).item() == -4.0


def test_objective_is_not_a_mean_over_steps():
    """Steps of weight 0 change nothing, which in a mean over steps they would; nor does doubling the sample."""
    log_probs, weights = th.tensor([-1.0, -2.0]), th.tensor([3.0, 4.0])
    once = policy_gradient_objective(log_probs, weights, 1)
    longer = policy_gradient_objective(th.cat([log_probs, -th.ones(5)]), th.cat([weights, th.zeros(5)]), 1)
    twice = policy_gradient_objective(log_probs.repeat(2), weights.repeat(2), 2)
    assert once.item() == longer.item() == twice.item() == -11.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "gradient"),
    [
        # min(ρA, clip(ρ)A) and its derivative with respect to ρ, worked out on paper
        (BELOW, 2.0, 1.0, 2.0),
        (INSIDE, 2.0, 2.2, 2.0),
        (ABOVE, 2.0, 2.4, 0.0),
        (BELOW, -2.0, -1.6, 0.0),
        (INSIDE, -2.0, -2.2, -2.0),
        (ABOVE, -2.0, -3.0, -2.0),
    ],
)
def test_gradient_vanishes_in_exactly_two_of_the_six_cases(ratio, advantage, objective, gradient):
    rho = th.tensor([ratio], dtype=th.float64, requires_grad=True)
    found = clipped_surrogate_objective(rho, th.tensor([advantage], dtype=th.float64), EPSILON)
    found.backward()
    assert found.item() == pytest.approx(objective, rel=1e-12)
    assert rho.grad.item() == gradient


def test_gradient_and_reported_case_agree_everywhere():
    """Over a grid of ρ and A the gradient vanishes in exactly two of the reported cases."""
    for ratio in th.linspace(0.05, 2.5, 99, dtype=th.float64):
        for advantage in (-3.0, -0.1, 0.1, 3.0):
            rho = ratio.clone().reshape(1).requires_grad_()
            advantages = th.tensor([advantage], dtype=th.float64)
            clipped_surrogate_objective(rho, advantages, EPSILON).backward()
            case = SIX_CASES[six_cases(rho, advantages, EPSILON).argmax()]
            assert (rho.grad.item() == 0.0) == (case in ("pos_above", "neg_below"))


def test_six_cases_by_hand():
    ratios = th.tensor([BELOW, INSIDE, INSIDE, ABOVE, BELOW, ABOVE, ABOVE, 1.0])
    advantages = th.tensor([1.0, 1.0, 2.0, 1.0, -1.0, -1.0, -1.0, 0.0])
    counts = dict(zip(SIX_CASES, six_cases(ratios, advantages, EPSILON).tolist(), strict=True))
    assert counts == {
        "pos_below": 1,
        "pos_inside": 2,
        "pos_above": 1,
        "neg_below": 1,
        "neg_inside": 0,
        "neg_above": 2,
        "zero_advantage": 1,
    }


def test_value_loss_by_hand():
    # ((1−3)² + (2−2)² + (0−1)²) / 3
    assert value_loss(th.tensor([1.0, 2.0, 0.0]), th.tensor([3.0, 2.0, 1.0])).item() == pytest.approx(5 / 3)


def test_value_change_is_bounded():
    found = clip_value_change(th.tensor([1.05, 3.0, -3.0]), th.tensor([1.0, 1.0, 1.0]), 0.1)
    assert found.tolist() == pytest.approx([1.05, 1.1, 0.9])


def test_both_kl_estimators_by_hand():
    # ρ = 1 and ρ = e: −(0 + 1) / 2, and (0 + (e − 1) − 1) / 2
    log_ratios = th.tensor([0.0, 1.0])
    assert kl_k1(log_ratios).item() == -0.5
    assert kl_k3(log_ratios.exp(), log_ratios).item() == pytest.approx((math.e - 2) / 2, rel=1e-6)


def test_both_kl_estimators_are_unbiased():
    """The mean over actions drawn from π_θOLD = (1/2, 1/4, 1/4) is KL; π_θ = (1/4, 1/4, 1/2)."""
    log_ratios = th.tensor([1 / 2, 1 / 2, 1.0, 2.0], dtype=th.float64).log()
    # KL = 1/2 ln 2 + 1/4 ln 1 + 1/4 ln(1/2) = 1/4 ln 2
    assert kl_k1(log_ratios).item() == pytest.approx(math.log(2) / 4, rel=1e-12)
    assert kl_k3(log_ratios.exp(), log_ratios).item() == pytest.approx(math.log(2) / 4, rel=1e-12)


@pytest.mark.parametrize(
    "wrong", [th.zeros(3, 1), th.zeros(4), th.zeros(3, dtype=th.float64), th.zeros(3, dtype=th.int64), th.tensor(0.0)]
)
def test_nothing_broadcasts(wrong):
    right = th.zeros(3)
    for call in (
        lambda: policy_gradient_objective(right, wrong, 1),
        lambda: clipped_surrogate_objective(right, wrong, EPSILON),
        lambda: value_loss(right, wrong),
        lambda: clip_value_change(right, wrong, 0.1),
        lambda: six_cases(right, wrong, EPSILON),
    ):
        with pytest.raises(ValueError, match="one shape"):
            call()
