"""The report of a comparison: ``report.md``, the same as one HTML page, and a table for the terminal."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from crashalgos.common.files import write_text
from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.figures import DRAWINGS, Drawing, envs_reached, write_figures
from crashalgos.experiments.comparison.markdown import escape, fence, html_page, markdown_table
from crashalgos.experiments.comparison.markdown import terminal_table as rich_table
from crashalgos.experiments.comparison.results import Contender, Results, Run, load
from crashalgos.experiments.comparison.statistics import Estimate, Pair
from crashalgos.experiments.comparison.verdict import verdict

MARKDOWN_FILE, HTML_FILE = "report.md", "report.html"
TITLE = "Comparison at equal environment steps"
NOTHING = "–"

SCORE_COLUMNS = ("contender", "runs", "seeds", "mean", "IQM", "95 % interval", "stochastic mean", "each seed")
SPEED_COLUMNS = ("contender", "steps/s", "seconds", "reached", "median steps", "median seconds")
PAIR_COLUMNS = ("pair", "verdict")
AGGREGATE_COLUMNS = ("contender", "runs", "IQM", "median", "mean", "optimality gap")
GAP_COLUMNS = ("contender", "environment", "seed", "status", "reason")
REFERENCE_COLUMNS = ("environment", "low (0)", "high (1)", "source")
CONTENDER_COLUMNS = ("contender", "name in the files", "algorithm", "overrides")
TEXTS = ("contender", "seeds", "each seed")
TERMINAL_COLUMNS = ("environment", "contender", "return", "IQM [95 % interval]", "seeds", "steps/s")

EVALUATION_NOTE = (
    "The score of a run is the mean return of its last evaluation under the deterministic policy. Returns are undiscounted "
    "sums of raw rewards. Every run is evaluated on the same fixed grid of environment steps, in an environment of its own, "
    "once under the deterministic and once under the stochastic policy. The policy at a step of the grid is the one that has "
    "learned from the rollouts that ended before that step. At every `checkpoint_freq` environment steps (under Settings; 0: "
    "never), with the next rollout, the environments of every contender start afresh, except those of ARS, which has no "
    "rollouts. The seconds, and the steps per second, are those of the training alone; evaluation is left out. They are "
    "wall-clock times, and depend on how many runs there were at a time (under Versions, where it is known)."
)
NORMALIZATION_NOTE = (
    "A normalised score is (return − low)/(high − low), with the two returns of the environment given under References; the "
    "high one is also the threshold of “time to threshold”."
)


@dataclass(frozen=True)
class ComparedPair:
    """
    Two contenders in one environment.

    :param env: the environment's id
    :param a: the one
    :param b: the other
    :param pair: what the statistics say
    """

    env: str
    a: Contender
    b: Contender
    pair: Pair


def write(folder: Path) -> list[Path]:
    """
    Write figures, ``report.md`` and ``report.html`` from the folder's CSV and JSON files; the same files give the same bytes.

    :param folder: a comparison's folder
    :return: the files written, ``report.md`` and ``report.html`` first
    :raises ValueError: as :func:`~crashalgos.experiments.comparison.results.load` says
    """
    return write_report(load(folder))


def write_report(results: Results) -> list[Path]:
    """
    Write figures, ``report.md`` and ``report.html`` into the comparison's folder.

    :param results: a comparison
    :return: the files written, ``report.md`` and ``report.html`` first
    """
    folder = results.folder
    drawings = write_figures(results)
    text = markdown(results, drawings)
    page = html_page(text, TITLE, {drawing.file: (folder / drawing.file).read_bytes() for drawing in drawings})
    write_text(folder / MARKDOWN_FILE, text)
    write_text(folder / HTML_FILE, page)
    return [folder / MARKDOWN_FILE, folder / HTML_FILE, *(folder / drawing.file for drawing in drawings)]


def verdicts(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: one line for each pair of contenders in each environment
    """
    return [
        f"{found.env}, {found.a.label} – {found.b.label}: {pair_verdict(results, found)}" for found in compared_pairs(results)
    ]


def pair_verdict(results: Results, found: ComparedPair, written: Callable[[str], str] = str) -> str:
    """
    :param results: a comparison
    :param found: two contenders in one of its environments
    :param written: how a label is written
    :return: what the scores of the two say, in one sentence; another one for each of them that has runs without a score
    """
    sentences = [verdict(found.pair, written(found.a.label), written(found.b.label))]
    for contender in (found.a, found.b):
        unfinished = results.unfinished(contender, found.env)
        if unfinished:
            total = unfinished + len(results.cell(contender, found.env))
            have, are = ("has", "is") if unfinished == 1 else ("have", "are")
            sentences.append(
                f"{unfinished} of {written(contender.label)}'s {total} runs {have} not finished and {are} left out."
            )
    return " ".join(sentences)


def terminal_table(results: Results) -> Table:
    """
    :param results: a comparison
    :return: a short table for the terminal
    """
    rows = []
    for env in results.envs:
        digits = decimals(results.references[env].scale)
        for contender in results.contenders_of(env):
            runs = results.cell(contender, env)
            iqm = iqm_of(runs)
            interval = f" [{number(iqm.low, digits)}, {number(iqm.high, digits)}]" if math.isfinite(iqm.low) else ""
            rows.append(
                (
                    env,
                    contender.label,
                    number(mean_score(runs), digits),
                    number(iqm.value, digits) + interval,
                    str(len(runs)),
                    number(steps_per_second(runs), 0),
                )
            )
    return rich_table(TITLE, TERMINAL_COLUMNS, rows, TERMINAL_COLUMNS[:2])


@lru_cache(maxsize=1)
def compared_pairs(results: Results) -> tuple[ComparedPair, ...]:
    """
    Computed once for a ``Results``, which both the report and the terminal show.

    :param results: a comparison
    :return: every pair of contenders that both have a finished run in an environment; p-values adjusted over all that are
        tested
    """
    cells = [(env, a, b) for env in results.envs for a, b in combinations(results.contenders_of(env), 2)]
    pairs = statistics.adjust([compare(results, env, a, b) for env, a, b in cells])
    return tuple(ComparedPair(*cell, pair) for cell, pair in zip(cells, pairs, strict=True))


def compare(results: Results, env: str, a: Contender, b: Contender) -> Pair:
    """
    :param results: a comparison
    :param env: an environment's id
    :param a: a contender with finished runs there
    :param b: another one
    :return: what the statistics say about the two
    """
    runs_a, runs_b = ({run.seed: run for run in results.cell(contender, env)} for contender in (a, b))
    common = runs_a.keys() & runs_b.keys()
    return statistics.compare(
        {seed: run.score for seed, run in runs_a.items()},
        {seed: run.score for seed, run in runs_b.items()},
        scale=results.references[env].scale,
        identical=bool(common) and all(runs_a[seed].equals(runs_b[seed]) for seed in common),
    )


def markdown(results: Results, drawings: Sequence[Drawing]) -> str:
    """
    :param results: a comparison
    :param drawings: the figures that its folder holds
    :return: ``report.md``
    """
    parts = [
        f"# {TITLE}",
        introduction(results),
        "## Verdicts",
        *verdict_tables(results),
        "## Scores",
        *score_tables(results),
        *aggregate_table(results),
        "## Figures",
        *figure_parts(results, drawings),
        "## What the numbers mean",
        EVALUATION_NOTE,
        statistics.NOTE,
        NORMALIZATION_NOTE,
        "## Not applicable and failed runs",
        gap_table(results),
        "## References",
        reference_table(results),
        "## To reproduce",
        *reproduction(results),
        "## Settings",
        *settings_parts(results),
        "## Versions",
        versions_line(results.versions),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def introduction(results: Results) -> str:
    """
    :param results: a comparison
    :return: what was compared, in one sentence
    """
    config = results.config
    labels = ", ".join(escape(contender.label) for contender in results.contenders)
    facts = [f"Compared: {labels} in {', '.join(escape(env) for env in results.envs)}"]
    if "n_timesteps" in config:
        facts.append(f"{config['n_timesteps']:,} environment steps a run")
    if {"eval_freq", "eval_episodes"} <= config.keys():
        facts.append(f"evaluated every {config['eval_freq']:,} steps over {config['eval_episodes']:,} episodes")
    runs = f"{len(results.runs):,} finished run{'' if len(results.runs) == 1 else 's'}"
    return f"{'; '.join([*facts, runs])}."


def verdict_tables(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: for each environment a heading and a table, a line a pair
    """
    found = compared_pairs(results)
    parts = []
    for env in results.envs:
        rows = [
            (f"{escape(one.a.label)} – {escape(one.b.label)}", pair_verdict(results, one, escape))
            for one in found
            if one.env == env
        ]
        parts.append(f"### Verdicts in {escape(env)}")
        parts.append(
            markdown_table(PAIR_COLUMNS, rows, PAIR_COLUMNS) if rows else "Only one contender has a finished run here."
        )
        absent = [contender for contender in results.contenders if not results.cell(contender, env)]
        if absent:
            parts.append(f"Not compared, without a finished run: {', '.join(escape(one.label) for one in absent)}.")
    return parts


def score_tables(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: for each environment a heading and two tables: returns, and what they took
    """
    parts = []
    for env in results.envs:
        contenders = results.contenders_of(env)
        high = number(results.references[env].high, decimals(results.references[env].scale))
        parts += [
            f"### Scores in {escape(env)}",
            "Return of the last evaluation, under the deterministic policy where nothing else is said:",
            markdown_table(SCORE_COLUMNS, [score_row(results, env, contender) for contender in contenders], TEXTS),
            f"Speed, and when an evaluation first reached a mean return of {high}:",
            markdown_table(SPEED_COLUMNS, [speed_row(results, env, contender) for contender in contenders], TEXTS),
        ]
    return parts


def score_row(results: Results, env: str, contender: Contender) -> tuple[str, ...]:
    """
    :param results: a comparison
    :param env: an environment's id
    :param contender: one with finished runs there
    :return: cells of ``SCORE_COLUMNS``
    """
    runs = results.cell(contender, env)
    digits = decimals(results.references[env].scale)
    iqm = iqm_of(runs)
    return (
        escape(contender.label),
        count_of_runs(results, runs),
        ranges([run.seed for run in runs]),
        number(mean_score(runs), digits),
        number(iqm.value, digits),
        interval(iqm, digits),
        number(float(np.mean([run.stochastic_score for run in runs])), digits),
        " ".join(number(run.score, digits) for run in runs),
    )


def speed_row(results: Results, env: str, contender: Contender) -> tuple[str, ...]:
    """
    :param results: a comparison
    :param env: an environment's id
    :param contender: one with finished runs there
    :return: cells of ``SPEED_COLUMNS``
    """
    runs = results.cell(contender, env)
    steps, seconds = (statistics.summarize_times(times) for times in results.times_to_threshold(contender, env))
    return (
        escape(contender.label),
        number(steps_per_second(runs), 0),
        number(float(np.mean([run.seconds for run in runs])), 1),
        f"{steps.n_reached} of {steps.n_runs}",
        number(steps.median, 0) if math.isfinite(steps.median) else "never",
        number(seconds.median, 1) if math.isfinite(seconds.median) else "never",
    )


def aggregate_table(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: normalised scores over all environments
    """
    complete = results.complete()
    rows = []
    for contender in complete:
        estimates = statistics.aggregate(results.normalized_scores(contender, results.envs))
        cells = [f"{number(estimate.value, 3)} ({interval(estimate, 3)})" for estimate in estimates.values()]
        rows.append((escape(contender.label), str(sum(run.contender == contender.name for run in results.runs)), *cells))
    n_envs = len(results.envs)
    parts = [
        "## Aggregate scores",
        "Normalised scores (0: low reference, 1: high reference) in "
        f"{'one environment' if n_envs == 1 else f'{n_envs} environments'}, with 95 % intervals. "
        "The optimality gap is better when it is smaller.",
        markdown_table(AGGREGATE_COLUMNS, rows, TEXTS) if rows else "",
    ]
    left_out = [contender for contender in results.contenders if contender not in complete]
    if left_out:
        names = ", ".join(escape(contender.label) for contender in left_out)
        parts.append(f"Left out, without a finished run{'' if n_envs == 1 else ' in one environment or more'}: {names}.")
    return parts


def figure_parts(results: Results, drawings: Sequence[Drawing]) -> list[str]:
    """
    :param results: a comparison
    :param drawings: the figures that its folder holds
    :return: heading, figure and caption of each; where no run reached the threshold, that
    """
    envs = ", ".join(escape(env) for env in results.envs)
    parts = []
    for drawing in drawings:
        alt = f"{drawing.title}, {envs}"
        parts += [f"### {drawing.title}", f"![{alt}]({drawing.file})", drawing.caption]
    never = [env for env in results.envs if env not in envs_reached(results)]
    if never:
        if len(never) == len(results.envs):
            parts.append(f"### {DRAWINGS[-1].title}")
        places = (f"{escape(env)} ({number(results.references[env].high, 1)})" for env in never)
        parts.append(f"No run reached the threshold in {', '.join(places)}.")
    return parts


def gap_table(results: Results) -> str:
    """
    :param results: a comparison
    :return: the runs that are not there, and why
    """
    if not results.gaps:
        return f"None: {len(results.runs):,} of {len(results.runs):,} runs finished."
    rows = [
        (
            escape(results.label(gap.contender)),
            escape(gap.env),
            NOTHING if gap.seed is None else str(gap.seed),
            gap.status,
            escape(gap.reason),
        )
        for gap in results.gaps
    ]
    return markdown_table(GAP_COLUMNS, rows, GAP_COLUMNS)


def reference_table(results: Results) -> str:
    """
    :param results: a comparison
    :return: the returns between which scores are normalised, and their source
    """
    rows = []
    for env, reference in results.references.items():
        digits = decimals(reference.scale)
        rows.append((escape(env), number(reference.low, digits), number(reference.high, digits), escape(reference.source)))
    return markdown_table(REFERENCE_COLUMNS, rows, ("environment", "source"))


def reproduction(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: the commands that give the results, and the report, again
    """
    command = results.config.get("command")
    again = "Every figure and number in this report can be recomputed from the CSV and JSON files beside it, without training:"
    return [
        *(["The runs:", fence(str(command), "sh")] if command else []),
        again,
        fence("python scripts/report.py FOLDER", "sh"),
        "where FOLDER is the folder that holds this report. The same files give the same bytes.",
    ]


def settings_parts(results: Results) -> list[str]:
    """
    :param results: a comparison
    :return: the contenders, and their settings in RL Zoo's format
    """
    config = results.config
    rows = [
        (escape(entry.label), escape(entry.name), escape(str(raw.get("algo", NOTHING))), escape(overrides(raw)))
        for entry, raw in zip(results.contenders, config["contenders"], strict=True)
    ]
    parts = [markdown_table(CONTENDER_COLUMNS, rows, CONTENDER_COLUMNS)]
    names = ("n_timesteps", "seeds", "eval_freq", "eval_episodes", "checkpoint_freq", "device")
    shared = {name: config[name] for name in names if name in config}
    if shared:
        parts.append(fence(yaml.safe_dump(shared, sort_keys=False), "yaml"))
    if config.get("untuned"):
        parts.append(f"{escape(str(config['untuned']).rstrip('.'))}.")
    if config.get("settings"):
        text = yaml.safe_dump(config["settings"], sort_keys=False, allow_unicode=True)
        parts.append(fence(text, "yaml"))
    return parts


def overrides(entry: Mapping[str, Any]) -> str:
    """
    :param entry: a contender in ``config.json``
    :return: what it sets differently, as YAML on one line
    """
    values = entry.get("overrides")
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=math.inf).strip() if values else NOTHING


def versions_line(content: Mapping[str, Any]) -> str:
    """
    :param content: ``versions.json``
    :return: its content, in one sentence
    """
    packages = ", ".join(escape(f"{package} {version}") for package, version in content["versions"].items())
    machine = escape(str(content.get("machine") or "unknown machine"))
    cores = f", {content['cores']} cores" if content.get("cores") else ""
    n = content.get("jobs")
    jobs = f", {n} run{'' if n == 1 else 's'} at a time" if n else ""
    return f"{packages}; commit {escape(str(content.get('git_commit') or 'unknown'))}; {machine}{cores}{jobs}."


def iqm_of(runs: Sequence[Run]) -> Estimate:
    """
    :param runs: a contender's in an environment
    :return: the interquartile mean of their scores
    """
    return statistics.aggregate([np.array([run.score for run in runs])])["IQM"]


def mean_score(runs: Sequence[Run]) -> float:
    """
    :param runs: a contender's in an environment
    :return: the mean of their scores
    """
    return float(np.mean([run.score for run in runs]))


def steps_per_second(runs: Sequence[Run]) -> float:
    """
    :param runs: a contender's in an environment
    :return: mean environment steps a second of training; ``nan`` where a run took no time
    """
    if min(run.seconds for run in runs) <= 0:
        return math.nan
    return float(np.mean([run.num_timesteps / run.seconds for run in runs]))


def count_of_runs(results: Results, runs: Sequence[Run]) -> str:
    """
    :param results: a comparison
    :param runs: a contender's in an environment
    :return: how many finished, and of how many where that differs
    """
    wanted = results.config.get("seeds") or 0
    return f"{len(runs)} of {wanted}" if wanted > len(runs) else str(len(runs))


def ranges(numbers: Iterable[int]) -> str:
    """
    :param numbers: seeds
    :return: them in order, neighbours drawn together: ``0–2, 5``
    """
    groups: list[list[int]] = []
    for value in sorted(numbers):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    return ", ".join(f"{group[0]}" if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups)


def decimals(scale: float) -> int:
    """
    :param scale: an environment's reference range
    :return: how many decimals its returns get: one, or as many as make a hundredth of the range visible
    """
    return max(1, 2 - math.floor(math.log10(scale))) if scale > 0 else 1


def number(value: float, digits: int) -> str:
    """
    :param value: a number
    :param digits: how many decimals
    :return: it, with thousands separated; a dash where there is none
    """
    if not math.isfinite(value):
        return NOTHING
    # The sum turns −0 into 0.
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def interval(estimate: Estimate, digits: int) -> str:
    """
    :param estimate: an estimate
    :param digits: how many decimals
    :return: its interval; a dash where one run gives none
    """
    if not math.isfinite(estimate.low):
        return NOTHING
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"
