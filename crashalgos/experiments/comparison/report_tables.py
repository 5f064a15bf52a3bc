"""
The content of ``report.md``: its tables, and the sentences that are made of the results.

``results`` are always a comparison's results, ``env`` is an environment's id, and ``runs`` are the runs of one contender in
one environment.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.contender_pairs import compare_pairs, pair_verdict
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.markdown import escape, markdown_table
from crashalgos.experiments.comparison.number_format import NOTHING, decimals, format_interval, format_number, format_seeds
from crashalgos.experiments.comparison.results import Results, Run, planned_runs
from crashalgos.experiments.comparison.statistics import Estimate

SCORE_COLUMNS = ("contender", "runs", "seeds", "mean", "IQM", "95 % interval", "stochastic mean", "each seed")
#: Columns of text in the tables of numbers
TEXT_COLUMNS = ("contender", "seeds", "each seed")
_SPEED_COLUMNS = ("contender", "steps/s", "seconds", "reached", "median steps", "median seconds")
_AGGREGATE_COLUMNS = ("contender", "runs", "IQM", "median", "mean", "optimality gap")
_VERDICT_COLUMNS = ("pair", "verdict")
_GAP_COLUMNS = ("contender", "environment", "seed", "status", "reason")
_REFERENCE_COLUMNS = ("environment", "low (0)", "high (1)", "source")
_CONTENDER_COLUMNS = ("contender", "name in the files", "algorithm", "overrides")
_SHARED_SETTINGS = ("n_timesteps", "seeds", "eval_freq", "eval_episodes", "checkpoint_freq", "device")


def introduction(results: Results) -> str:
    """
    Says in one sentence what was compared.

    :return: the sentence, in Markdown
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


def verdict_table(results: Results, env: str) -> str:
    """
    Makes the table of verdicts in an environment, a row for each pair of contenders.

    :return: the table; empty if there is no pair
    """
    rows = [
        (f"{escape(one.a.label)} – {escape(one.b.label)}", pair_verdict(results, one, escape))
        for one in compare_pairs(results)
        if one.env == env
    ]
    return markdown_table(_VERDICT_COLUMNS, rows, _VERDICT_COLUMNS) if rows else ""


def score_table(results: Results, env: str) -> str:
    """Makes the table of returns in an environment, a row for each contender."""
    rows = [score_row(results, env, contender) for contender in results.contenders_in(env)]
    return markdown_table(SCORE_COLUMNS, rows, TEXT_COLUMNS)


def score_row(results: Results, env: str, contender: Contender) -> tuple[str, ...]:
    """
    Makes a row of ``SCORE_COLUMNS``.

    :param contender: a contender with finished runs there
    :return: the row's fields
    """
    runs = results.runs_of(contender, env)
    digits = decimals(results.references[env].scale)
    iqm = iqm_of(runs)
    planned = planned_runs(results.config)
    return (
        escape(contender.label),
        f"{len(runs)} of {planned}" if planned > len(runs) else str(len(runs)),
        format_seeds(run.seed for run in runs),
        format_number(mean_score(runs), digits),
        format_number(iqm.value, digits),
        format_interval(iqm, digits),
        format_number(float(np.mean([run.stochastic_score for run in runs])), digits),
        " ".join(format_number(run.score, digits) for run in runs),
    )


def threshold(results: Results, env: str) -> str:
    """Formats the return that counts as solved: the high end of an environment's reference."""
    return format_number(results.references[env].high, decimals(results.references[env].scale))


def speed_table(results: Results, env: str) -> str:
    """Makes the table of speeds and times in an environment, a row for each contender."""
    rows = []
    for contender in results.contenders_in(env):
        runs = results.runs_of(contender, env)
        steps, seconds = (statistics.summarize_times(times) for times in results.times_to_threshold(contender, env))
        rows.append(
            (
                escape(contender.label),
                format_number(steps_per_second(runs), 0),
                format_number(float(np.mean([run.seconds for run in runs])), 1),
                f"{steps.n_reached} of {steps.n_runs}",
                format_number(steps.median, 0) if math.isfinite(steps.median) else "never",
                format_number(seconds.median, 1) if math.isfinite(seconds.median) else "never",
            )
        )
    return markdown_table(_SPEED_COLUMNS, rows, TEXT_COLUMNS)


def aggregate_table(results: Results) -> str:
    """Makes the table of normalised scores over all environments, a row for each contender that ran in all."""
    rows = []
    for contender in results.complete_contenders:
        scores = results.normalized_scores(contender, results.envs)
        estimates = statistics.aggregate(scores).values()
        texts = [f"{format_number(estimate.value, 3)} ({format_interval(estimate, 3)})" for estimate in estimates]
        rows.append((escape(contender.label), str(sum(map(len, scores))), *texts))
    return markdown_table(_AGGREGATE_COLUMNS, rows, TEXT_COLUMNS)


def unreached_thresholds(results: Results) -> list[str]:
    """
    Lists the environments in which no run reached the threshold.

    :return: for each of them its id and threshold, in Markdown
    """
    envs = [env for env in results.envs if env not in results.envs_that_reached_threshold]
    return [f"{escape(env)} ({format_number(results.references[env].high, 1)})" for env in envs]


def gap_table(results: Results) -> str:
    """Makes the table of missing runs, with the reasons."""
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
    return markdown_table(_GAP_COLUMNS, rows, _GAP_COLUMNS)


def reference_table(results: Results) -> str:
    """Makes the table of the returns between which scores are normalised."""
    rows = []
    for env, reference in results.references.items():
        digits = decimals(reference.scale)
        ends = (format_number(end, digits) for end in (reference.low, reference.high))
        rows.append((escape(env), *ends, escape(reference.source)))
    return markdown_table(_REFERENCE_COLUMNS, rows, ("environment", "source"))


def contender_table(results: Results) -> str:
    """Makes the table of contenders, with the hyperparameters that they set differently."""
    rows = [
        (escape(one.label), escape(one.name), escape(one.algo or NOTHING), escape(_overrides(one)))
        for one in results.contenders
    ]
    return markdown_table(_CONTENDER_COLUMNS, rows, _CONTENDER_COLUMNS)


def _overrides(contender: Contender) -> str:
    if not contender.overrides:
        return NOTHING
    return yaml.safe_dump(contender.overrides, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def shared_settings(results: Results) -> dict[str, Any]:
    """
    Returns the settings that all contenders share.

    :return: their values by name
    """
    return {name: results.config[name] for name in _SHARED_SETTINGS if name in results.config}


def versions_line(content: Mapping[str, Any]) -> str:
    """
    Says in one sentence with which versions, and on which machine, the runs were made.

    :param content: content of ``versions.json``
    :return: the sentence, in Markdown
    """
    packages = ", ".join(escape(f"{package} {version}") for package, version in content["versions"].items())
    machine = escape(str(content.get("machine") or "unknown machine"))
    cores = f", {content['cores']} cores" if content.get("cores") else ""
    n = content.get("jobs")
    jobs = f", {n} run{'' if n == 1 else 's'} at a time" if n else ""
    return f"{packages}; commit {escape(str(content.get('git_commit') or 'unknown'))}; {machine}{cores}{jobs}."


def iqm_of(runs: Sequence[Run]) -> Estimate:
    """
    Returns the interquartile mean of runs' scores.

    :return: the mean with its 95 % interval
    """
    return statistics.aggregate([np.array([run.score for run in runs])])["IQM"]


def mean_score(runs: Sequence[Run]) -> float:
    """Returns the mean of runs' scores."""
    return float(np.mean([run.score for run in runs]))


def steps_per_second(runs: Sequence[Run]) -> float:
    """
    Returns the mean number of environment steps a second of training.

    :return: the mean over the runs; NaN if a run took no time
    """
    if min(run.seconds for run in runs) <= 0:
        return math.nan
    return float(np.mean([run.num_timesteps / run.seconds for run in runs]))
