"""What each rung of a ladder of algorithms buys: at equal environment steps, and at equal wall-clock time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crashalgos.common.files import write_text
from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.figures import (
    COLORS,
    MARKERS,
    PANEL,
    add_legend,
    band_patch,
    draw_curve,
    house_style,
    label_steps,
    save,
    shade_groups,
)
from crashalgos.experiments.comparison.markdown import escape, markdown_table
from crashalgos.experiments.comparison.report import SCORE_COLUMNS, TEXTS, decimals, interval, number, score_row
from crashalgos.experiments.comparison.results import Contender, Results, Run
from crashalgos.experiments.comparison.statistics import ALPHA, Estimate, Pair

LADDER_FILE = "ladder.md"

NOTE = (
    "A gain is the mean difference to the rung below, over the seeds that both ran, with its 95 % bootstrap interval; * "
    "where a permutation test says p < 0.05, adjusted (Benjamini–Hochberg) over the table of all environments, or over the "
    "tables of single environments together. In an environment with fewer than 6 seeds no test can say so; with 10 seeds, "
    "for which p is at least 0.002, a gain that stands alone among many cannot have a star; with fewer than about ten runs "
    "the intervals are too narrow. *Final*: the deterministic return of the last evaluation. *Area*: the area under the "
    "learning curve of the deterministic evaluations, divided by the steps. *At equal time*: for each seed the returns when "
    "the faster of the two runs has made its steps, interpolated between evaluations; the slower one is in the middle of "
    "its training then, and so are its schedules."
)


@dataclass(frozen=True, eq=False)
class Rung:
    """
    :param results: a comparison
    :param env: one of its environments
    :param lower: the rung below
    :param upper: the rung
    """

    results: Results
    env: str
    lower: Contender
    upper: Contender

    @property
    def scale(self) -> float:
        """The width of the environment's reference range; 1 where it has none."""
        return self.results.references[self.env].scale or 1.0

    def runs(self) -> list[tuple[Run, Run]]:
        """:return: lower and upper run of each seed that both ran"""
        lower, upper = ({run.seed: run for run in self.results.cell(one, self.env)} for one in (self.lower, self.upper))
        return [(lower[seed], upper[seed]) for seed in sorted(lower.keys() & upper.keys())]

    def equal_time(self) -> float:
        """:return: seconds that the faster of the two runs of a seed needs for its training, the median over seeds"""
        return float(np.median([equal_time(low, high) for low, high in self.runs()]))


#: Of a run, beside the other run of its seed
Measure = Callable[[Run, Run], float]


def final(run: Run, other: Run) -> float:
    """
    :param run: a run
    :param other: the other of its seed
    :return: the deterministic return of its last evaluation
    """
    return run.score


def area(run: Run, other: Run) -> float:
    """
    :param run: a run
    :param other: the other of its seed
    :return: the area under its learning curve, divided by the steps
    """
    curve = run.deterministic
    return float(np.trapezoid(curve.returns, curve.steps) / (curve.steps[-1] - curve.steps[0]))


def equal_time(run: Run, other: Run) -> float:
    """
    :param run: a run
    :param other: the other of its seed
    :return: seconds that the faster of the two needs for its training
    """
    return float(min(run.deterministic.seconds[-1], other.deterministic.seconds[-1]))


def at_equal_time(run: Run, other: Run) -> float:
    """
    :param run: a run
    :param other: the other of its seed
    :return: its return when the faster of the two has made its steps, interpolated
    """
    return float(np.interp(equal_time(run, other), run.deterministic.seconds, run.deterministic.returns))


MEASURES: dict[str, Measure] = {"final": final, "area": area, "at equal time": at_equal_time}
# Those that are drawn, and their headings
DRAWN = {"final": "at equal environment steps", "at equal time": "at equal wall-clock time"}


@dataclass(frozen=True)
class Overall:
    """
    :param n_envs: in how many environments the rung is
    :param gain: in units of the reference range, the mean over the environments
    :param q: its adjusted p-value
    """

    n_envs: int
    gain: Estimate
    q: float


@dataclass(frozen=True)
class Gains:
    """
    What was found, for each of ``MEASURES``.

    :param single: of each rung in each environment: upper against lower
    :param overall: of each rung by its title
    """

    single: dict[Rung, dict[str, Pair]]
    overall: dict[str, dict[str, Overall]]


def rungs_of(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]]) -> list[Rung]:
    """
    :param comparisons: of contenders with the same names, in different environments
    :param ladders: names of contenders, the lowest first
    :return: every rung, each once, in each environment where both contenders have a seed in common
    """
    names = dict.fromkeys(pair for ladder in ladders for pair in pairwise(ladder))
    rungs = []
    for results in comparisons:
        by_name = {contender.name: contender for contender in results.contenders}
        there = [(by_name[lower], by_name[upper]) for lower, upper in names if {lower, upper} <= by_name.keys()]
        rungs += [Rung(results, env, lower, upper) for env in results.envs for lower, upper in there]
    return [rung for rung in rungs if rung.runs()]


def compare(rung: Rung, measure: Measure) -> Pair:
    """
    :param rung: a rung
    :param measure: what is compared
    :return: upper against lower
    """
    lower = {low.seed: measure(low, high) for low, high in rung.runs()}
    upper = {high.seed: measure(high, low) for low, high in rung.runs()}
    return statistics.compare(upper, lower, scale=rung.results.references[rung.env].scale)


def differences(rung: Rung, measure: Measure) -> np.ndarray:
    """
    :param rung: a rung
    :param measure: what is compared
    :return: of each seed that both ran, the gain in units of the environment's reference range, shape (n_seeds,)
    """
    gains = [measure(high, low) - measure(low, high) for low, high in rung.runs()]
    return np.array(gains) / rung.scale


def find_gains(rungs: Sequence[Rung]) -> Gains:
    """
    :param rungs: in all environments
    :return: what they buy; the tests of single environments are adjusted together, and those over all environments
    """
    pairs = iter(statistics.adjust([compare(rung, measure) for rung in rungs for measure in MEASURES.values()]))
    groups: dict[str, list[Rung]] = {}
    for rung in rungs:
        groups.setdefault(title(rung), []).append(rung)
    found = [
        statistics.mean_over_tasks([differences(rung, measure) for rung in group])
        for group in groups.values()
        for measure in MEASURES.values()
    ]
    means = zip((gain for gain, _ in found), statistics.adjust_p([p for _, p in found]), strict=True)
    return Gains(
        {rung: {name: next(pairs) for name in MEASURES} for rung in rungs},
        {name: {measure: Overall(len(group), *next(means)) for measure in MEASURES} for name, group in groups.items()},
    )


def write_ladder(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]], folder: Path) -> list[Path]:
    """
    Write ``ladder.md`` and its figures.

    :param comparisons: of contenders with the same names, in different environments
    :param ladders: names of contenders, the lowest first
    :param folder: where they go
    :return: the files written
    """
    names = list(dict.fromkeys(name for ladder in ladders for name in ladder))
    peers = [contender.name for contender in comparisons[0].contenders if contender.name not in names]
    gains = find_gains(rungs_of(comparisons, ladders))
    drawings: dict[str, Callable[[], Figure]] = {"gains.png": lambda: gains_figure(gains)} if gains.single else {}
    drawings |= {
        # Bands of so many contenders would hide each other
        "ladder.png": lambda: curves(comparisons, names, bands=False),
        "peers.png": lambda: curves(comparisons, [ladders[0][-1], *peers], bands=True),
    }
    for file, draw in drawings.items():
        with house_style():
            save(draw(), folder / file)
    write_text(folder / LADDER_FILE, markdown(comparisons, gains))
    return [folder / LADDER_FILE, *(folder / file for file in drawings)]


def markdown(comparisons: Sequence[Results], gains: Gains) -> str:
    """
    :param comparisons: in different environments
    :param gains: what was found in them
    :return: tables of scores and gains
    """
    parts = ["# The ladder", NOTE, "## What each rung buys, over all environments"]
    if gains.single:
        parts += [
            "In units of the reference range (0: random policy, 1: solved), each environment weighing the same.",
            "![Gains](gains.png)",
            overall_table(gains.overall),
        ]
    else:
        parts += ["No seed has been run by both contenders of a rung."]
    parts += ["![Learning curves of the ladder](ladder.png)", "![Learning curves beside the peers](peers.png)"]
    for results, env in cells(comparisons):
        here = {rung: found for rung, found in gains.single.items() if rung.results is results and rung.env == env}
        parts += [
            f"## {escape(env)}",
            "What each rung buys:",
            gain_table(here),
            "Every contender: return of the last evaluation, under the deterministic policy where nothing else is said.",
            score_table(results, env),
        ]
    return "\n\n".join(parts) + "\n"


def cells(comparisons: Sequence[Results]) -> Iterator[tuple[Results, str]]:
    """
    :param comparisons: in different environments
    :return: each environment, after the comparison in which it is
    """
    for results in comparisons:
        for env in results.envs:
            yield results, env


def score_table(results: Results, env: str) -> str:
    """
    :param results: a comparison
    :param env: one of its environments
    :return: a line a contender
    """
    rows = []
    for contender in results.contenders_of(env):
        seconds = np.median([run.deterministic.seconds[-1] for run in results.cell(contender, env)])
        rows.append((*score_row(results, env, contender), number(float(seconds), 0)))
    return markdown_table((*SCORE_COLUMNS, "median seconds"), rows, TEXTS)


def gain_table(single: Mapping[Rung, Mapping[str, Pair]]) -> str:
    """
    :param single: of rungs in one environment, for each measure what was found
    :return: a line a rung
    """
    rows = []
    for rung, pairs in single.items():
        digits = decimals(rung.results.references[rung.env].scale)
        texts = (gain_text(Estimate(pair.difference, pair.low, pair.high), pair.q, digits) for pair in pairs.values())
        rows.append((escape(title(rung)), *texts, number(rung.equal_time(), 0)))
    return markdown_table(("rung", *MEASURES, "equal time [s]"), rows, ("rung",))


def overall_table(overall: Mapping[str, Mapping[str, Overall]]) -> str:
    """
    :param overall: of each rung by its title, for each measure what was found
    :return: a line a rung
    """
    rows = []
    for name, found in overall.items():
        texts = (gain_text(one.gain, one.q, 3) for one in found.values())
        rows.append((escape(name), str(next(iter(found.values())).n_envs), *texts))
    return markdown_table(("rung", "environments", *MEASURES), rows, ("rung",))


def title(rung: Rung) -> str:
    """
    :param rung: a rung
    :return: what it is called in tables and figures
    """
    return f"{rung.lower.name} → {rung.upper.name}"


def gain_text(gain: Estimate, q: float, digits: int) -> str:
    """
    :param gain: a difference
    :param q: its adjusted p-value
    :param digits: how many decimals
    :return: both
    """
    sign = "+" if gain.value > 0 else ""
    return f"{sign}{number(gain.value, digits)} ({interval(gain, digits)}){'*' if q < ALPHA else ''}"


def gains_figure(gains: Gains) -> Figure:
    """
    :param gains: what was found
    :return: a row a rung, a panel a measure: its gain in each environment, and the mean
    """
    titles, envs = list(gains.overall), list(dict.fromkeys(rung.env for rung in gains.single))
    looks: dict[str, dict[str, Any]] = {
        env: {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]} for i, env in enumerate(envs)
    }
    mean: dict[str, Any] = {"color": "black", "marker": "D", "linewidth": 2.5, "markersize": 6}
    figure = Figure(figsize=(2 * PANEL[0], 1.2 + 0.12 * (len(envs) + 2) * len(titles)), layout="constrained")
    panels = figure.subplots(1, len(DRAWN), sharex=True, sharey=True)
    for panel, (measure, heading) in zip(panels, DRAWN.items(), strict=True):
        for rung, pairs in gains.single.items():
            pair = pairs[measure]
            gain = Estimate(*(value / rung.scale for value in (pair.difference, pair.low, pair.high)))
            place = (envs.index(rung.env) - len(envs) / 2) / (len(envs) + 2)
            draw_gain(panel, titles.index(title(rung)) + place, gain, looks[rung.env])
        for row, found in enumerate(gains.overall.values()):
            draw_gain(panel, row + len(envs) / 2 / (len(envs) + 2), found[measure].gain, mean)
        panel.axvline(0.0, color="0.3", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        panel.set_title(heading)
        panel.set_xlabel("gain [1 = from a random policy to the reference]")
        panel.grid(visible=False, axis="y")
        shade_groups(panel, titles)
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].set_ylim(len(titles) - 0.5, -0.5)
    handles = [Line2D([], [], linestyle="-", **look) for look in (*looks.values(), mean)]
    figure.legend(handles, [*envs, "mean over environments"], loc="outside lower center", ncols=len(handles))
    return figure


def draw_gain(panel: Axes, height: float, gain: Estimate, look: Mapping[str, Any]) -> None:
    """
    :param panel: where
    :param height: of the line in it
    :param gain: in units of the reference range
    :param look: of its marker and interval
    """
    panel.plot([gain.low, gain.high], [height, height], **{"linewidth": 1.5, **look, "marker": ""})
    panel.plot(gain.value, height, **{"markersize": 5, **look})


def curves(comparisons: Sequence[Results], names: Sequence[str], bands: bool) -> Figure:
    """
    :param comparisons: of contenders with the same names, in different environments
    :param names: of the contenders to be shown
    :param bands: whether with 95 % intervals
    :return: a row of panels an environment: the interquartile mean over steps, and over the median of the runs' seconds
    """
    places = list(cells(comparisons))
    figure = Figure(figsize=(2 * PANEL[0], 0.9 + len(places) * 0.85 * PANEL[1]), layout="constrained")
    shown = [contender for contender in comparisons[0].contenders if contender.name in names]
    for (left, right), (results, env) in zip(figure.subplots(len(places), 2, squeeze=False), places, strict=True):
        for contender in shown:
            curves = [run.deterministic for run in results.cell(contender, env)]
            if curves:
                returns = np.stack([curve.returns for curve in curves])
                nowhere = np.full(returns.shape[1], np.nan)
                band = statistics.curve(returns) if bands else (statistics.iqm(returns, axis=0), nowhere, nowhere)
                draw_curve(left, contender, curves[0].steps, *band)
                draw_curve(right, contender, np.median([curve.seconds for curve in curves], axis=0), *band)
        left.set_title(env)
        left.set_ylabel("episode return [raw reward]")
        label_steps(left)
        right.set_xlim(left=0)
        right.set_xlabel("training time [s], median of the runs")
        right.sharey(left)
    add_legend(figure, shown, (band_patch(),) if bands else ())
    return figure
