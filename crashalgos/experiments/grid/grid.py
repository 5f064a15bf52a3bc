"""A grid of runs, and the interface of the executors that run it."""

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from crashalgos.common.files import remove_unfinished
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import CONFIG_FILE, claimed, write_json
from crashalgos.experiments.run.runner import RunResult, finished

# How many seconds all interrupted runs together get to save their models and close their W&B runs (W&B may take 60 s).
SECONDS_TO_STOP = 90.0


@dataclass
class RunFailure:
    """
    A run that ended without a result.

    :param config: the run's configuration
    :param reason: the run's traceback, or how its process ended
    """

    config: RunConfig
    reason: str

    @property
    def last_line(self) -> str:
        """The reason's last line: in a traceback, the exception."""
        return self.reason.strip().splitlines()[-1]


Outcome = RunResult | RunFailure
# Pairs of a run's index and its outcome, in the order in which the runs end.
Outcomes = Generator[tuple[int, Outcome], None, None]


class Executor(Protocol):
    """Starts the runs of a grid, on this machine or on others."""

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        Executes the runs. Closing the generator stops those that have not ended.

        :param configs: the runs, each with a folder of its own, from which it resumes
        :param on_progress: called with a run's index and how much of its ``size`` is done
        :return: the index and the outcome of each run, in the order in which the runs end
        """


def available_cores() -> int:
    """
    Counts the CPU cores that this process may use.

    :return: the number of cores, at least 1
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_grid(
    configs: Sequence[RunConfig],
    executor: Executor,
    folder: Path,
    grid_config: Mapping[str, Any],
    *,
    may_change: Sequence[str] = (),
    unit: str = "step",
) -> list[Outcome]:
    """
    Executes all runs that have not finished, with one progress bar for all.

    Ctrl-C stops every run and raises KeyboardInterrupt. The same call again continues the grid: the results of finished runs
    are read from their folders.

    :param configs: the runs, each with a folder of its own, where ``output.log`` gets what the run prints
    :param executor: starts the runs
    :param folder: the grid's folder
    :param grid_config: the grid's configuration as plain data; ``config.json`` in the folder keeps it
    :param may_change: keys of ``grid_config`` whose values may differ in the next call
    :param unit: what ``RunConfig.size`` counts; the progress bar shows it
    :return: the outcome of each run, in the order of ``configs``
    :raises ValueError: if the folder is in use, or belongs to a grid with another configuration
    """
    with claimed(folder, grid_config, may_change):
        remove_unfinished(folder)
        write_json(folder / CONFIG_FILE, grid_config)
        results = ((index, finished(config)) for index, config in enumerate(configs))
        outcomes: dict[int, Outcome] = {index: result for index, result in results if result is not None}
        left = [index for index in range(len(configs)) if index not in outcomes]
        progress = _GridProgress(configs, outcomes, unit)
        with closing(progress.bar):
            runs = executor.run([configs[i] for i in left], lambda i, done: progress.advance(left[i], done))
            with closing(runs):
                for i, outcome in runs:
                    outcomes[left[i]] = outcome
                    progress.advance(left[i], configs[left[i]].size)
                    progress.count(outcomes)
    return [outcomes[index] for index in range(len(configs))]


def print_failures(outcomes: Sequence[Outcome]) -> None:
    """
    Prints why each failed run failed.

    :param outcomes: the outcomes of all runs
    """
    for outcome in outcomes:
        if isinstance(outcome, RunFailure):
            print(f"{outcome.config.name} failed:\n{outcome.reason.rstrip()}")


class _GridProgress:
    """One progress bar for all runs of a grid."""

    def __init__(self, configs: Sequence[RunConfig], outcomes: Mapping[int, Outcome], unit: str) -> None:
        self._sizes = [config.size for config in configs]
        self._done = [size if index in outcomes else 0 for index, size in enumerate(self._sizes)]
        self.bar = tqdm(
            total=sum(self._sizes),
            initial=sum(self._done),
            unit=unit,
            unit_scale=True,
            smoothing=0.05,
            # In a log file, a line every ten seconds is enough.
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
        )
        self.count(outcomes)

    def advance(self, index: int, done: int) -> None:
        """Shows how much of a run is done."""
        # The last rollout may exceed the run's size, and a resubmitted run starts behind its earlier progress.
        further = max(0, min(done, self._sizes[index]) - self._done[index])
        self._done[index] += further
        self.bar.update(further)

    def count(self, outcomes: Mapping[int, Outcome]) -> None:
        """Shows how many runs have ended and how many of them have failed."""
        failed = sum(isinstance(outcome, RunFailure) for outcome in outcomes.values())
        self.bar.set_postfix_str(f"{len(outcomes)}/{len(self._sizes)} runs" + (f", {failed} failed" if failed else ""))
