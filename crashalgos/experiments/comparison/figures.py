"""The report's figures: every one from the results alone, the same bytes each time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from crashalgos.common.files import replacing
from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.references import normalize
from crashalgos.experiments.comparison.results import Contender, Results

# Okabe and Ito's colours (without yellow, which paper swallows), told apart by colour-blind readers too. Lines and markers
# differ besides, for print in grey, and for results that coincide: what is drawn later is narrower and dashed, and lets the
# line below show. The three lists have lengths without a common divisor, so that no two of many contenders look alike.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.2)),
    (0, (7, 1.5, 1.2, 1.5)),
    (0, (10, 3)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0, (2.5, 2.5)),
    (0, (7, 1.2, 2.5, 1.2)),
    (0, (14, 2, 2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")

DPI = 150
PANEL = (5.4, 3.7)
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 4.0,
    # A label is text, whatever signs it has.
    "text.parse_math": False,
}
TIMES = 101
THRESHOLDS = 401
BAND = 0.15


@dataclass(frozen=True)
class Drawing:
    """
    A figure of the report.

    :param name: of its file, without the ending
    :param title: its heading
    :param caption: how to read it
    :param draw: draws it; ``None`` where there is nothing to draw
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Results], Figure | None]

    @property
    def file(self) -> str:
        """Its path in the comparison's folder."""
        return f"figures/{self.name}.png"


def write_figures(results: Results) -> list[Drawing]:
    """
    Draw what there is to draw, and remove what an earlier report drew and this one does not.

    :param results: a comparison
    :return: the figures that there are now
    """
    (results.folder / "figures").mkdir(exist_ok=True)
    drawn = []
    for drawing in DRAWINGS:
        path = results.folder / drawing.file
        with house_style():
            figure = drawing.draw(results)
            if figure is None:
                path.unlink(missing_ok=True)
            else:
                save(figure, path)
                drawn.append(drawing)
    return drawn


@contextmanager
def house_style() -> Iterator[None]:
    """The same look whatever the reader's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """
    :param figure: a figure
    :param path: its PNG file
    """
    with replacing(path) as temporary:
        # matplotlib would write its version.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": "crashalgos"})


def learning_curves(results: Results) -> Figure:
    """
    :param results: a comparison
    :return: one panel an environment: a thin line a run, a thick one for the interquartile mean, over environment steps
    """
    figure, panels = grid_of_panels(len(results.envs))
    for panel, env in zip(panels, results.envs, strict=False):
        for contender in results.contenders_of(env):
            runs = results.cell(contender, env)
            returns = np.stack([run.deterministic.returns for run in runs])
            draw_runs(panel, contender, [(run.deterministic.steps, run.deterministic.returns) for run in runs])
            draw_curve(panel, contender, runs[0].deterministic.steps, *statistics.curve(returns))
        panel.set_title(env)
        label_steps(panel)
        panel.set_ylabel("episode return [raw reward]")
    add_legend(figure, results.with_runs(), (one_run(), band_patch()))
    return figure


def sample_efficiency(results: Results) -> Figure | None:
    """
    :param results: a comparison
    :return: normalised scores over environment steps, interquartile mean over the runs of all environments; ``None`` where
        there is one environment, or no contender has run in all of them
    """
    contenders = results.complete()
    if len(results.envs) < 2 or not contenders:
        return None
    steps = common_steps(results)
    figure, (panel,) = grid_of_panels(1)
    for contender in contenders:
        samples = []
        for env in results.envs:
            columns = [np.searchsorted(run.deterministic.steps, steps) for run in results.cell(contender, env)]
            returns = [run.deterministic.returns[at] for run, at in zip(results.cell(contender, env), columns, strict=True)]
            samples.append(normalize(np.stack(returns), results.references[env]))
        draw_curve(panel, contender, steps, *statistics.curve(samples))
    label_steps(panel)
    panel.set_ylabel("normalised score [1 = reference]")
    add_legend(figure, contenders, (band_patch(),))
    return figure


def performance_profiles(results: Results) -> Figure | None:
    """
    :param results: a comparison
    :return: for each score the share of runs above it; ``None`` where no contender has run in all environments
    """
    contenders = results.complete()
    if not contenders:
        return None
    samples = {contender: results.normalized_scores(contender, results.envs) for contender in contenders}
    everything = np.concatenate([scores for of_contender in samples.values() for scores in of_contender])
    thresholds = np.linspace(min(0.0, everything.min()) - 0.02, max(1.0, everything.max()) + 0.02, THRESHOLDS)
    figure, (panel,) = grid_of_panels(1)
    for contender in contenders:
        draw_curve(panel, contender, thresholds, *statistics.performance_profile(samples[contender], thresholds))
    panel.set_xlabel("normalised score τ [0 = random policy, 1 = reference]")
    panel.set_ylabel("share of runs with a score above τ")
    panel.set_ylim(-0.03, 1.03)
    add_legend(figure, contenders, (band_patch(),))
    return figure


def probability_of_improvement(results: Results) -> Figure | None:
    """
    :param results: a comparison
    :return: for each pair how probable it is that a run of the left one scores higher; ``None`` where there is no pair
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
        color = COLORS[a.index % len(COLORS)]
        panel.plot([estimate.low, estimate.high], [i, i], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
        panel.plot(estimate.value, i, marker=MARKERS[a.index % len(MARKERS)], color=color, markersize=7)
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
    """
    :param results: a comparison
    :return: one panel an environment: the interquartile mean of the return over the seconds of training
    """
    figure, panels = grid_of_panels(len(results.envs))
    for panel, env in zip(panels, results.envs, strict=False):
        for contender in results.contenders_of(env):
            runs = [run.deterministic for run in results.cell(contender, env)]
            times, returns = statistics.on_common_times(
                [run.seconds for run in runs], [run.returns for run in runs], n_times=TIMES
            )
            draw_curve(panel, contender, times, *statistics.curve(returns))
        panel.set_title(env)
        panel.set_xlim(left=0)
        panel.set_xlabel("training time [s]")
        panel.set_ylabel("episode return [raw reward]")
    add_legend(figure, results.with_runs(), (band_patch(),))
    return figure


def time_to_threshold(results: Results) -> Figure | None:
    """
    :param results: a comparison
    :return: a row of panels an environment: steps, and seconds, until each run reached the threshold; ``None`` where no run
        did
    """
    envs = envs_reached(results)
    if not envs:
        return None
    height = 0.9 + 0.34 * max(len(results.contenders_of(env)) for env in envs)
    figure = Figure(figsize=(2 * PANEL[0], 0.4 + height * len(envs)), layout="constrained")
    for panels, env in zip(figure.subplots(len(envs), 2, squeeze=False), envs, strict=True):
        contenders = results.contenders_of(env)
        labels = []
        for row, contender in enumerate(contenders):
            steps, seconds = results.times_to_threshold(contender, env)
            labels.append(f"{contender.label}: {np.isfinite(steps).sum()} of {len(steps)}")
            for panel, times in zip(panels, (steps, seconds), strict=True):
                draw_times(panel, contender, row, times)
        for panel in panels:
            panel.set_ylim(len(contenders) - 0.4, -0.6)
            panel.set_yticks(range(len(contenders)), labels if panel is panels[0] else [""] * len(contenders))
            panel.set_title(f"{env}: return {typeset(results.references[env].high)}")
            panel.tick_params(axis="y", length=0)
        panels[0].set_xlim(right=1.06 * results.cell(contenders[0], env)[0].deterministic.steps[-1])
        for panel in panels:
            # Room for what was there from the start
            panel.set_xlim(left=-0.02 * panel.get_xlim()[1])
        label_steps(panels[0])
        panels[1].set_xlabel("training time [s]")
    marks = [
        Line2D([], [], color="0.3", marker="o", linestyle="none", alpha=0.7),
        Line2D([], [], color="0.3", marker="|", markersize=14, markeredgewidth=2.5, linestyle="none"),
    ]
    figure.legend(marks, ["one run", "median of all runs"], loc="outside lower center", ncols=2, handlelength=1.5)
    return figure


DRAWINGS = (
    Drawing(
        "learning_curves",
        "Learning curves",
        "Deterministic evaluations over environment steps. Thin: each run. Thick: interquartile mean over the seeds, with its "
        "95 % bootstrap interval.",
        learning_curves,
    ),
    Drawing(
        "sample_efficiency",
        "Sample efficiency over all environments",
        "Normalised deterministic evaluations: interquartile mean over the runs of all environments, with its 95 % bootstrap "
        "interval. Contenders without a finished run in one of the environments are left out.",
        sample_efficiency,
    ),
    Drawing(
        "performance_profiles",
        "Performance profiles",
        "The share of runs whose normalised final score is above τ, mean over the environments, with pointwise 95 % "
        "bootstrap intervals. A curve that is above another one everywhere belongs to the better contender. Contenders "
        "without a finished run in one of the environments are left out.",
        performance_profiles,
    ),
    Drawing(
        "probability_of_improvement",
        "Probability of improvement",
        "How probable it is that a run of the left contender scores higher than a run of the right one (ties count one half), "
        "mean over the environments in which both have finished runs, with its 95 % bootstrap interval. At 0.5 neither is "
        "ahead.",
        probability_of_improvement,
    ),
    Drawing(
        "wall_clock",
        "Return over training time",
        "Interquartile mean over the seeds of the last deterministic evaluation made so far, with its 95 % bootstrap "
        "interval, over the seconds of training (evaluation left out). A curve ends with its shortest run.",
        wall_clock,
    ),
    Drawing(
        "time_to_threshold",
        "Time to threshold",
        "When the mean deterministic return of an evaluation first reached the reference's high end, for each run that "
        "reached it (how many did is beside the name). The median counts the others as never, and is not drawn where it is "
        "never itself.",
        time_to_threshold,
    ),
)


def grid_of_panels(n: int) -> tuple[Figure, list[Axes]]:
    """
    :param n: how many panels
    :return: a figure with at most two in a row, and the panels
    """
    columns = min(n, 2)
    rows = -(-n // columns)
    width = 7.5 if columns == 1 else columns * PANEL[0]
    figure = Figure(figsize=(width, 0.8 + rows * PANEL[1]), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[n:]:
        panel.set_axis_off()
    return figure, panels[:n]


def look(contender: Contender) -> dict[str, Any]:
    """
    :param contender: a contender
    :return: its line in every figure
    """
    i = contender.index
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": LINES[i % len(LINES)],
        "linewidth": max(1.5, 2.9 - 0.2 * i),
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 5.5,
    }


def draw_runs(panel: Axes, contender: Contender, curves: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """
    :param panel: where
    :param contender: whose
    :param curves: x and y of each of its runs
    """
    plain = look(contender) | {"marker": "", "linewidth": 0.6}
    for x, y in curves:
        panel.plot(x, y, alpha=0.35, zorder=1.5, **plain)


def draw_curve(
    panel: Axes, contender: Contender, x: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """
    A thick line and its band. Markers of several contenders stand at different places.

    :param panel: where
    :param contender: whose
    :param x: shape (n,)
    :param values: shape (n,)
    :param low: of the band, shape (n,); ``nan`` where there is no interval
    :param high: of the band, shape (n,)
    """
    stride = max(1, len(x) // 7)
    style = look(contender)
    panel.fill_between(x, low, high, color=style["color"], alpha=BAND, linewidth=0, zorder=1.2)
    panel.plot(x, values, markevery=(contender.index * 2 % stride, stride), zorder=2.5, **style)


def draw_times(panel: Axes, contender: Contender, row: int, times: np.ndarray) -> None:
    """
    :param panel: where
    :param contender: whose
    :param row: its line in the panel
    :param times: of each run; ``inf`` for never
    """
    color, marker = (look(contender)[name] for name in ("color", "marker"))
    # Runs that took equally long stand one below the other.
    height = row + np.linspace(-0.22, 0.22, len(times)) if len(times) > 1 else np.array([float(row)])
    reached = np.isfinite(times)
    panel.plot(times[reached], height[reached], marker=marker, color=color, linestyle="none", markersize=5, alpha=0.7)
    median = np.median(times)
    if np.isfinite(median):
        panel.plot(median, row, marker="|", color=color, markersize=20, markeredgewidth=2.5)


def shade_groups(panel: Axes, names: Sequence[str]) -> None:
    """
    :param panel: rows, the first at 0
    :param names: of the group that each row belongs to; every other group gets a grey ground
    """
    groups = list(dict.fromkeys(names))
    for row, name in enumerate(names):
        if groups.index(name) % 2:
            panel.axhspan(row - 0.5, row + 0.5, color="0.95", linewidth=0, zorder=-1)


def label_steps(panel: Axes) -> None:
    """
    :param panel: its x axis gets environment steps
    """
    panel.set_xlabel("environment steps")
    panel.xaxis.set_major_formatter(lambda step, _: short_number(step))


def short_number(number: float) -> str:
    """
    :param number: a number of steps
    :return: it, with k for thousands and M for millions
    """
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(number) >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def typeset(number: float) -> str:
    """
    :param number: a number
    :return: it, with a minus sign instead of a hyphen
    """
    return f"{number:g}".replace("-", "−")


def one_run() -> tuple[Line2D, str]:
    """
    :return: the legend's entry for a run's line
    """
    return Line2D([], [], color="0.3", linewidth=0.6, alpha=0.6), "one run"


def band_patch() -> tuple[Patch, str]:
    """
    :return: the legend's entry for a band
    """
    return Patch(color="0.3", alpha=BAND, linewidth=0), "95 % interval"


def add_legend(figure: Figure, contenders: Sequence[Contender], others: Sequence[tuple[Line2D | Patch, str]]) -> None:
    """
    :param figure: gets a legend below its panels
    :param contenders: those in it
    :param others: what the legend explains besides
    """
    handles: list[Line2D | Patch] = [Line2D([], [], **look(contender)) for contender in contenders]
    labels = [contender.label for contender in contenders]
    for handle, label in others:
        handles.append(handle)
        labels.append(label)
    # About 14 characters an inch, and the handles' own width
    columns = max(1, int(figure.get_figwidth() / (0.75 + max(map(len, labels)) / 14)))
    legend = figure.legend(handles, [" "] * len(labels), loc="outside lower center", ncols=min(columns, len(labels), 4))
    # Afterwards, because a legend leaves out what begins with an underscore.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)


def common_steps(results: Results) -> np.ndarray:
    """
    :param results: a comparison
    :return: the steps at which the runs of every environment have been evaluated
    """
    grids = [set(run.deterministic.steps) for run in results.runs]
    return np.array(sorted(set.intersection(*grids)))


def envs_reached(results: Results) -> tuple[str, ...]:
    """
    :param results: a comparison
    :return: the environments in which a run reached the threshold
    """
    return tuple(
        env
        for env in results.envs
        if any(np.isfinite(results.times_to_threshold(contender, env)[0]).any() for contender in results.contenders_of(env))
    )
