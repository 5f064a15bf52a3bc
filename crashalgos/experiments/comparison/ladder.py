"""The ladder: what each rung gains over the rung below, at equal environment steps and at equal wall-clock time."""

from collections.abc import Callable, Mapping, Sequence
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
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.figure_style import (
    COLORS,
    MARKERS,
    PANEL,
    add_legend,
    band_entry,
    draw_curve,
    house_style,
    label_steps,
    save,
    shade_groups,
)
from crashalgos.experiments.comparison.markdown import escape, markdown_table
from crashalgos.experiments.comparison.number_format import decimals, format_interval, format_number
from crashalgos.experiments.comparison.rendering import render
from crashalgos.experiments.comparison.report_tables import SCORE_COLUMNS, TEXT_COLUMNS, score_row
from crashalgos.experiments.comparison.results import Results, Run
from crashalgos.experiments.comparison.statistics import ALPHA, Estimate, Pair

_LADDER_FILE = "ladder.md"


@dataclass(frozen=True, eq=False)
class Rung:
    """
    A contender and the contender one rung below, in one environment.

    :param results: the results of the environment's comparison
    :param env: the environment's id
    :param lower: the contender one rung below
    :param upper: the contender
    """

    results: Results
    env: str
    lower: Contender
    upper: Contender

    @property
    def title(self) -> str:
        """The rung's name in tables and figures."""
        return f"{self.lower.name} → {self.upper.name}"

    @property
    def scale(self) -> float:
        """The width of the environment's reference range; 1 if that is 0."""
        return self.results.references[self.env].scale or 1.0

    @property
    def run_pairs(self) -> list[tuple[Run, Run]]:
        """The lower and the upper run of each seed that both contenders ran."""
        lower, upper = ({run.seed: run for run in self.results.runs_of(one, self.env)} for one in (self.lower, self.upper))
        return [(lower[seed], upper[seed]) for seed in sorted(lower.keys() & upper.keys())]

    @property
    def equal_time(self) -> float:
        """Training seconds of the faster run of a seed, the median over seeds."""
        return float(np.median([_faster_seconds(low, high) for low, high in self.run_pairs]))


def _final_return(run: Run, other: Run) -> float:
    return run.score


def _area_under_curve(run: Run, other: Run) -> float:
    curve = run.deterministic
    return float(np.trapezoid(curve.returns, curve.steps) / (curve.steps[-1] - curve.steps[0]))


def _return_at_equal_time(run: Run, other: Run) -> float:
    return float(np.interp(_faster_seconds(run, other), run.deterministic.seconds, run.deterministic.returns))


def _faster_seconds(run: Run, other: Run) -> float:
    """Returns the training seconds of the faster of two runs."""
    return float(min(run.deterministic.seconds[-1], other.deterministic.seconds[-1]))


#: A figure of a run. It may depend on the other run of the same seed.
Measure = Callable[[Run, Run], float]
MEASURES: dict[str, Measure] = {"final": _final_return, "area": _area_under_curve, "at equal time": _return_at_equal_time}
# The measures in the figure, and their headings.
_DRAWN_MEASURES = {"final": "at equal environment steps", "at equal time": "at equal wall-clock time"}


@dataclass(frozen=True)
class MeanGain:
    """
    The mean gain of a rung over several environments.

    :param n_envs: number of environments
    :param gain: the mean over the environments, in units of the reference range
    :param q: its adjusted p-value
    """

    n_envs: int
    gain: Estimate
    q: float


@dataclass(frozen=True)
class Gains:
    """
    The gains of all rungs, for each of ``MEASURES``.

    :param single: for each rung in each environment: statistics of the upper contender against the lower one
    :param overall: for each rung's title: the mean gain over all environments
    """

    single: dict[Rung, dict[str, Pair]]
    overall: dict[str, dict[str, MeanGain]]


def rungs_of(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]]) -> list[Rung]:
    """
    Returns the rungs of several ladders.

    :param comparisons: results of contenders with the same names, in different environments
    :param ladders: names of contenders, the lowest first
    :return: every rung once, in each environment where both contenders have a seed in common
    """
    names = dict.fromkeys(pair for ladder in ladders for pair in pairwise(ladder))
    rungs = []
    for results in comparisons:
        by_name = {contender.name: contender for contender in results.contenders}
        there = [(by_name[lower], by_name[upper]) for lower, upper in names if {lower, upper} <= by_name.keys()]
        rungs += [Rung(results, env, lower, upper) for env in results.envs for lower, upper in there]
    return [rung for rung in rungs if rung.run_pairs]


def compare_rung(rung: Rung, measure: Measure) -> Pair:
    """
    Compares the upper contender with the lower one.

    :param rung: the rung
    :param measure: the measure to compare
    :return: their statistics
    """
    lower = {low.seed: measure(low, high) for low, high in rung.run_pairs}
    upper = {high.seed: measure(high, low) for low, high in rung.run_pairs}
    return statistics.compare_scores(upper, lower, scale=rung.results.references[rung.env].scale)


def normalized_gains(rung: Rung, measure: Measure) -> np.ndarray:
    """
    Returns the gain of each seed that both contenders ran.

    :param rung: the rung
    :param measure: the measure to compare
    :return: the gains in units of the environment's reference range, shape (n_seeds,)
    """
    gains = [measure(high, low) - measure(low, high) for low, high in rung.run_pairs]
    return np.array(gains) / rung.scale


def compute_gains(rungs: Sequence[Rung]) -> Gains:
    """
    Computes all gains. P-values are adjusted for all tests of single environments, and for all tests over environments.

    :param rungs: the rungs in all environments
    :return: the gains
    """
    compared = [compare_rung(rung, measure) for rung in rungs for measure in MEASURES.values()]
    pairs = iter(statistics.adjust_pairs(compared))
    groups: dict[str, list[Rung]] = {}
    for rung in rungs:
        groups.setdefault(rung.title, []).append(rung)
    tested = [
        statistics.mean_difference([normalized_gains(rung, measure) for rung in group])
        for group in groups.values()
        for measure in MEASURES.values()
    ]
    means = zip((gain for gain, _ in tested), statistics.benjamini_hochberg([p for _, p in tested]), strict=True)
    return Gains(
        {rung: {name: next(pairs) for name in MEASURES} for rung in rungs},
        {title: {name: MeanGain(len(group), *next(means)) for name in MEASURES} for title, group in groups.items()},
    )


def write_ladder(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]], folder: Path) -> list[Path]:
    """
    Writes ``ladder.md`` and its figures.

    :param comparisons: results of contenders with the same names, in different environments
    :param ladders: names of contenders, the lowest first
    :param folder: the folder of the files
    :return: the files written
    """
    names = list(dict.fromkeys(name for ladder in ladders for name in ladder))
    peers = [contender.name for contender in comparisons[0].contenders if contender.name not in names]
    gains = compute_gains(rungs_of(comparisons, ladders))
    figures: dict[str, Callable[[], Figure]] = {"gains.png": lambda: gains_figure(gains)} if gains.single else {}
    figures |= {
        # Bands of so many contenders would hide each other.
        "ladder.png": lambda: _curves_figure(comparisons, names, bands=False),
        "peers.png": lambda: _curves_figure(comparisons, [ladders[0][-1], *peers], bands=True),
    }
    for file, draw in figures.items():
        with house_style():
            save(draw(), folder / file)
    write_text(folder / _LADDER_FILE, _markdown(comparisons, gains))
    return [folder / _LADDER_FILE, *(folder / file for file in figures)]


def _markdown(comparisons: Sequence[Results], gains: Gains) -> str:
    sections = [
        {"env": env, "gain_table": _gain_table(gains, results, env), "score_table": _score_table(results, env)}
        for results, env in _environments(comparisons)
    ]
    overall_table = _overall_table(gains.overall) if gains.single else ""
    return render("ladder.md.jinja", overall_table=overall_table, sections=sections)


def _environments(comparisons: Sequence[Results]) -> list[tuple[Results, str]]:
    """Returns each environment with the results of its comparison."""
    return [(results, env) for results in comparisons for env in results.envs]


def _score_table(results: Results, env: str) -> str:
    rows = []
    for contender in results.contenders_in(env):
        seconds = np.median([run.deterministic.seconds[-1] for run in results.runs_of(contender, env)])
        rows.append((*score_row(results, env, contender), format_number(float(seconds), 0)))
    return markdown_table((*SCORE_COLUMNS, "median seconds"), rows, TEXT_COLUMNS)


def _gain_table(gains: Gains, results: Results, env: str) -> str:
    rows = []
    for rung, pairs in gains.single.items():
        if rung.results is results and rung.env == env:
            digits = decimals(results.references[env].scale)
            texts = (_gain_text(Estimate(pair.difference, pair.low, pair.high), pair.q, digits) for pair in pairs.values())
            rows.append((escape(rung.title), *texts, format_number(rung.equal_time, 0)))
    return markdown_table(("rung", *MEASURES, "equal time [s]"), rows, ("rung",))


def _overall_table(overall: Mapping[str, Mapping[str, MeanGain]]) -> str:
    rows = []
    for title, means in overall.items():
        texts = (_gain_text(mean.gain, mean.q, 3) for mean in means.values())
        rows.append((escape(title), str(next(iter(means.values())).n_envs), *texts))
    return markdown_table(("rung", "environments", *MEASURES), rows, ("rung",))


def _gain_text(gain: Estimate, q: float, digits: int) -> str:
    sign, star = "+" if gain.value > 0 else "", "*" if q < ALPHA else ""
    return f"{sign}{format_number(gain.value, digits)} ({format_interval(gain, digits)}){star}"


def gains_figure(gains: Gains) -> Figure:
    """
    Draws the gains: a row for each rung, with its gain in each environment and the mean; a panel for each measure.

    :param gains: the gains
    :return: the figure
    """
    titles, envs = list(gains.overall), list(dict.fromkeys(rung.env for rung in gains.single))
    styles: dict[str, dict[str, Any]] = {
        env: {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]} for i, env in enumerate(envs)
    }
    mean: dict[str, Any] = {"color": "black", "marker": "D", "linewidth": 2.5, "markersize": 6}
    figure = Figure(figsize=(2 * PANEL[0], 1.2 + 0.12 * (len(envs) + 2) * len(titles)), layout="constrained")
    panels = figure.subplots(1, len(_DRAWN_MEASURES), sharex=True, sharey=True)
    for panel, (measure, heading) in zip(panels, _DRAWN_MEASURES.items(), strict=True):
        for rung, pairs in gains.single.items():
            pair = pairs[measure]
            gain = Estimate(*(value / rung.scale for value in (pair.difference, pair.low, pair.high)))
            place = (envs.index(rung.env) - len(envs) / 2) / (len(envs) + 2)
            _draw_gain(panel, titles.index(rung.title) + place, gain, styles[rung.env])
        for row, means in enumerate(gains.overall.values()):
            _draw_gain(panel, row + len(envs) / 2 / (len(envs) + 2), means[measure].gain, mean)
        panel.axvline(0.0, color="0.3", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        panel.set_title(heading)
        panel.set_xlabel("gain [1 = from a random policy to the reference]")
        panel.grid(visible=False, axis="y")
        shade_groups(panel, titles)
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].set_ylim(len(titles) - 0.5, -0.5)
    handles = [Line2D([], [], linestyle="-", **style) for style in (*styles.values(), mean)]
    figure.legend(handles, [*envs, "mean over environments"], loc="outside lower center", ncols=len(handles))
    return figure


def _draw_gain(panel: Axes, height: float, gain: Estimate, style: Mapping[str, Any]) -> None:
    panel.plot([gain.low, gain.high], [height, height], **{"linewidth": 1.5, **style, "marker": ""})
    panel.plot(gain.value, height, **{"markersize": 5, **style})


def _curves_figure(comparisons: Sequence[Results], names: Sequence[str], bands: bool) -> Figure:
    """Draws the contenders' IQM over steps, and over the median of the runs' seconds: a row for each environment."""
    places = _environments(comparisons)
    figure = Figure(figsize=(2 * PANEL[0], 0.9 + len(places) * 0.85 * PANEL[1]), layout="constrained")
    shown = [contender for contender in comparisons[0].contenders if contender.name in names]
    for (left, right), (results, env) in zip(figure.subplots(len(places), 2, squeeze=False), places, strict=True):
        for contender in shown:
            curves = [run.deterministic for run in results.runs_of(contender, env)]
            if curves:
                returns = np.stack([curve.returns for curve in curves])
                no_band = np.full(returns.shape[1], np.nan)
                band = statistics.iqm_curve(returns) if bands else (statistics.iqm(returns, axis=0), no_band, no_band)
                draw_curve(left, contender, curves[0].steps, *band)
                draw_curve(right, contender, np.median([curve.seconds for curve in curves], axis=0), *band)
        left.set_title(env)
        left.set_ylabel("episode return [raw reward]")
        label_steps(left)
        right.set_xlim(left=0)
        right.set_xlabel("training time [s], median of the runs")
        right.sharey(left)
    add_legend(figure, shown, (band_entry(),) if bands else ())
    return figure
