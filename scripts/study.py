"""The study of docs/study.md: ``python scripts/study.py``. Several comparisons, and what each rung of the ladder buys."""

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

SCRIPTS = Path(__file__).parent


@dataclass
class StudyOptions:
    """Do the comparisons that a file describes. The same command again continues what was interrupted."""

    config: Path = SCRIPTS / "study.yaml"
    """What is compared."""
    output: Path = Path("results") / "study"
    """The study's folder; in it is one for each environment."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores."""
    train: bool = True
    """Whether to train; without, the ladder is drawn from the comparisons that there are."""


@dataclass(frozen=True)
class Study:
    """
    :param ladders: names of contenders, the lowest first
    :param comparisons: for each environment the options of scripts/compare.py
    """

    ladders: list[list[str]]
    comparisons: dict[str, dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: of the comparisons, the first one that is not 0; 2 for a mistake, 130 after Ctrl-C
    """
    options = tyro.cli(StudyOptions, prog="study.py", args=argv)
    try:
        study = read_study(options.config)
        statuses = []
        if options.train:
            for env, entry in study.comparisons.items():
                statuses.append(call(command(env, entry, options.output / env, options.jobs)))
                if statuses[-1] not in (0, 1):  # 1: some runs have failed, and the report names them
                    return statuses[-1]
        show(study, options.output)
    except (OSError, ValueError) as error:
        print(f"study.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return next(filter(None, statuses), 0)


def read_study(path: Path) -> Study:
    """
    :param path: the study's file
    :return: the study
    :raises ValueError: for a mistake in the file
    """
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


def command(env: str, entry: Mapping[str, Any], folder: Path, jobs: int) -> list[str]:
    """
    :param env: the environment's id
    :param entry: the other options of scripts/compare.py
    :param folder: where the results go
    :param jobs: how many runs at a time
    :return: the command
    """
    words = [sys.executable, str(SCRIPTS / "compare.py"), "--no-track"]
    for name, value in {**entry, "envs": env, "jobs": jobs, "output": folder}.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def call(words: Sequence[str]) -> int:
    """
    :param words: a command
    :return: its exit status; it takes its time after Ctrl-C, which reaches it, too, and SIGTERM, which is passed on
    """
    with subprocess.Popen(words) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)


def show(study: Study, output: Path) -> None:
    """
    :param study: the study
    :param output: its folder
    :raises ValueError: if there are no results
    """
    from crashalgos.experiments.comparison.ladder import write_ladder
    from crashalgos.experiments.comparison.results import load

    folders = [output / env for env in study.comparisons if (output / env / "runs.csv").exists()]
    if not folders:
        raise ValueError(f"no comparison in {output} has results")
    for file in write_ladder([load(folder) for folder in folders], study.ladders, output):
        print(file)


if __name__ == "__main__":
    sys.exit(main())
