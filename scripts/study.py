"""Repeats the study of docs/study.md, several comparisons along the ladder of algorithms: ``python scripts/study.py``."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import tyro

from crashalgos.experiments.comparison.contenders import read_contenders
from crashalgos.experiments.grid.grid import available_cores
from crashalgos.experiments.run.settings import read_yaml

_SCRIPTS = Path(__file__).parent


@dataclass
class StudyOptions:
    """
    Executes the comparisons that a file describes, and compares the rungs of their ladder.

    The same command again continues what was interrupted.
    """

    config: Path = _SCRIPTS / "study.yaml"
    """The YAML file with the comparisons and the ladder."""
    output: Path = Path("results") / "study"
    """The study's folder. It gets a folder for each environment."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores."""
    train: bool = True
    """Whether to train. Otherwise the results are those of the comparisons that are there."""


@dataclass(frozen=True)
class Study:
    """
    The content of a study's file.

    :param ladders: names of contenders, the lowest rung first
    :param comparisons: for each environment, the options of scripts/compare.py
    """

    ladders: list[list[str]]
    comparisons: dict[str, dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Executes the comparisons of a study and writes its page.

    :param argv: the command line; by default this process's
    :return: the exit status: of the comparisons, the first one that is not 0; 2 for a mistake, 130 after Ctrl-C
    """
    options = tyro.cli(StudyOptions, prog="study.py", args=argv)
    try:
        study = _read_study(options.config)
        statuses = []
        if options.train:
            for env, entry in study.comparisons.items():
                statuses.append(_execute(_compare_command(env, entry, options.output / env, options.jobs)))
                if statuses[-1] not in (0, 1):  # 1: some runs have failed, which the report names
                    return statuses[-1]
        _write_page(study, options.output)
    except (OSError, ValueError) as error:
        print(f"study.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return next(filter(None, statuses), 0)


def _read_study(path: Path) -> Study:
    """Reads a study's file; raises ValueError for a mistake in it."""
    content = read_yaml(path)
    try:
        comparisons = {
            env: entry | {"algos": list(chain.from_iterable(entry["algos"]))} for env, entry in content["comparisons"].items()
        }
        study = Study(content["ladder"], comparisons)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must have `ladder`, and `comparisons` with lists of `algos`: {error!r}") from error
    if not study.comparisons or not study.ladders or any(len(ladder) < 2 for ladder in study.ladders):
        raise ValueError(f"{path} must have a comparison, and a `ladder` of two rungs at least: {study.ladders!r}")
    for env, entry in study.comparisons.items():
        known = [contender.name for contender in read_contenders(entry["algos"])]
        for name in chain.from_iterable(study.ladders):
            if name not in known:
                raise ValueError(f"{path}: the rung {name!r} is none of the contenders in {env} ({', '.join(known)})")
    return study


def _compare_command(env: str, entry: Mapping[str, Any], folder: Path, jobs: int) -> list[str]:
    """Makes the command that executes the comparison in an environment."""
    words = [sys.executable, str(_SCRIPTS / "compare.py"), "--no-track"]
    for name, value in {**entry, "envs": env, "jobs": jobs, "output": folder}.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _execute(command: Sequence[str]) -> int:
    """
    Executes a command, waits for its end and returns its exit status.

    Ctrl-C reaches the command as well, and SIGTERM is passed on. In both cases the command gets the time to save its models.
    """
    with subprocess.Popen(command) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)


def _write_page(study: Study, output: Path) -> None:
    """Writes the study's page and figures and prints their paths; raises ValueError if no comparison has results."""
    from crashalgos.experiments.comparison.ladder import write_ladder
    from crashalgos.experiments.comparison.loading import load

    folders = [output / env for env in study.comparisons if (output / env / "runs.csv").exists()]
    if not folders:
        raise ValueError(f"no comparison in {output} has results")
    for file in write_ladder([load(folder) for folder in folders], study.ladders, output):
        print(file)


if __name__ == "__main__":
    sys.exit(main())
