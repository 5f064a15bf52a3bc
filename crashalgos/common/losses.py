"""
The objectives of the course as pure functions on tensors: they know no policy, no buffer, no logger.

Every input of one sample each has shape (B,) and one floating dtype, which is checked: an advantage of shape (B, 1) times a
log-probability of shape (B,) would silently become a (B, B) outer product.
"""

import torch as th
from torch.nn import functional as F

#: The slide's six cases (A ≷ 0 × ρ below, inside, above the range) and, apart, A = 0, in the order of :func:`six_cases`.
SIX_CASES = ("pos_below", "pos_inside", "pos_above", "neg_below", "neg_inside", "neg_above", "zero_advantage")


def policy_gradient_objective(log_probs: th.Tensor, weights: th.Tensor, n_trajectories: int) -> th.Tensor:
    """
    J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · weight_t (slide "Practical notes – objective function J(θ)").

    The sum over t is divided by the number of trajectories, **not** by the number of steps. Over chunks of a batch the J
    add up to the J of the whole batch.

    :param log_probs: ln π_θ(a_t|s_t), shape (B,)
    :param weights: R(τ), R_t, R_t^γ, or any of them less a baseline, shape (B,), no gradient
    :param n_trajectories: N
    :return: J, a scalar to be **maximised**
    """
    _check_samples(log_probs=log_probs, weights=weights)
    return (log_probs * weights).sum() / n_trajectories


def clipped_surrogate_objective(ratios: th.Tensor, advantages: th.Tensor, clip_range: float) -> th.Tensor:
    """
    J̃(θ) = (1/|B|) Σ_i min(ρ_i A_i, clip(ρ_i, 1 − ε, 1 + ε) A_i) (slide "Training loop – PPO";
    https://arxiv.org/abs/1707.06347, eq. 7).

    :param ratios: ρ = π_θ(a|s) / π_θOLD(a|s), shape (B,)
    :param advantages: A, shape (B,), no gradient
    :param clip_range: ε
    :return: J̃, a scalar to be **maximised**
    """
    _check_samples(ratios=ratios, advantages=advantages)
    unclipped = advantages * ratios
    clipped = advantages * th.clamp(ratios, 1 - clip_range, 1 + clip_range)
    return th.min(unclipped, clipped).mean()


def value_loss(values: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    (1/|B|) Σ_i (R_i − V_ψ(s_i))² (slides "Value network: objective", "Training loop – PPO").

    :param values: V_ψ(s), shape (B,)
    :param targets: R, shape (B,), no gradient
    :return: the mean squared error, a scalar
    """
    _check_samples(values=values, targets=targets)
    return F.mse_loss(targets, values)


def clip_value_change(values: th.Tensor, old_values: th.Tensor, clip_range_vf: float) -> th.Tensor:
    """
    V_old + clip(V − V_old, −ε_vf, ε_vf): the values that PPO regresses when ``clip_range_vf`` is set. Not in the paper or
    the slides: OpenAI Baselines introduced it, and it depends on the scale of the rewards.

    :param values: V_ψ(s), shape (B,)
    :param old_values: V at collection, shape (B,), no gradient
    :param clip_range_vf: ε_vf
    :return: shape (B,)
    """
    _check_samples(values=values, old_values=old_values)
    return old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)


def kl_k1(log_ratios: th.Tensor) -> th.Tensor:
    """
    KL(π_θOLD ‖ π_θ) ≈ mean(−ln ρ) (k₁ of http://joschu.net/blog/kl-approx.html): the definition sampled, unbiased where
    the actions are π_θOLD's; high variance, and negative as often as chance has it.

    :param log_ratios: ln ρ, shape (B,)
    :return: a scalar
    """
    _check_samples(log_ratios=log_ratios)
    return th.mean(-log_ratios)


def kl_k3(ratios: th.Tensor, log_ratios: th.Tensor) -> th.Tensor:
    """
    KL(π_θOLD ‖ π_θ) ≈ mean((ρ − 1) − ln ρ) (k₃ of http://joschu.net/blog/kl-approx.html): never negative, low variance.
    It is k₁ plus ρ − 1, whose expectation under π_θOLD is 0.

    :param ratios: ρ, shape (B,)
    :param log_ratios: ln ρ, shape (B,)
    :return: a scalar
    """
    _check_samples(ratios=ratios, log_ratios=log_ratios)
    return th.mean((ratios - 1) - log_ratios)


def policy_change_figures(
    ratios: th.Tensor, log_ratios: th.Tensor, advantages: th.Tensor, clip_range: float
) -> dict[str, th.Tensor]:
    """
    How far π_θ is from π_θOLD on a minibatch: the figures that PPO logs.

    :param ratios: ρ, shape (B,)
    :param log_ratios: ln ρ, shape (B,)
    :param advantages: A as used in the loss, shape (B,)
    :param clip_range: ε
    :return: ``kl_k1``, ``kl_k3`` and ``clip_fraction`` (the share of ρ outside 1 ± ε), scalars; ``ratios`` and
        ``advantages``, shape (B,), for :func:`six_cases`
    """
    return dict(
        kl_k1=kl_k1(log_ratios),
        kl_k3=kl_k3(ratios, log_ratios),
        clip_fraction=th.mean((th.abs(ratios - 1) > clip_range).float()),
        ratios=ratios,
        advantages=advantages,
    )


def six_cases(ratios: th.Tensor, advantages: th.Tensor, clip_range: float, sizes: th.Tensor | None = None) -> th.Tensor:
    """
    How many samples are in each of the six cases of the slide "Exercise", and how many have A = 0. Where ρ is on a bound it
    counts as inside, as it does for the gradient. The gradient with respect to ρ vanishes in ``pos_above``, in
    ``neg_below``, and where A = 0.

    :param ratios: ρ, shape (B,)
    :param advantages: A as used in the loss, shape (B,)
    :param clip_range: ε
    :param sizes: if these are minibatches one behind the other, how many samples each has, shape (n,), sums to B
    :return: how many samples are in each case, in the order of ``SIX_CASES``, shape (7,), whole numbers that sum to B; with
        ``sizes`` of each minibatch, shape (n, 7)
    """
    _check_samples(ratios=ratios, advantages=advantages)
    side = 1 + (ratios > 1 + clip_range).long() - (ratios < 1 - clip_range).long()  # 0 below, 1 inside, 2 above
    case = th.where(advantages == 0, len(SIX_CASES) - 1, th.where(advantages > 0, side, side + 3))
    if sizes is None:
        return th.bincount(case, minlength=len(SIX_CASES))
    minibatch = th.repeat_interleave(sizes.to(case.device))
    cell = minibatch * len(SIX_CASES) + case
    return th.bincount(cell, minlength=len(sizes) * len(SIX_CASES)).reshape(len(sizes), len(SIX_CASES))


def _check_samples(**tensors: th.Tensor) -> None:
    first = next(iter(tensors.values()))
    for name, tensor in tensors.items():
        if tensor.ndim != 1 or tensor.shape != first.shape or tensor.dtype != first.dtype or not tensor.is_floating_point():
            found = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
            raise ValueError(f"expected floating tensors of one shape (B,) and one dtype, got {found}")
