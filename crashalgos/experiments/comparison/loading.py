"""Loading of a comparison's results from the CSV and JSON files in its folder."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.references import find_reference
from crashalgos.experiments.comparison.results import (
    EVALUATION_COLUMNS,
    EVALUATIONS_FILE,
    FAILED,
    FINISHED,
    INCOMPLETE,
    MISSING,
    NOT_APPLICABLE,
    RUN_COLUMNS,
    RUNS_FILE,
    VERSIONS_FILE,
    Curve,
    Gap,
    Results,
    Run,
    planned_runs,
)
from crashalgos.experiments.run.evaluation import MODES
from crashalgos.experiments.run.folder import CONFIG_FILE

_RUN_NUMBERS = ("seed", "num_timesteps", "seconds")
_EVALUATION_NUMBERS = ("seed", "step", "seconds", "episode", "return", "length")


def load(folder: Path) -> Results:
    """
    Loads a comparison's results.

    :param folder: the comparison's folder
    :return: the results
    :raises ValueError: if a file is missing or cannot be read, files contradict each other, or no run has finished
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    absent = [name for name in (CONFIG_FILE, RUNS_FILE, EVALUATIONS_FILE, VERSIONS_FILE) if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{folder} is not a comparison's folder: {', '.join(absent)} not found in it")
    config = _read_json(folder / CONFIG_FILE, {"contenders": list, "envs": list})
    contenders = _contenders_of(config, folder / CONFIG_FILE)
    rows = _read_table(folder / RUNS_FILE, RUN_COLUMNS, _RUN_NUMBERS)
    evaluations = _read_table(folder / EVALUATIONS_FILE, EVALUATION_COLUMNS, _EVALUATION_NUMBERS)
    for table, file in ((rows, RUNS_FILE), (evaluations, EVALUATIONS_FILE)):
        _check_known(table, contenders, config["envs"], folder / file)
    runs, gaps = _runs_and_gaps(rows, evaluations)
    if not runs:
        raise ValueError(f"{folder}: no run has finished, so there is nothing to report{_first_reason(gaps)}")

    names = [contender.name for contender in contenders]
    gaps = [*gaps, *_missing_runs(rows, names, config)]
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
        versions=_read_json(folder / VERSIONS_FILE, {"versions": dict}),
    )


def _read_json(path: Path, required: Mapping[str, type]) -> dict[str, Any]:
    """Reads a JSON file; ``required`` has the type of each key that must be in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    for key, kind in required.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ValueError(f"{path} must have the key {key!r} ({kind.__name__})")
    return content


def _contenders_of(config: Mapping[str, Any], path: Path) -> tuple[Contender, ...]:
    entries = config["contenders"]
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        raise ValueError(f"{path}: each of the contenders must have a name")
    names = [entry["name"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: more than one contender is called {twice[0]!r}")
    return tuple(
        Contender(
            name=entry["name"],
            label=str(entry.get("label") or entry["name"]),
            algo=str(entry.get("algo", "")),
            overrides=entry.get("overrides") or {},
            first_seed=entry.get("first_seed", 0),
            index=i,
        )
        for i, entry in enumerate(entries)
    )


def _read_table(path: Path, columns: Sequence[str], numeric: Sequence[str]) -> pd.DataFrame:
    """
    Reads a CSV file.

    An empty field of a ``numeric`` column is NaN. The other columns are strings, also where a name looks like a number.
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


def _check_known(table: pd.DataFrame, contenders: Iterable[Contender], envs: Iterable[str], path: Path) -> None:
    """Checks that ``config.json`` has all contenders and environments of a table."""
    for column, known in (("contender", [contender.name for contender in contenders]), ("env", list(envs))):
        unknown = sorted(set(table[column]) - set(known))
        if unknown:
            raise ValueError(f"{path}: {CONFIG_FILE} has no {column} {unknown[0]!r}; it has {', '.join(known)}")


def _runs_and_gaps(rows: pd.DataFrame, evaluations: pd.DataFrame) -> tuple[list[Run], list[Gap]]:
    """Sorts the rows of ``runs.csv`` into finished runs with all their evaluations, and gaps."""
    runs: list[Run] = []
    gaps: list[Gap] = []
    curves = {key: _curve_of(group) for key, group in evaluations.groupby(["contender", "env", "seed", "mode"])}
    grids = _evaluation_grids(curves)
    seen = set()
    for row in rows.to_dict("records"):
        seed = None if np.isnan(row["seed"]) else int(row["seed"])
        key = (row["contender"], row["env"], seed)
        if key in seen:
            raise ValueError(f"{RUNS_FILE} has {_describe_run(*key)} twice")
        seen.add(key)
        if row["status"] in (FAILED, NOT_APPLICABLE):
            gaps.append(Gap(*key, row["status"], " ".join(row["reason"].split()) or "no reason recorded"))
        elif row["status"] != FINISHED or seed is None:
            raise ValueError(f"{RUNS_FILE}, {_describe_run(*key)}: unknown status {row['status']!r}, or no seed")
        else:
            deterministic, stochastic = (curves.get((*key, mode)) for mode in MODES)
            problem = _why_incomplete(deterministic, stochastic, row, grids.get(row["env"], np.array([])))
            if problem or deterministic is None or stochastic is None:
                gaps.append(Gap(*key, INCOMPLETE, problem))
            else:
                runs.append(Run(*key[:2], seed, row["num_timesteps"], row["seconds"], deterministic, stochastic))
    return runs, gaps


def _curve_of(rows: pd.DataFrame) -> Curve:
    # Sorted first: sums in another order may differ in their last digit, and equal runs must have equal means.
    rows = rows.sort_values(["step", "episode"], kind="stable")
    means = rows.groupby("step")[["seconds", "return"]].mean()
    episodes = rows[["step", "episode", "return", "length"]].to_numpy()
    return Curve(means.index.to_numpy(), means["seconds"].to_numpy(), means["return"].to_numpy(), episodes)


def _evaluation_grids(curves: Mapping[tuple[str, str, float, str], Curve]) -> dict[str, np.ndarray]:
    """Returns for each environment the steps at which any of its runs has been evaluated."""
    steps: dict[str, set[float]] = {}
    for (_, env, _, _), curve in curves.items():
        steps.setdefault(env, set()).update(curve.steps)
    return {env: np.array(sorted(grid)) for env, grid in steps.items()}


def _why_incomplete(deterministic: Curve | None, stochastic: Curve | None, row: Mapping[str, Any], grid: np.ndarray) -> str:
    """Returns why a finished run cannot be used; empty if it can."""
    for mode, curve in zip(MODES, (deterministic, stochastic), strict=True):
        if curve is None:
            return f"{EVALUATIONS_FILE} has no {mode} evaluation of it"
        if not np.array_equal(curve.steps, grid):
            return f"{EVALUATIONS_FILE} has {len(curve.steps)} of the {len(grid)} {mode} evaluations"
        if not np.isfinite(curve.episodes).all() or not np.isfinite(curve.seconds).all():
            return f"its {mode} evaluations hold what is not a finite number"
    if not np.isfinite([row["num_timesteps"], row["seconds"]]).all():
        return f"{RUNS_FILE} does not say how many steps it took, or how many seconds"
    return ""


def _missing_runs(rows: pd.DataFrame, names: Sequence[str], config: Mapping[str, Any]) -> list[Gap]:
    """Returns a gap for each contender and environment with fewer rows in ``runs.csv`` than planned."""
    planned = planned_runs(config)
    not_applicable = {(row["contender"], row["env"]) for row in rows.to_dict("records") if row["status"] == NOT_APPLICABLE}
    gaps = []
    for env in dict.fromkeys(config["envs"]):
        for name in names:
            recorded = int(((rows["contender"] == name) & (rows["env"] == env)).sum())
            if recorded < planned and (name, env) not in not_applicable:
                gaps.append(Gap(name, env, None, MISSING, f"{RUNS_FILE} has {recorded} of {planned} runs"))
    return gaps


def _describe_run(contender: str, env: str, seed: int | None) -> str:
    return f"the run of {contender} in {env}" + ("" if seed is None else f" with seed {seed}")


def _first_reason(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return f": {RUNS_FILE} has no row"
    gap = gaps[0]
    return f": {_describe_run(gap.contender, gap.env, gap.seed)}: {gap.status}: {gap.reason}"
