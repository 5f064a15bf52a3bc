"""
The course's objectives and losses as pure functions on tensors.

Inputs with one value for each sample have shape (B,) and the same floating dtype. The functions check this. Without the check,
advantages of shape (B, 1) times log-probabilities of shape (B,) would silently become a matrix of shape (B, B).
"""

import torch as th
from torch.nn import functional as F

#: The slide's six cases (sign of A; ρ below, inside or above the clip range) and A = 0, in the order of :func:`six_cases`
SIX_CASES = ("pos_below", "pos_inside", "pos_above", "neg_below", "neg_inside", "neg_above", "zero_advantage")


def policy_gradient_objective(log_probs: th.Tensor, weights: th.Tensor, n_trajectories: int) -> th.Tensor:
    """
    The policy-gradient objective J(θ).

    J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · weight_t

    Source: slide "Practical notes – objective function J(θ)". The sum is divided by the number of trajectories, **not** by the
    number of steps. So the J of the micro-batches of a sample add up to the J of the sample.

    :param log_probs: ln π_θ(a_t|s_t), shape (B,)
    :param weights: weight_t, shape (B,), without gradient: R(τ), R_t or R_t^γ, with or without a baseline subtracted
    :param n_trajectories: N
    :return: J, a scalar to be **maximised**
    """
    _check_samples(log_probs=log_probs, weights=weights)
    return (log_probs * weights).sum() / n_trajectories


def clipped_surrogate_objective(ratios: th.Tensor, advantages: th.Tensor, clip_range: float) -> th.Tensor:
    """
    PPO's clipped surrogate objective J̃(θ).

    J̃(θ) = (1/|B|) Σ_i min(ρ_i A_i, clip(ρ_i, 1 − ε, 1 + ε) A_i)

    Source: slide "Training loop – PPO"; https://arxiv.org/abs/1707.06347, eq. 7.

    :param ratios: ρ = π_θ(a|s) / π_θOLD(a|s), shape (B,)
    :param advantages: A, shape (B,), without gradient
    :param clip_range: ε
    :return: J̃, a scalar to be **maximised**
    """
    _check_samples(ratios=ratios, advantages=advantages)
    unclipped = advantages * ratios
    clipped = advantages * th.clamp(ratios, 1 - clip_range, 1 + clip_range)
    return th.min(unclipped, clipped).mean()


def value_loss(values: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    The value loss: the mean squared error of V_ψ.

    L(ψ) = (1/|B|) Σ_i (R_i − V_ψ(s_i))²

    Source: slides "Value network: objective" and "Training loop – PPO".

    :param values: V_ψ(s), shape (B,)
    :param targets: R, shape (B,), without gradient
    :return: L, a scalar to be minimised
    """
    _check_samples(values=values, targets=targets)
    return F.mse_loss(targets, values)


def clip_value_change(values: th.Tensor, old_values: th.Tensor, clip_range_vf: float) -> th.Tensor:
    """
    The clipped values, which PPO's value loss uses if ``clip_range_vf`` is set.

    V_clipped = V_old + clip(V_ψ − V_old, −ε_vf, ε_vf)

    Source: OpenAI Baselines; neither the paper nor the slides have it. Its effect depends on the scale of the rewards.

    :param values: V_ψ(s), shape (B,)
    :param old_values: V_old(s), the values from the rollout, shape (B,), without gradient
    :param clip_range_vf: ε_vf
    :return: V_clipped, shape (B,)
    """
    _check_samples(values=values, old_values=old_values)
    return old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)


def kl_k1(log_ratios: th.Tensor) -> th.Tensor:
    """
    The k₁ estimate of the Kullback-Leibler divergence between the old and the new policy.

    KL(π_θOLD ‖ π_θ) ≈ (1/|B|) Σ_i −ln ρ_i

    Source: http://joschu.net/blog/kl-approx.html. It is unbiased if π_θOLD drew the actions. Its variance is high, and it
    can be negative.

    :param log_ratios: ln ρ, shape (B,)
    :return: the estimate, a scalar
    """
    _check_samples(log_ratios=log_ratios)
    return th.mean(-log_ratios)


def kl_k3(ratios: th.Tensor, log_ratios: th.Tensor) -> th.Tensor:
    """
    The k₃ estimate of the Kullback-Leibler divergence between the old and the new policy.

    KL(π_θOLD ‖ π_θ) ≈ (1/|B|) Σ_i (ρ_i − 1) − ln ρ_i

    Source: http://joschu.net/blog/kl-approx.html. It adds ρ − 1 to k₁. The expectation of ρ − 1 under π_θOLD is 0, so k₃ is
    unbiased as well. It is never negative, and its variance is low.

    :param ratios: ρ, shape (B,)
    :param log_ratios: ln ρ, shape (B,)
    :return: the estimate, a scalar
    """
    _check_samples(ratios=ratios, log_ratios=log_ratios)
    return th.mean((ratios - 1) - log_ratios)


def policy_change_figures(
    ratios: th.Tensor, log_ratios: th.Tensor, advantages: th.Tensor, clip_range: float
) -> dict[str, th.Tensor]:
    """
    The figures that PPO logs about the distance of π_θ from π_θOLD on a minibatch.

    :param ratios: ρ, shape (B,)
    :param log_ratios: ln ρ, shape (B,)
    :param advantages: A as used in the loss, shape (B,)
    :param clip_range: ε
    :return: the scalars ``kl_k1``, ``kl_k3`` and ``clip_fraction`` (the share of ρ outside 1 ± ε); ``ratios`` and
        ``advantages``, shape (B,), for :func:`six_cases`
    """
    return dict(
        kl_k1=kl_k1(log_ratios),
        kl_k3=kl_k3(ratios, log_ratios),
        clip_fraction=th.mean((th.abs(ratios.detach() - 1) > clip_range).float()),
        ratios=ratios,
        advantages=advantages,
    )


def six_cases(ratios: th.Tensor, advantages: th.Tensor, clip_range: float, sizes: th.Tensor | None = None) -> th.Tensor:
    """
    The number of samples in each of the six cases of the clipped objective, and with A = 0.

    Source: slide "Exercise". A ratio on a bound of the clip range counts as inside, as it does for the gradient. The gradient
    with respect to ρ is zero in the cases ``pos_above`` and ``neg_below``, and for A = 0.

    :param ratios: ρ, shape (B,)
    :param advantages: A as used in the loss, shape (B,)
    :param clip_range: ε
    :param sizes: the sizes of n minibatches, if the inputs are these minibatches in a row, shape (n,); their sum is B
    :return: the number of samples in each case, in the order of ``SIX_CASES``: integers of shape (7,) that sum to B. With
        ``sizes`` the numbers of each minibatch, shape (n, 7)
    """
    _check_samples(ratios=ratios, advantages=advantages)
    side = 1 + (ratios > 1 + clip_range).long() - (ratios < 1 - clip_range).long()  # 0 below, 1 inside, 2 above
    case = th.where(advantages == 0, len(SIX_CASES) - 1, th.where(advantages > 0, side, side + 3))
    if sizes is None:
        return th.bincount(case, minlength=len(SIX_CASES))
    minibatch = th.repeat_interleave(sizes.to(case.device))
    minibatch_and_case = minibatch * len(SIX_CASES) + case
    counts = th.bincount(minibatch_and_case, minlength=len(sizes) * len(SIX_CASES))
    return counts.reshape(len(sizes), len(SIX_CASES))


def _check_samples(**tensors: th.Tensor) -> None:
    first = next(iter(tensors.values()))
    for name, tensor in tensors.items():
        if tensor.ndim != 1 or tensor.shape != first.shape or tensor.dtype != first.dtype or not tensor.is_floating_point():
            found = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
            raise ValueError(f"expected floating tensors of one shape (B,) and one dtype, got {found}")
