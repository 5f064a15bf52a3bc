"""What a comparison shows: CSV files, a table for the terminal, and a short report."""

import csv
import platform
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from crashalgos.experiments.grid import RunFailure, available_cores
from crashalgos.experiments.registry import ALGORITHMS, find_algorithm
from crashalgos.experiments.run import RunResult, untuned
from crashalgos.tracking.run_config import git_commit, versions

COLUMNS = ("environment", "algorithm", "return", "each seed", "steps/s", "seconds")

EVALUATION_NOTE = (
    "The return is that of the last evaluation: the undiscounted sum of an episode's raw rewards under the deterministic "
    "policy, in an environment of its own, mean over the episodes and then over the seeds. At each step of the grid the "
    "policy is the one that has learned from the rollouts that ended before that step (not yet from one that ends exactly "
    "there). The seconds are those of the training, with one PyTorch thread a run; evaluation, and W&B's start and finish, "
    "are left out."
)


def write_evaluations(results: Iterable[RunResult], path: Path) -> None:
    """
    One row an evaluation.

    :param results: finished runs
    :param path: the CSV file
    """
    rows = [
        (
            result.config.algo,
            result.config.env,
            result.config.seed,
            evaluation.step,
            evaluation.num_timesteps,
            evaluation.mean_return,
            float(np.std(evaluation.returns)),
            float(np.mean(evaluation.lengths)),
            len(evaluation.returns),
        )
        for result in results
        for evaluation in result.evaluations
    ]
    header = ("algorithm", "env", "seed", "step", "num_timesteps", "return", "return_std", "length", "n_episodes")
    write_csv(path, header, rows)


def write_runs(outcomes: Iterable[RunResult | RunFailure], path: Path) -> None:
    """
    One row a run, failed ones too.

    :param outcomes: what the runs came to
    :param path: the CSV file
    """
    rows = []
    for outcome in outcomes:
        config = outcome.config
        values: tuple[Any, ...] = ("failed", "", "", "", "")
        if isinstance(outcome, RunResult):
            speed = outcome.steps_per_second
            values = ("finished", outcome.final_return, outcome.num_timesteps, outcome.seconds, speed)
        rows.append((config.algo, config.env, config.seed, *values, config.folder.name))
    header = ("algorithm", "env", "seed", "status", "final_return", "num_timesteps", "seconds", "steps_per_second", "folder")
    write_csv(path, header, rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    :param path: the file
    :param header: its columns
    :param rows: its rows
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def summary_rows(results: Sequence[RunResult]) -> list[tuple[str, ...]]:
    """
    :param results: finished runs
    :return: one row of ``COLUMNS`` for each algorithm in each environment
    """
    rows: list[tuple[str, ...]] = []
    for env in dict.fromkeys(result.config.env for result in results):
        for algo in ALGORITHMS:
            group = [result for result in results if (result.config.env, result.config.algo) == (env, algo)]
            if group:
                returns = [result.final_return for result in group]
                seconds = np.mean([result.seconds for result in group])
                speed = np.mean([result.steps_per_second for result in group])
                each = " ".join(f"{value:.1f}" for value in returns)
                rows.append(
                    (env, find_algorithm(algo).label, f"{np.mean(returns):.1f}", each, f"{speed:.0f}", f"{seconds:.1f}")
                )
    return rows


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """
    :param title: what stands above it
    :param columns: its columns; those after the second are numbers
    :param rows: its rows
    :return: the table
    """
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    :param columns: its columns; those after the second are numbers
    :param rows: its rows
    :return: the table
    """
    rule = ["---" if i < 2 else "---:" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])


def write_report(
    outcomes: Sequence[RunResult | RunFailure],
    path: Path,
    title: str,
    command: str,
    table: str,
    note: str,
    figure: Path | None,
) -> None:
    """
    :param outcomes: what the runs came to
    :param path: the Markdown file
    :param title: its heading
    :param command: reproduces it
    :param table: its table, in Markdown
    :param note: what the table's numbers mean
    :param figure: beside the file
    """
    versions_line = ", ".join(f"{package} {version}" for package, version in versions().items())
    lines = [f"# {title}", "", table, "", note, ""]
    if figure is not None:
        lines += [f"![{title}]({figure.name})", ""]
    failures = [outcome for outcome in outcomes if isinstance(outcome, RunFailure)]
    if failures:
        lines += ["## Failed runs", "", *(f"- {failure.config.name}: {last_line(failure)}" for failure in failures), ""]
    lines += ["## To reproduce", "", "```", command, "```", ""]
    lines += [f"{versions_line}; commit {git_commit() or 'unknown'}; {platform.machine()}, {available_cores()} cores.", ""]
    lines += ["## Settings", ""]
    defaults = untuned(outcome.config for outcome in outcomes)
    if defaults:
        lines += [f"{defaults}.", ""]
    lines += ["```yaml", settings_yaml(outcomes).rstrip(), "```", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def reproducing_command(script: str, options: Any, names: Iterable[str]) -> str:
    """
    :param script: the script's path in the repository
    :param options: its command line
    :param names: of the options that shape the results; those that are ``None`` are left out
    :return: the command
    """
    words = ["python", script]
    for name in names:
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def print_failures(outcomes: Iterable[RunResult | RunFailure]) -> None:
    """
    :param outcomes: what the runs came to; of the failed ones, why they failed is printed
    """
    for outcome in outcomes:
        if isinstance(outcome, RunFailure):
            print(f"{outcome.config.name} failed:\n{outcome.reason.rstrip()}")


def last_line(failure: RunFailure) -> str:
    """
    :param failure: a failed run
    :return: the line of its traceback that says what happened
    """
    return failure.reason.strip().splitlines()[-1]


def settings_yaml(outcomes: Iterable[RunResult | RunFailure]) -> str:
    """
    :param outcomes: what the runs came to
    :return: their settings: a mapping for each algorithm, in it one for each environment, in RL Zoo's format
    """
    import yaml

    settings: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        tuned = outcome.config.settings
        entry: dict[str, Any] = {"n_envs": tuned.n_envs, "n_timesteps": tuned.n_timesteps, "policy": tuned.policy}
        if tuned.normalize:
            entry["normalize"] = tuned.normalize
        settings.setdefault(outcome.config.algo, {})[outcome.config.env] = entry | tuned.hyperparameters
    return yaml.safe_dump(settings, sort_keys=False)


def wandb_place(outcomes: Sequence[RunResult | RunFailure]) -> str:
    """
    :param outcomes: what the runs came to
    :return: where their W&B runs are, and how those that are only on disk get online
    """
    folders = [folder for outcome in outcomes for folder in wandb_folders(outcome)]
    if not folders:
        return "none"
    place = folders[0].parents[2]
    pattern = f"{shlex.quote(str(place))}/*/wandb"
    urls = [outcome.wandb_url for outcome in outcomes if isinstance(outcome, RunResult) and outcome.wandb_url is not None]
    projects = {url.rpartition("/runs/")[0] for url in urls}
    page = (projects.pop() if len(projects) == 1 else "") or next(iter(urls), "")
    if any(folder.name.startswith("offline-") for folder in folders):
        online = f" ({len(urls)} online: {page})" if urls else ""
        return f"{len(folders)} runs in {pattern}{online}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    online = page or f"project {outcomes[0].config.project}"
    return f"{len(folders)} runs online, {online}; copies in {pattern}"


def wandb_folders(outcome: RunResult | RunFailure) -> list[Path]:
    """
    :param outcome: what a run came to
    :return: its W&B run's folder; a failed run may have left one on the disk
    """
    if isinstance(outcome, RunResult):
        return [] if outcome.wandb_folder is None else [outcome.wandb_folder]
    folder = outcome.config.folder / "wandb"
    return sorted([*folder.glob("run-*"), *folder.glob("offline-run-*")])
