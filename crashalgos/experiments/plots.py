"""Figures of results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crashalgos.experiments.registry import ALGORITHMS, find_algorithm
from crashalgos.experiments.run import RunResult

# Okabe and Ito's colours, told apart by colour-blind readers too. Lines differ besides, for print, and for results that
# coincide: what is drawn later is dashed and lets the line below show.
COLORS = dict(zip(ALGORITHMS, ("#E69F00", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#56B4E9", "#000000"), strict=True))
LINES = dict(zip(ALGORITHMS, ("-", "-", "-", (0, (3, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)), (0, (7, 2))), strict=True))


def learning_curves(results: Sequence[RunResult], path: Path) -> None:
    """
    One panel an environment: a thin line for each seed, a thick one for the mean of an algorithm's seeds.

    :param results: finished runs, evaluated
    :param path: where the figure goes; its ending says the format
    """
    # Without pyplot there is no window system to choose and no figure to forget to close.
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    envs = list(dict.fromkeys(result.config.env for result in results))
    figure = Figure(figsize=(1.0 + 6.0 * len(envs), 4.8), layout="constrained")
    panels = figure.subplots(1, len(envs), squeeze=False)[0]
    for panel, env in zip(panels, envs, strict=True):
        of_env = [result for result in results if result.config.env == env]
        algos = [algo for algo in ALGORITHMS if any(result.config.algo == algo for result in of_env)]
        for algo in algos:
            curves = [curve(result) for result in of_env if result.config.algo == algo]
            for steps, returns in curves:
                panel.plot(steps, returns, color=COLORS[algo], linestyle=LINES[algo], linewidth=0.9, alpha=0.6)
            steps, returns = mean_curve(curves)
            label = f"{find_algorithm(algo).label}, {len(curves)} seed{'s' if len(curves) > 1 else ''}"
            panel.plot(steps, returns, color=COLORS[algo], linestyle=LINES[algo], linewidth=2.4, label=label)
        panel.set_title(env)
        panel.set_xlabel("environment steps")
        panel.set_ylabel(f"episode return [reward], mean of {of_env[0].config.eval_episodes} episodes")
        panel.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}k" if step else "0")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        handles = [
            *panel.get_legend_handles_labels()[0],
            Line2D([], [], color="0.3", linewidth=0.9, alpha=0.6, label="one seed"),
        ]
        panel.legend(
            handles=handles, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, handlelength=3.5
        )
    figure.savefig(path, dpi=200)


def curve(result: RunResult) -> tuple[np.ndarray, np.ndarray]:
    """
    :param result: a finished run
    :return: the grid's steps, and the mean return at each
    """
    steps = np.array([evaluation.step for evaluation in result.evaluations])
    return steps, np.array([evaluation.mean_return for evaluation in result.evaluations])


def mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """
    :param curves: of several seeds, on the same grid
    :return: the grid, and the mean over the seeds
    """
    return curves[0][0], np.mean([returns for _, returns in curves], axis=0)
