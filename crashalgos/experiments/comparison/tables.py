"""What the runs of a comparison came to, as the CSV files that its report is made of."""

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
class NoCell:
    """
    :param contender: the contender's name
    :param env: the environment in which it has no runs
    :param reason: why
    """

    contender: str
    env: str
    reason: str


def write_tables(folder: Path, outcomes: Sequence[Outcome], no_cells: Iterable[NoCell], jobs: int) -> None:
    """
    :param folder: the comparison's
    :param outcomes: what its runs came to
    :param no_cells: what is not applicable
    :param jobs: how many runs there were at a time
    """
    write_csv(folder / RUNS_FILE, RUN_COLUMNS, run_rows(outcomes, no_cells))
    write_csv(folder / EVALUATIONS_FILE, EVALUATION_COLUMNS, evaluation_rows(outcomes))
    surroundings = {"machine": platform.machine(), "cores": available_cores(), "jobs": jobs}
    write_json(folder / VERSIONS_FILE, {**versions_of(outcomes), **surroundings})


def versions_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """
    :param outcomes: what the runs came to
    :return: the versions that they ended with, and the commits: more than one of each where the grid was continued with others
    """
    statuses = [read_status(outcome.config.folder) for outcome in outcomes]
    packages = dict.fromkeys(name for status in statuses for name in status.get("versions", {}))
    found = {name: [status["versions"].get(name, "none") for status in statuses if "versions" in status] for name in packages}
    commits = [status["git_commit"] or "unknown" for status in statuses if "git_commit" in status]
    return {
        "versions": {name: " and ".join(dict.fromkeys(values)) for name, values in found.items()},
        "git_commit": " and ".join(dict.fromkeys(commits)) or None,
    }


def run_rows(outcomes: Sequence[Outcome], no_cells: Iterable[NoCell]) -> list[tuple[Any, ...]]:
    """
    :param outcomes: what the runs came to
    :param no_cells: what is not applicable
    :return: a row of ``RUN_COLUMNS`` for each
    """
    rows: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        config = outcome.config
        start = (config.contender, config.env, config.seed)
        if isinstance(outcome, RunFailure):
            rows.append((*start, FAILED, "", "", config.folder.name, outcome.last_line))
        else:
            rows.append((*start, FINISHED, outcome.num_timesteps, outcome.seconds, config.folder.name, ""))
    return rows + [(cell.contender, cell.env, "", NOT_APPLICABLE, "", "", "", cell.reason) for cell in no_cells]


def evaluation_rows(outcomes: Sequence[Outcome]) -> Iterable[tuple[Any, ...]]:
    """
    :param outcomes: what the runs came to
    :return: a row of ``EVALUATION_COLUMNS`` for each episode of each evaluation
    """
    for outcome in outcomes:
        if isinstance(outcome, RunFailure):
            continue
        config = outcome.config
        for evaluation in outcome.evaluations:
            when = (evaluation.step, evaluation.num_timesteps, evaluation.seconds, evaluation.mode)
            for episode, (return_, length) in enumerate(zip(evaluation.returns, evaluation.lengths, strict=True)):
                yield config.contender, config.env, config.seed, *when, episode, return_, length
