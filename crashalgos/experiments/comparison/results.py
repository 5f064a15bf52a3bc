"""A comparison as its folder tells it: the files that the runs left, read into plain structures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.references import Reference, find_reference, normalize
from crashalgos.experiments.run.evaluation import MODES
from crashalgos.experiments.run.folder import CONFIG_FILE

RUNS_FILE, EVALUATIONS_FILE, VERSIONS_FILE = "runs.csv", "evaluations.csv", "versions.json"
RUN_COLUMNS = ("contender", "env", "seed", "status", "num_timesteps", "seconds", "folder", "reason")
EVALUATION_COLUMNS = ("contender", "env", "seed", "step", "num_timesteps", "seconds", "mode", "episode", "return", "length")
FINISHED, FAILED, NOT_APPLICABLE = "finished", "failed", "not applicable"
# What the report calls a run that its folder tells nothing, or not everything, about.
MISSING, INCOMPLETE = "missing", "incomplete"
DETERMINISTIC, STOCHASTIC = MODES


@dataclass(frozen=True)
class Contender:
    """
    :param name: its key in every file
    :param label: what readers see
    :param index: its place in the comparison, from 0; it gives the contender's style in every figure
    """

    name: str
    label: str
    index: int


@dataclass(frozen=True, eq=False)
class Curve:
    """
    A run's evaluations in one mode, n of them.

    :param steps: the grid's steps, shape (n,)
    :param seconds: of training until each evaluation, shape (n,)
    :param returns: each evaluation's mean return, shape (n,)
    :param episodes: a row for each episode: step, episode, return, length
    """

    steps: np.ndarray
    seconds: np.ndarray
    returns: np.ndarray
    episodes: np.ndarray


@dataclass(frozen=True, eq=False)
class Run:
    """
    A finished run.

    :param contender: the contender's name
    :param env: the environment's id
    :param seed: its seed
    :param num_timesteps: the environment steps that it took
    :param seconds: of training, evaluation left out
    :param deterministic: its evaluations under the deterministic policy
    :param stochastic: those under the stochastic one
    """

    contender: str
    env: str
    seed: int
    num_timesteps: float
    seconds: float
    deterministic: Curve
    stochastic: Curve

    @property
    def score(self) -> float:
        """Mean deterministic return of the last evaluation."""
        return float(self.deterministic.returns[-1])

    @property
    def stochastic_score(self) -> float:
        """Mean stochastic return of the last evaluation."""
        return float(self.stochastic.returns[-1])

    def equals(self, other: "Run") -> bool:
        """
        :param other: a run of another contender
        :return: whether the evaluations are the same in both modes: grid, episodes, returns, lengths
        """
        return np.array_equal(self.deterministic.episodes, other.deterministic.episodes) and np.array_equal(
            self.stochastic.episodes, other.stochastic.episodes
        )


@dataclass(frozen=True)
class Gap:
    """
    What the comparison was to have and has not.

    :param contender: the contender's name
    :param env: the environment's id
    :param seed: the run's seed; ``None`` where it is about all of them
    :param status: ``failed``, ``not applicable``, ``missing`` or ``incomplete``
    :param reason: one line
    """

    contender: str
    env: str
    seed: int | None
    status: str
    reason: str


@dataclass(frozen=True, eq=False)
class Results:
    """
    :param folder: the comparison's folder
    :param contenders: in the order of ``config.json``
    :param envs: those with a finished run, in the order of ``config.json``
    :param runs: the finished ones, by environment, contender and seed
    :param gaps: what is not there, and why
    :param references: for each of the environments, the returns between which its scores are normalised
    :param config: ``config.json``
    :param versions: ``versions.json``
    """

    folder: Path
    contenders: tuple[Contender, ...]
    envs: tuple[str, ...]
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]
    references: Mapping[str, Reference]
    config: Mapping[str, Any]
    versions: Mapping[str, Any]

    def cell(self, contender: Contender, env: str) -> tuple[Run, ...]:
        """
        :param contender: a contender
        :param env: an environment's id
        :return: its finished runs there, by seed
        """
        return tuple(run for run in self.runs if (run.contender, run.env) == (contender.name, env))

    def unfinished(self, contender: Contender, env: str) -> int:
        """
        :param contender: a contender
        :param env: an environment's id
        :return: how many of its runs there have failed, are incomplete, or are missing
        """
        statuses = [gap.status for gap in self.gaps if (gap.contender, gap.env) == (contender.name, env)]
        if MISSING in statuses:
            return wanted_runs(self.config) - len(self.cell(contender, env))
        return sum(status in (FAILED, INCOMPLETE) for status in statuses)

    def contenders_of(self, env: str) -> tuple[Contender, ...]:
        """
        :param env: an environment's id
        :return: the contenders that have a finished run there
        """
        return tuple(contender for contender in self.contenders if self.cell(contender, env))

    def with_runs(self) -> tuple[Contender, ...]:
        """
        :return: the contenders that have a finished run
        """
        return tuple(contender for contender in self.contenders if any(run.contender == contender.name for run in self.runs))

    def complete(self) -> tuple[Contender, ...]:
        """
        :return: the contenders that have a finished run in every environment; only these can be compared over all of them
        """
        return tuple(contender for contender in self.contenders if all(self.cell(contender, env) for env in self.envs))

    def common_envs(self, a: Contender, b: Contender) -> tuple[str, ...]:
        """
        :param a: a contender
        :param b: another one
        :return: the environments in which both have finished runs
        """
        return tuple(env for env in self.envs if self.cell(a, env) and self.cell(b, env))

    def normalized_scores(self, contender: Contender, envs: Iterable[str]) -> list[np.ndarray]:
        """
        :param contender: whose
        :param envs: in which
        :return: for each environment the normalised scores of the finished runs
        """
        return [normalize(np.array([run.score for run in self.cell(contender, env)]), self.references[env]) for env in envs]

    def times_to_threshold(self, contender: Contender, env: str) -> tuple[np.ndarray, np.ndarray]:
        """
        :param contender: whose runs
        :param env: the environment; the high end of its reference is the threshold
        :return: for each run the steps, and the seconds, until an evaluation reached the threshold; ``inf`` for never
        """
        curves = [run.deterministic for run in self.cell(contender, env)]
        returns, high = [curve.returns for curve in curves], self.references[env].high
        return (
            statistics.time_to_threshold([curve.steps for curve in curves], returns, high),
            statistics.time_to_threshold([curve.seconds for curve in curves], returns, high),
        )

    def label(self, name: str) -> str:
        """
        :param name: a contender's
        :return: its label
        """
        return next(contender.label for contender in self.contenders if contender.name == name)


def load(folder: Path) -> Results:
    """
    :param folder: a comparison's folder
    :return: what its files hold
    :raises ValueError: if they are not there, cannot be read, contradict each other, or no run has finished
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    absent = [name for name in (CONFIG_FILE, RUNS_FILE, EVALUATIONS_FILE, VERSIONS_FILE) if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{folder} is not a comparison's folder: {', '.join(absent)} not found in it")
    config = read_json(folder / CONFIG_FILE, {"contenders": list, "envs": list})
    contenders = read_contenders(config, folder / CONFIG_FILE)
    rows = read_table(folder / RUNS_FILE, RUN_COLUMNS, ("seed", "num_timesteps", "seconds"))
    check_keys(rows, contenders, config["envs"], folder / RUNS_FILE)
    evaluations = read_table(
        folder / EVALUATIONS_FILE, EVALUATION_COLUMNS, ("seed", "step", "seconds", "episode", "return", "length")
    )
    check_keys(evaluations, contenders, config["envs"], folder / EVALUATIONS_FILE)
    runs, gaps = sort_out(rows, evaluations)
    if not runs:
        raise ValueError(f"{folder}: no run has finished, so there is nothing to report{first_reason(gaps)}")

    names = [contender.name for contender in contenders]
    gaps = [*gaps, *absent_runs(rows, names, config)]
    envs = tuple(env for env in dict.fromkeys(config["envs"]) if any(run.env == env for run in runs))
    place = {key: i for i, key in enumerate((env, name) for env in config["envs"] for name in names)}
    return Results(
        folder=folder,
        contenders=contenders,
        envs=envs,
        runs=tuple(sorted(runs, key=lambda run: (place[run.env, run.contender], run.seed))),
        gaps=tuple(sorted(gaps, key=lambda gap: (place[gap.env, gap.contender], -1 if gap.seed is None else gap.seed))),
        references={env: find_reference(env, [run.deterministic.returns for run in runs if run.env == env]) for env in envs},
        config=config,
        versions=read_json(folder / VERSIONS_FILE, {"versions": dict}),
    )


def read_json(path: Path, required: Mapping[str, type]) -> dict[str, Any]:
    """
    :param path: a JSON file
    :param required: the keys that must be in it, with the type of each value
    :return: its content
    :raises ValueError: if it is not such a file
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    for key, kind in required.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ValueError(f"{path} must have the key {key!r} ({kind.__name__})")
    return content


def read_contenders(config: Mapping[str, Any], path: Path) -> tuple[Contender, ...]:
    """
    :param config: ``config.json``
    :param path: where it was read, for the error
    :return: its contenders
    :raises ValueError: if one has no name, or two have the same
    """
    entries = config["contenders"]
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        raise ValueError(f"{path}: each of the contenders must have a name")
    names = [entry["name"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: more than one contender is called {twice[0]!r}")
    return tuple(Contender(entry["name"], str(entry.get("label") or entry["name"]), i) for i, entry in enumerate(entries))


def read_table(path: Path, columns: Sequence[str], numeric: Sequence[str]) -> pd.DataFrame:
    """
    :param path: a CSV file
    :param columns: that it must have
    :param numeric: those of them that hold numbers; an empty field is ``nan``
    :return: its rows; the other columns are strings, also where a name looks like a number
    :raises ValueError: if it is not such a file
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False).fillna("")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from None
    absent = [column for column in columns if column not in table]
    if absent:
        raise ValueError(f"{path} lacks the column{'s' if len(absent) > 1 else ''} {', '.join(absent)}")
    for column in numeric:
        try:
            table[column] = [float(text) if text else np.nan for text in table[column]]
        except ValueError as error:
            raise ValueError(f"{path}, column {column}: {error}") from None
    return table


def check_keys(table: pd.DataFrame, contenders: Iterable[Contender], envs: Iterable[str], path: Path) -> None:
    """
    :param table: rows of ``runs.csv`` or ``evaluations.csv``
    :param contenders: those of ``config.json``
    :param envs: those of ``config.json``
    :param path: where the rows were read
    :raises ValueError: for a contender or an environment that ``config.json`` does not have
    """
    for column, known in (("contender", [contender.name for contender in contenders]), ("env", list(envs))):
        strangers = sorted(set(table[column]) - set(known))
        if strangers:
            raise ValueError(f"{path}: {CONFIG_FILE} has no {column} {strangers[0]!r}; it has {', '.join(known)}")


def sort_out(rows: pd.DataFrame, evaluations: pd.DataFrame) -> tuple[list[Run], list[Gap]]:
    """
    :param rows: of ``runs.csv``
    :param evaluations: of ``evaluations.csv``
    :return: the runs that have finished, with all their evaluations; and the others
    :raises ValueError: for a run that is there twice, or has an unknown status
    """
    runs: list[Run] = []
    gaps: list[Gap] = []
    curves = {key: read_curve(group) for key, group in evaluations.groupby(["contender", "env", "seed", "mode"])}
    grids = grid_of_envs(curves)
    seen = set()
    for row in rows.to_dict("records"):
        seed = None if np.isnan(row["seed"]) else int(row["seed"])
        key = (row["contender"], row["env"], seed)
        if key in seen:
            raise ValueError(f"{RUNS_FILE} has {describe_run(*key)} twice")
        seen.add(key)
        if row["status"] in (FAILED, NOT_APPLICABLE):
            gaps.append(Gap(*key, row["status"], one_line(row["reason"])))
        elif row["status"] != FINISHED or seed is None:
            raise ValueError(f"{RUNS_FILE}, {describe_run(*key)}: unknown status {row['status']!r}, or no seed")
        else:
            deterministic, stochastic = (curves.get((*key, mode)) for mode in (DETERMINISTIC, STOCHASTIC))
            lack = what_lacks(deterministic, stochastic, row, grids.get(row["env"], np.array([])))
            if lack or deterministic is None or stochastic is None:
                gaps.append(Gap(*key, INCOMPLETE, lack))
            else:
                runs.append(Run(*key[:2], seed, row["num_timesteps"], row["seconds"], deterministic, stochastic))
    return runs, gaps


def read_curve(rows: pd.DataFrame) -> Curve:
    """
    :param rows: the episodes of a run's evaluations in one mode
    :return: the evaluations
    """
    # Sorted first: sums in another order may differ in their last digit, and equal runs are to have equal means.
    rows = rows.sort_values(["step", "episode"], kind="stable")
    means = rows.groupby("step")[["seconds", "return"]].mean()
    episodes = rows[["step", "episode", "return", "length"]].to_numpy()
    return Curve(means.index.to_numpy(), means["seconds"].to_numpy(), means["return"].to_numpy(), episodes)


def grid_of_envs(curves: Mapping[tuple[str, str, float, str], Curve]) -> dict[str, np.ndarray]:
    """
    :param curves: by contender, environment, seed and mode
    :return: for each environment the steps at which any of its runs has been evaluated
    """
    steps: dict[str, set[float]] = {}
    for (_, env, _, _), curve in curves.items():
        steps.setdefault(env, set()).update(curve.steps)
    return {env: np.array(sorted(grid)) for env, grid in steps.items()}


def what_lacks(deterministic: Curve | None, stochastic: Curve | None, row: Mapping[str, Any], grid: np.ndarray) -> str:
    """
    :param deterministic: a finished run's evaluations in this mode, if there are any
    :param stochastic: those in the other
    :param row: the run's row of ``runs.csv``
    :param grid: the steps at which its environment's runs are evaluated
    :return: why the run cannot be used; empty if it can
    """
    for mode, curve in ((DETERMINISTIC, deterministic), (STOCHASTIC, stochastic)):
        if curve is None:
            return f"{EVALUATIONS_FILE} has no {mode} evaluation of it"
        if not np.array_equal(curve.steps, grid):
            return f"{EVALUATIONS_FILE} has {len(curve.steps)} of the {len(grid)} {mode} evaluations"
        if not np.isfinite(curve.episodes).all() or not np.isfinite(curve.seconds).all():
            return f"its {mode} evaluations hold what is not a finite number"
    if not np.isfinite([row["num_timesteps"], row["seconds"]]).all():
        return f"{RUNS_FILE} does not say how many steps it took, or how many seconds"
    return ""


def absent_runs(rows: pd.DataFrame, names: Sequence[str], config: Mapping[str, Any]) -> list[Gap]:
    """
    :param rows: of ``runs.csv``
    :param names: the contenders'
    :param config: ``config.json``
    :return: the cells of which fewer runs are recorded than ``config.json`` says
    """
    wanted = wanted_runs(config)
    closed = set(zip(rows["contender"], rows["env"], strict=True)) & {
        (row["contender"], row["env"]) for row in rows.to_dict("records") if row["status"] == NOT_APPLICABLE
    }
    gaps = []
    for env in dict.fromkeys(config["envs"]):
        for name in names:
            recorded = int(((rows["contender"] == name) & (rows["env"] == env)).sum())
            if recorded < wanted and (name, env) not in closed:
                gaps.append(Gap(name, env, None, MISSING, f"{RUNS_FILE} has {recorded} of {wanted} runs"))
    return gaps


def wanted_runs(config: Mapping[str, Any]) -> int:
    """
    :param config: ``config.json``
    :return: how many runs each contender was to have in each environment
    """
    return int(config.get("seeds") or 1)


def one_line(text: str) -> str:
    """
    :param text: a reason
    :return: it, on one line
    """
    return " ".join(text.split()) or "no reason recorded"


def describe_run(contender: str, env: str, seed: int | None) -> str:
    """
    :param contender: its contender's name
    :param env: its environment's id
    :param seed: its seed
    :return: the run, for a message
    """
    return f"the run of {contender} in {env}" + ("" if seed is None else f" with seed {seed}")


def first_reason(gaps: Sequence[Gap]) -> str:
    """
    :param gaps: the runs that have not finished
    :return: of the first, why
    """
    if not gaps:
        return f": {RUNS_FILE} has no row"
    gap = gaps[0]
    return f": {describe_run(gap.contender, gap.env, gap.seed)}: {gap.status}: {gap.reason}"
