"""What each rung of a ladder of algorithms buys: at equal environment steps, and at equal wall-clock time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from crashalgos.common.files import write_text
from crashalgos.experiments import statistics
from crashalgos.experiments.comparison.figures import (
    PANEL,
    add_legend,
    band_patch,
    draw_curve,
    house_style,
    label_steps,
    save,
)
from crashalgos.experiments.comparison.report import decimals, interval, iqm_of, number
from crashalgos.experiments.comparison.results import Contender, Results, Run
from crashalgos.experiments.markdown import escape, markdown_table
from crashalgos.experiments.statistics import ALPHA, Estimate, Pair

LADDER_FILE = "ladder.md"

NOTE = (
    "A gain is the mean difference to the rung below, over the seeds that both ran, with its 95 % bootstrap interval; * where "
    "a permutation test of it says p < 0.05 after the adjustment over all gains of these tables (with fewer than 6 seeds none "
    "can). *Final*: the deterministic return of the last evaluation. *Mean*: that of all evaluations, the area under the "
    "learning curve. *At equal time*: the return at the time at which the fastest of all contenders has made its steps; a "
    "contender's time is steps divided by its speed, the median over its runs, which took turns seed by seed, and the return "
    "is interpolated between evaluations."
)


@dataclass(frozen=True)
class Gain:
    """
    :param env: the environment's id
    :param lower: the rung below
    :param upper: the rung
    :param pairs: for each measure, upper against lower
    """

    env: str
    lower: Contender
    upper: Contender
    pairs: Mapping[str, Pair]


Measure = Callable[[Results, str, Run], float]


def final(results: Results, env: str, run: Run) -> float:
    """
    :param results: a comparison
    :param env: the run's environment
    :param run: a run
    :return: the deterministic return of its last evaluation
    """
    return run.score


def mean(results: Results, env: str, run: Run) -> float:
    """
    :param results: a comparison
    :param env: the run's environment
    :param run: a run
    :return: the area under its learning curve, in units of the return
    """
    curve = run.deterministic
    return float(np.trapezoid(curve.returns, curve.steps) / (curve.steps[-1] - curve.steps[0]))


def at_equal_time(results: Results, env: str, run: Run) -> float:
    """
    :param results: a comparison
    :param env: the run's environment
    :param run: a run
    :return: its return when the fastest contender has made its steps
    """
    contender = next(one for one in results.contenders if one.name == run.contender)
    steps = equal_time(results, env) * speed(results, contender, env)
    return float(np.interp(steps, run.deterministic.steps, run.deterministic.returns))


MEASURES: dict[str, Measure] = {"final": final, "mean": mean, "at equal time": at_equal_time}


def speed(results: Results, contender: Contender, env: str) -> float:
    """
    :param results: a comparison
    :param contender: a contender with finished runs there
    :param env: an environment's id
    :return: environment steps a second of training, the median of its runs
    """
    curves = [run.deterministic for run in results.cell(contender, env)]
    return float(np.median([curve.steps[-1] / curve.seconds[-1] for curve in curves]))


def equal_time(results: Results, env: str) -> float:
    """
    :param results: a comparison
    :param env: an environment's id
    :return: seconds that the fastest contender needs for all its steps
    """
    contenders = results.contenders_of(env)
    steps = results.cell(contenders[0], env)[0].deterministic.steps[-1]
    return float(steps / max(speed(results, contender, env) for contender in contenders))


def gains(comparisons: Sequence[Results], rungs: Sequence[tuple[str, str]]) -> list[Gain]:
    """
    :param comparisons: of the same contenders, in different environments
    :param rungs: names of contenders, the lower rung first
    :return: what each rung gains in each environment where both have runs; p-values adjusted over all of them
    """
    cells = []
    for results in comparisons:
        by_name = {contender.name: contender for contender in results.contenders}
        for env in results.envs:
            for lower, upper in ((by_name[low], by_name[high]) for low, high in rungs):
                if results.cell(lower, env) and results.cell(upper, env):
                    cells.append((results, env, lower, upper))
    pairs = statistics.adjust([compare(*cell, measure) for cell in cells for measure in MEASURES.values()])
    n = len(MEASURES)
    return [
        Gain(env, lower, upper, dict(zip(MEASURES, pairs[n * i : n * (i + 1)], strict=True)))
        for i, (_, env, lower, upper) in enumerate(cells)
    ]


def compare(results: Results, env: str, lower: Contender, upper: Contender, measure: Measure) -> Pair:
    """
    :param results: a comparison
    :param env: an environment's id
    :param lower: a contender with finished runs there
    :param upper: another one
    :param measure: of a run
    :return: upper against lower
    """
    values = [{run.seed: measure(results, env, run) for run in results.cell(one, env)} for one in (upper, lower)]
    return statistics.compare(*values, scale=results.references[env].scale)


def differences(results: Results, env: str, rung: tuple[str, str], measure: Measure) -> np.ndarray:
    """
    :param results: a comparison
    :param env: an environment's id
    :param rung: names of two contenders, the lower one first
    :param measure: of a run
    :return: of each seed that both ran, the gain in units of the environment's reference range, shape (n_seeds,)
    """
    lower, upper = (
        {run.seed: measure(results, env, run) for run in results.runs if (run.contender, run.env) == (name, env)}
        for name in rung
    )
    common = sorted(lower.keys() & upper.keys())
    return np.array([upper[seed] - lower[seed] for seed in common]) / results.references[env].scale


def write_ladder(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]], folder: Path) -> list[Path]:
    """
    Write ``ladder.md`` and its figures.

    :param comparisons: of the same contenders, in different environments
    :param ladders: names of contenders, the lowest first
    :param folder: where they go
    :return: the files written
    """
    names = list(dict.fromkeys(name for ladder in ladders for name in ladder))
    peers = [contender.name for contender in comparisons[0].contenders if contender.name not in names]
    drawings = {"ladder.png": names, "peers.png": [ladders[0][-1], *peers]}
    for file, shown in drawings.items():
        with house_style():
            save(curves(comparisons, shown), folder / file)
    write_text(folder / LADDER_FILE, markdown(comparisons, ladders))
    return [folder / LADDER_FILE, *(folder / file for file in drawings)]


def markdown(comparisons: Sequence[Results], ladders: Sequence[Sequence[str]]) -> str:
    """
    :param comparisons: of the same contenders, in different environments
    :param ladders: names of contenders, the lowest first
    :return: tables of scores and gains
    """
    rungs = list(dict.fromkeys(pair for ladder in ladders for pair in pairwise(ladder)))
    parts = ["# The ladder", NOTE, "## What each rung buys, over all environments"]
    parts += ["In units of the reference range (0: random policy, 1: solved), each environment weighing the same."]
    parts += [aggregate_table(comparisons, rungs)]
    found = gains(comparisons, rungs)
    for results, env in cells(comparisons):
        seconds = number(equal_time(results, env), 0)
        parts += [f"## {escape(env)}", "What each rung buys:", gain_table(results, [one for one in found if one.env == env])]
        parts += [f"Every contender (equal time: {seconds} s):", score_table(results, env)]
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
    digits = decimals(results.references[env].scale)
    rows = []
    for contender in results.contenders_of(env):
        runs = results.cell(contender, env)
        iqm = iqm_of(runs)
        means = (number(float(np.mean([measure(results, env, run) for run in runs])), digits) for measure in MEASURES.values())
        rows.append(
            (
                escape(contender.label),
                str(len(runs)),
                *means,
                f"{number(iqm.value, digits)} ({interval(iqm, digits)})",
                number(speed(results, contender, env), 0),
            )
        )
    return markdown_table(("contender", "seeds", *MEASURES, "final IQM (95 % interval)", "steps/s"), rows, ("contender",))


def gain_table(results: Results, found: Sequence[Gain]) -> str:
    """
    :param results: a comparison
    :param found: what the rungs gain in one of its environments
    :return: a line a rung
    """
    rows = []
    for gain in found:
        digits = decimals(results.references[gain.env].scale)
        rows.append(
            (
                f"{escape(gain.lower.label)} → {escape(gain.upper.label)}",
                *(gain_text(Estimate(p.difference, p.low, p.high), p.q, digits) for p in gain.pairs.values()),
            )
        )
    return markdown_table(("rung", *MEASURES), rows, ("rung",))


def aggregate_table(comparisons: Sequence[Results], rungs: Sequence[tuple[str, str]]) -> str:
    """
    :param comparisons: of the same contenders, in different environments
    :param rungs: names of contenders, the lower rung first
    :return: a line a rung: gains in units of the reference range, the mean over environments
    """
    labels = {contender.name: contender.label for contender in comparisons[0].contenders}
    rows = []
    found = []
    for rung in rungs:
        for measure in MEASURES.values():
            samples = [differences(results, env, rung, measure) for results, env in cells(comparisons)]
            found.append(statistics.mean_over_tasks([sample for sample in samples if len(sample)]))
    adjusted = statistics.adjust_p([p for _, p in found])
    n = len(MEASURES)
    for i, (lower, upper) in enumerate(rungs):
        texts = [gain_text(found[j][0], adjusted[j], 3) for j in range(n * i, n * (i + 1))]
        rows.append((f"{escape(labels[lower])} → {escape(labels[upper])}", *texts))
    return markdown_table(("rung", *MEASURES), rows, ("rung",))


def gain_text(gain: Estimate, q: float, digits: int) -> str:
    """
    :param gain: a difference
    :param q: its adjusted p-value
    :param digits: how many decimals
    :return: both
    """
    sign = "+" if gain.value > 0 else ""
    return f"{sign}{number(gain.value, digits)} ({interval(gain, digits)}){'*' if q < ALPHA else ''}"


def curves(comparisons: Sequence[Results], names: Sequence[str]) -> Figure:
    """
    :param comparisons: of the same contenders, in different environments
    :param names: of the contenders to be shown
    :return: a row of panels an environment: the interquartile mean over steps, and over seconds at each one's median speed
    """
    places = list(cells(comparisons))
    figure = Figure(figsize=(2 * PANEL[0], 0.9 + len(places) * 0.85 * PANEL[1]), layout="constrained")
    shown = [contender for contender in comparisons[0].contenders if contender.name in names]
    for (left, right), (results, env) in zip(figure.subplots(len(places), 2, squeeze=False), places, strict=True):
        for contender in shown:
            runs = results.cell(contender, env)
            if not runs:
                continue
            steps = runs[0].deterministic.steps
            band = statistics.curve(np.stack([run.deterministic.returns for run in runs]))
            draw_curve(left, contender, steps, *band)
            draw_curve(right, contender, steps / speed(results, contender, env), *band)
        right.axvline(equal_time(results, env), color="0.3", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        left.set_title(env)
        left.set_ylabel("episode return [raw reward]")
        label_steps(left)
        right.set_xlim(left=0)
        right.set_xlabel("training time at the median speed [s]")
        right.sharey(left)
    add_legend(figure, shown, (band_patch(),))
    return figure
