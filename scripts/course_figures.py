"""Draws the course's formulas with the functions that the algorithms use: ``python scripts/course_figures.py``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch as th
import tyro

from crashalgos.common.losses import clipped_surrogate_objective
from crashalgos.common.returns import reward_to_go, total_return
from crashalgos.laboratory.enumeration import exact_gradient, expectation_and_variance, relative_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EPSILON = 0.2
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "0.5"


@dataclass
class FigureOptions:
    """Draws the six cases of the clipped objective, and the effect of a constant baseline (environments E and E′)."""

    output: Path = Path(__file__).resolve().parents[1] / "docs"
    """The figures' folder. By default the repository's docs."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Draws the figures, and prints their paths and the table of biases.

    :param argv: the command line; by default the process's own
    :return: the exit status
    """
    options = tyro.cli(FigureOptions, prog="course_figures.py", args=argv)
    options.output.mkdir(parents=True, exist_ok=True)
    for draw in (_draw_six_cases, _draw_constant_baselines):
        print(draw(options.output))
    print(_bias_table())
    return 0


def _draw_six_cases(folder: Path) -> Path:
    """Draws min(ρA, clip(ρ)A) over ρ for A = 1 and A = −1, and where its gradient is 0."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharex=True)
    for panel, advantage in zip(panels, (1.0, -1.0), strict=True):
        _draw_objective(panel, advantage)
    figure.suptitle(f"The six cases of min(ρA, clip(ρ, 1 − ε, 1 + ε)A), ε = {_EPSILON}")
    path = folder / "six_cases.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _draw_objective(panel: "Axes", advantage: float) -> None:
    ratios = np.linspace(0.0, 2.0, 401)
    objective, slope = np.empty_like(ratios), np.empty_like(ratios)
    for i, ratio in enumerate(ratios):
        rho = th.tensor([ratio], requires_grad=True)
        value = clipped_surrogate_objective(rho, th.tensor([advantage], dtype=th.float64), _EPSILON)
        objective[i], slope[i] = value.item(), th.autograd.grad(value, rho)[0].item()
    flat = slope == 0
    panel.plot(ratios, np.where(flat, np.nan, objective), color=_BLUE, linewidth=2.5, label="gradient A: the sample teaches")
    panel.plot(ratios, np.where(flat, objective, np.nan), color=_ORANGE, linewidth=2.5, linestyle="--", label="gradient 0")
    low, high = panel.get_ylim()
    for bound in (1 - _EPSILON, 1 + _EPSILON):
        panel.axvline(bound, color=_GREY, linewidth=0.8, linestyle=":")
    for x, text in ((0.4, "below"), (1.0, "inside"), (1.6, "above")):
        panel.text(x, high + 0.02 * (high - low), text, ha="center", color="0.3", fontsize=9)
    panel.set(xlabel="ρ = π_θ(a|s) / π_θOLD(a|s)", ylabel="objective of one sample", ylim=(low, high + 0.12 * (high - low)))
    panel.set_title(f"A = {advantage:+g}", fontsize=11)
    panel.legend(fontsize=8, loc="lower right" if advantage > 0 else "lower left")


def _draw_constant_baselines(folder: Path) -> Path:
    """Draws bias and variance of the gradient over a constant baseline b: b = 0 is E, b = 10 is E′."""
    import matplotlib.pyplot as plt

    shifts = np.linspace(-6, 12, 37)
    exact = exact_gradient()
    moments = [expectation_and_variance(1, reward_to_go, baseline=float(shift)) for shift in shifts]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    states = ("s=0", "s=1")
    for state, colour in zip(range(2), (_BLUE, _ORANGE), strict=True):
        means = [mean[state, 0] for mean, _ in moments]
        left.plot(shifts, means, color=colour, linewidth=2, label=f"E ∂J/∂θ({states[state]}, a=0)")
        exact_label = "exact gradient" if state else None
        left.plot(shifts[::6], np.full(len(shifts[::6]), exact[state, 0]), "o", color=colour, mfc="none", label=exact_label)
    left.set(xlabel="constant baseline b, reward", ylabel="expected gradient", title="the expectation stays")
    left.legend(fontsize=8)
    right.plot(shifts, [variance for _, variance in moments], color="black", linewidth=2)
    for shift, name in ((0.0, "E"), (10.0, "E′")):
        variance = expectation_and_variance(1, reward_to_go, baseline=shift)[1]
        right.plot(shift, variance, "o", color=_ORANGE)
        right.annotate(name, (shift, variance), textcoords="offset points", xytext=(9, -3))
    right.set(
        xlabel="constant baseline b, reward", ylabel="variance of the gradient (N = 1)", title="the variance changes", ylim=0
    )
    for panel in (left, right):
        panel.grid(alpha=0.3)
    path = folder / "constant_baselines.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _bias_table() -> str:
    """Makes a Markdown table: relative bias ‖E ∇J − ∇E R‖ / ‖∇E R‖ and variance of the estimators in the enumerated MDP."""
    estimators = [
        ("R(τ)", 1, total_return, 1.0, None),
        ("R_t", 1, reward_to_go, 1.0, None),
        ("R_t", 2, reward_to_go, 1.0, None),
        ("R_t − 10 (environment E′)", 2, reward_to_go, 1.0, 10.0),
        ("R_t − leave-one-out mean", 2, reward_to_go, 1.0, "leave_one_out"),
        ("R_t − batch mean", 2, reward_to_go, 1.0, "mean"),
        ("R(τ) of discounted rewards, γ = 0.9", 1, total_return, 0.9, None),
        ("R_t^γ, γ = 0.9", 1, reward_to_go, 0.9, None),
    ]
    lines = ["| weight of ∇ln π(a_t\\|s_t) | N | bias | variance |", "|---|---|---|---|"]
    for name, n, weighting, gamma, baseline in estimators:
        mean, variance = expectation_and_variance(n, weighting, gamma, baseline)
        lines.append(f"| {name} | {n} | {relative_error(mean, exact_gradient(gamma)):.1%} | {variance:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
