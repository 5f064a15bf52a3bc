"""Writes a comparison's report again: ``python scripts/report.py results/compare/CartPole-v1-1a2b3c4d``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from crashalgos.experiments.comparison import report


@dataclass
class ReportOptions:
    """Writes figures, report.md and report.html of a comparison again, from its CSV and JSON files alone."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The comparison's folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Writes the report and prints the paths of its files.

    :param argv: the command line; by default this process's
    :return: the exit status: 2 if the folder lacks files that a report needs
    """
    options = tyro.cli(ReportOptions, prog="report.py", args=argv)
    try:
        paths = report.write(options.folder)
    except ValueError as error:
        print(f"report.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
