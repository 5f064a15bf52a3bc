"""
The report's figures. Each is made of the results alone, and the same results give the same bytes.

``results`` are always a comparison's results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.figure_style import (
    PANEL,
    add_legend,
    band_entry,
    draw_curve,
    draw_runs,
    grid_of_panels,
    house_style,
    label_steps,
    line_style,
    save,
    shade_groups,
)
from crashalgos.experiments.comparison.references import normalize
from crashalgos.experiments.comparison.results import Results

_N_TIMES = 101
_N_THRESHOLDS = 401


@dataclass(frozen=True)
class ReportFigure:
    """
    A figure of the report.

    :param name: its file's name, without the ending
    :param title: its heading
    :param caption: how to read it
    :param draw: function that draws it; it returns ``None`` if there is nothing to draw
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Results], Figure | None]

    @property
    def file(self) -> str:
        """Its path in the comparison's folder."""
        return f"figures/{self.name}.png"


def write_figures(results: Results) -> list[ReportFigure]:
    """Draws the figures, and removes files of an earlier report that has more figures."""
    (results.folder / "figures").mkdir(exist_ok=True)
    drawn = []
    for report_figure in REPORT_FIGURES:
        path = results.folder / report_figure.file
        with house_style():
            figure = report_figure.draw(results)
            if figure is None:
                path.unlink(missing_ok=True)
            else:
                save(figure, path)
                drawn.append(report_figure)
    return drawn


def learning_curves(results: Results) -> Figure:
    """
    Draws learning curves, a panel for each environment.

    A thin line is a run; a thick one is the interquartile mean.

    :return: the figure
    """
    figure, panels = grid_of_panels(len(results.envs))
    for panel, env in zip(panels, results.envs, strict=False):
        for contender in results.contenders_in(env):
            runs = results.runs_of(contender, env)
            returns = np.stack([run.deterministic.returns for run in runs])
            draw_runs(panel, contender, [(run.deterministic.steps, run.deterministic.returns) for run in runs])
            draw_curve(panel, contender, runs[0].deterministic.steps, *statistics.iqm_curve(returns))
        panel.set_title(env)
        label_steps(panel)
        panel.set_ylabel("episode return [raw reward]")
    one_run = Line2D([], [], color="0.3", linewidth=0.6, alpha=0.6)
    add_legend(figure, results.contenders_with_runs, ((one_run, "one run"), band_entry()))
    return figure


def sample_efficiency(results: Results) -> Figure | None:
    """
    Draws normalised scores over environment steps: the interquartile mean over the runs of all environments.

    :return: the figure; ``None`` for one environment, or if no contender has run in all of them
    """
    contenders = results.complete_contenders
    if len(results.envs) < 2 or not contenders:
        return None
    steps = _common_steps(results)
    figure, (panel,) = grid_of_panels(1)
    for contender in contenders:
        samples = []
        for env in results.envs:
            columns = [np.searchsorted(run.deterministic.steps, steps) for run in results.runs_of(contender, env)]
            returns = [run.deterministic.returns[at] for run, at in zip(results.runs_of(contender, env), columns, strict=True)]
            samples.append(normalize(np.stack(returns), results.references[env]))
        draw_curve(panel, contender, steps, *statistics.iqm_curve(samples))
    label_steps(panel)
    panel.set_ylabel("normalised score [1 = reference]")
    add_legend(figure, contenders, (band_entry(),))
    return figure


def performance_profiles(results: Results) -> Figure | None:
    """
    Draws for each score the share of runs above it.

    :return: the figure; ``None`` if no contender has run in all environments
    """
    contenders = results.complete_contenders
    if not contenders:
        return None
    samples = {contender: results.normalized_scores(contender, results.envs) for contender in contenders}
    everything = np.concatenate([scores for of_contender in samples.values() for scores in of_contender])
    thresholds = np.linspace(min(0.0, everything.min()) - 0.02, max(1.0, everything.max()) + 0.02, _N_THRESHOLDS)
    figure, (panel,) = grid_of_panels(1)
    for contender in contenders:
        draw_curve(panel, contender, thresholds, *statistics.performance_profile(samples[contender], thresholds))
    panel.set_xlabel("normalised score τ [0 = random policy, 1 = reference]")
    panel.set_ylabel("share of runs with a score above τ")
    panel.set_ylim(-0.03, 1.03)
    add_legend(figure, contenders, (band_entry(),))
    return figure


def probability_of_improvement(results: Results) -> Figure | None:
    """
    Draws for each pair of contenders the probability that a run of the left one scores higher.

    :return: the figure; ``None`` if there is no pair
    """
    pairs = [(a, b, results.common_envs(a, b)) for a, b in combinations(results.contenders, 2)]
    pairs = [(a, b, envs) for a, b, envs in pairs if envs]
    if not pairs:
        return None
    figure = Figure(figsize=(8.0, 1.3 + 0.3 * len(pairs)), layout="constrained")
    panel = figure.subplots()
    for i, (a, b, envs) in enumerate(pairs):
        estimate = statistics.probability_of_improvement(
            results.normalized_scores(a, envs), results.normalized_scores(b, envs)
        )
        color, marker = (line_style(a)[name] for name in ("color", "marker"))
        panel.plot([estimate.low, estimate.high], [i, i], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
        panel.plot(estimate.value, i, marker=marker, color=color, markersize=7)
    panel.axvline(0.5, color="0.3", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    panel.set_xlim(-0.03, 1.03)
    panel.set_xlabel("probability that left scores higher than right")
    for axis, labels in ((panel, [a.label for a, _, _ in pairs]), (panel.twinx(), [b.label for _, b, _ in pairs])):
        axis.set_ylim(len(pairs) - 0.4, -0.6)
        axis.set_yticks(range(len(pairs)), labels)
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
    shade_groups(panel, [a.name for a, _, _ in pairs])
    return figure


def wall_clock(results: Results) -> Figure:
    """Draws the interquartile mean of the return over training seconds, a panel for each environment."""
    figure, panels = grid_of_panels(len(results.envs))
    for panel, env in zip(panels, results.envs, strict=False):
        for contender in results.contenders_in(env):
            runs = [run.deterministic for run in results.runs_of(contender, env)]
            times, returns = statistics.returns_at_common_times(
                [run.seconds for run in runs], [run.returns for run in runs], n_times=_N_TIMES
            )
            draw_curve(panel, contender, times, *statistics.iqm_curve(returns))
        panel.set_title(env)
        panel.set_xlim(left=0)
        panel.set_xlabel("training time [s]")
        panel.set_ylabel("episode return [raw reward]")
    add_legend(figure, results.contenders_with_runs, (band_entry(),))
    return figure


def time_to_threshold(results: Results) -> Figure | None:
    """
    Draws the steps and the seconds until each run reached the threshold, a row of panels for each environment.

    :return: the figure; ``None`` if no run reached the threshold
    """
    envs = results.envs_that_reached_threshold
    if not envs:
        return None
    height = 0.9 + 0.34 * max(len(results.contenders_in(env)) for env in envs)
    figure = Figure(figsize=(2 * PANEL[0], 0.4 + height * len(envs)), layout="constrained")
    for panels, env in zip(figure.subplots(len(envs), 2, squeeze=False), envs, strict=True):
        contenders = results.contenders_in(env)
        labels = []
        for row, contender in enumerate(contenders):
            steps, seconds = results.times_to_threshold(contender, env)
            labels.append(f"{contender.label}: {np.isfinite(steps).sum()} of {len(steps)}")
            for panel, times in zip(panels, (steps, seconds), strict=True):
                _draw_times(panel, contender, row, times)
        for panel in panels:
            panel.set_ylim(len(contenders) - 0.4, -0.6)
            panel.set_yticks(range(len(contenders)), labels if panel is panels[0] else [""] * len(contenders))
            panel.set_title(f"{env}: return {_with_minus_sign(results.references[env].high)}")
            panel.tick_params(axis="y", length=0)
        panels[0].set_xlim(right=1.06 * results.runs_of(contenders[0], env)[0].deterministic.steps[-1])
        for panel in panels:
            # Room for runs that reached it from the start.
            panel.set_xlim(left=-0.02 * panel.get_xlim()[1])
        label_steps(panels[0])
        panels[1].set_xlabel("training time [s]")
    marks = [
        Line2D([], [], color="0.3", marker="o", linestyle="none", alpha=0.7),
        Line2D([], [], color="0.3", marker="|", markersize=14, markeredgewidth=2.5, linestyle="none"),
    ]
    figure.legend(marks, ["one run", "median of all runs"], loc="outside lower center", ncols=2, handlelength=1.5)
    return figure


def _draw_times(panel: Axes, contender: Contender, row: int, times: np.ndarray) -> None:
    color, marker = (line_style(contender)[name] for name in ("color", "marker"))
    # Runs that took equally long are drawn one below the other.
    height = row + np.linspace(-0.22, 0.22, len(times)) if len(times) > 1 else np.array([float(row)])
    reached = np.isfinite(times)
    panel.plot(times[reached], height[reached], marker=marker, color=color, linestyle="none", markersize=5, alpha=0.7)
    median = np.median(times)
    if np.isfinite(median):
        panel.plot(median, row, marker="|", color=color, markersize=20, markeredgewidth=2.5)


def _common_steps(results: Results) -> np.ndarray:
    """Returns the steps at which the runs of every environment have been evaluated."""
    grids = [set(run.deterministic.steps) for run in results.runs]
    return np.array(sorted(set.intersection(*grids)))


def _with_minus_sign(number: float) -> str:
    return f"{number:g}".replace("-", "−")


REPORT_FIGURES = (
    ReportFigure(
        "learning_curves",
        "Learning curves",
        "Deterministic evaluations over environment steps. Thin: each run. Thick: interquartile mean over the seeds, with its "
        "95 % bootstrap interval.",
        learning_curves,
    ),
    ReportFigure(
        "sample_efficiency",
        "Sample efficiency over all environments",
        "Normalised deterministic evaluations: interquartile mean over the runs of all environments, with its 95 % bootstrap "
        "interval. Contenders without a finished run in one of the environments are left out.",
        sample_efficiency,
    ),
    ReportFigure(
        "performance_profiles",
        "Performance profiles",
        "The share of runs whose normalised final score is above τ, mean over the environments, with pointwise 95 % "
        "bootstrap intervals. A curve that is above another one everywhere belongs to the better contender. Contenders "
        "without a finished run in one of the environments are left out.",
        performance_profiles,
    ),
    ReportFigure(
        "probability_of_improvement",
        "Probability of improvement",
        "How probable it is that a run of the left contender scores higher than a run of the right one (ties count one half), "
        "mean over the environments in which both have finished runs, with its 95 % bootstrap interval. At 0.5 neither is "
        "ahead.",
        probability_of_improvement,
    ),
    ReportFigure(
        "wall_clock",
        "Return over training time",
        "Interquartile mean over the seeds of the last deterministic evaluation made so far, with its 95 % bootstrap "
        "interval, over the seconds of training (evaluation left out). A curve ends with its shortest run.",
        wall_clock,
    ),
    ReportFigure(
        "time_to_threshold",
        "Time to threshold",
        "When the mean deterministic return of an evaluation first reached the reference's high end, for each run that "
        "reached it (how many did is beside the name). The median counts the others as never, and is not drawn where it is "
        "never itself.",
        time_to_threshold,
    ),
)
