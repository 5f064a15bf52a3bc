"""Writing of a comparison's results as the CSV and JSON files from which its report is made."""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crashalgos.common.files import write_csv
from crashalgos.experiments.comparison.results import (
    EVALUATION_COLUMNS,
    EVALUATIONS_FILE,
    FAILED,
    FINISHED,
    NOT_APPLICABLE,
    RUN_COLUMNS,
    RUNS_FILE,
    VERSIONS_FILE,
)
from crashalgos.experiments.grid.grid import Outcome, RunFailure, available_cores
from crashalgos.experiments.run.folder import read_status, write_json


@dataclass(frozen=True)
class NotApplicablePair:
    """
    A contender that cannot run in an environment.

    :param contender: the contender's name
    :param env: the environment's id
    :param reason: the reason
    """

    contender: str
    env: str
    reason: str


def write_tables(folder: Path, outcomes: Sequence[Outcome], not_applicable: Iterable[NotApplicablePair], jobs: int) -> None:
    """
    Writes ``runs.csv``, ``evaluations.csv`` and ``versions.json``.

    :param folder: the comparison's folder
    :param outcomes: the runs' results and failures
    :param not_applicable: the contenders that cannot run in an environment
    :param jobs: number of runs at a time; 0 if it is unknown
    """
    write_csv(folder / RUNS_FILE, RUN_COLUMNS, _run_rows(outcomes, not_applicable))
    write_csv(folder / EVALUATIONS_FILE, EVALUATION_COLUMNS, _evaluation_rows(outcomes))
    machine = {"machine": platform.machine(), "cores": available_cores(), "jobs": jobs}
    write_json(folder / VERSIONS_FILE, {**_versions_of(outcomes), **machine})


def _versions_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Joins the versions and commits of all runs. They differ where a grid was continued with other versions."""
    statuses = [read_status(outcome.config.folder) for outcome in outcomes]
    packages = dict.fromkeys(name for status in statuses for name in status.get("versions", {}))
    found = {name: [status["versions"].get(name, "none") for status in statuses if "versions" in status] for name in packages}
    commits = [status["git_commit"] or "unknown" for status in statuses if "git_commit" in status]
    return {
        "versions": {name: " and ".join(dict.fromkeys(values)) for name, values in found.items()},
        "git_commit": " and ".join(dict.fromkeys(commits)) or None,
    }


def _run_rows(outcomes: Sequence[Outcome], not_applicable: Iterable[NotApplicablePair]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        config = outcome.config
        start = (config.contender, config.env, config.seed)
        if isinstance(outcome, RunFailure):
            rows.append((*start, FAILED, "", "", config.folder.name, outcome.last_line))
        else:
            rows.append((*start, FINISHED, outcome.num_timesteps, outcome.seconds, config.folder.name, ""))
    return rows + [(pair.contender, pair.env, "", NOT_APPLICABLE, "", "", "", pair.reason) for pair in not_applicable]


def _evaluation_rows(outcomes: Sequence[Outcome]) -> Iterable[tuple[Any, ...]]:
    for outcome in outcomes:
        if isinstance(outcome, RunFailure):
            continue
        config = outcome.config
        for evaluation in outcome.evaluations:
            when = (evaluation.step, evaluation.num_timesteps, evaluation.seconds, evaluation.mode)
            for episode, (return_, length) in enumerate(zip(evaluation.returns, evaluation.lengths, strict=True)):
                yield config.contender, config.env, config.seed, *when, episode, return_, length
