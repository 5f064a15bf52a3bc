"""The study of docs/study.md: ``python scripts/study.py``. Several comparisons, and what each rung of the ladder buys."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from crashalgos.experiments.grid import available_cores
from crashalgos.experiments.settings import read_yaml

SCRIPTS = Path(__file__).parent


@dataclass
class StudyOptions:
    """Do the comparisons that a file describes. The same command again continues what was interrupted."""

    config: Path = SCRIPTS / "study.yaml"
    """What is compared."""
    output: Path = Path("results") / "study"
    """The study's folder, one below it for each comparison."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores."""
    train: bool = True
    """Whether to train; without, the ladder is drawn from the comparisons that there are."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: that of the first comparison that failed
    """
    options = tyro.cli(StudyOptions, prog="study.py", args=argv)
    try:
        study = read_yaml(options.config)
        folders = [options.output / name.replace(" ", "-") for name in study["comparisons"]]
    except (OSError, KeyError, ValueError) as error:
        print(f"study.py: error: {options.config} cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        if options.train:
            for entry, folder in zip(study["comparisons"].values(), folders, strict=True):
                status = subprocess.run(command(study["contenders"], entry, folder, options.jobs)).returncode
                if status:
                    return status
        return show(study, [folder for folder in folders if (folder / "runs.csv").exists()], options.output)
    except KeyboardInterrupt:  # the comparison has said how to continue
        return 130


def command(contenders: Sequence[str], entry: dict[str, Any], folder: Path, jobs: int) -> list[str]:
    """
    :param contenders: who is compared
    :param entry: the other options of scripts/compare.py
    :param folder: where the results go
    :param jobs: how many runs at a time
    :return: the command
    """
    words = [sys.executable, str(SCRIPTS / "compare.py"), "--algos", *contenders, "--no-track"]
    for name, value in {**entry, "jobs": jobs, "output": folder}.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def show(study: dict[str, Any], folders: Sequence[Path], output: Path) -> int:
    """
    :param study: what is compared
    :param folders: comparisons that have results
    :param output: the study's folder
    :return: the exit status
    """
    from crashalgos.experiments.comparison.ladder import write_ladder
    from crashalgos.experiments.comparison.results import load

    if not folders:
        print(f"study.py: error: no comparison in {output} has results", file=sys.stderr)
        return 2
    for file in write_ladder([load(folder) for folder in folders], study["ladder"], output):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
