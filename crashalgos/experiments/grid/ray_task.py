"""What a node of a Ray cluster does for one run."""

import os
import platform
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crashalgos.common.metadata import versions
from crashalgos.experiments.grid.grid import Outcome, RunFailure
from crashalgos.experiments.grid.packing import pack, unpack
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import FolderInUse, make_folder, redirect_output
from crashalgos.experiments.run.runner import RunResult, run

# How long a run waits for the lock of its folder: on a node that Ray has given up, the run's old process may live on.
SECONDS_TO_WAIT_FOR_LOCK = 120.0

# Packages that need the same version on all nodes: with another version, a seed may give other numbers.
SAME_VERSIONS = ("crashalgos", "stable-baselines3", "torch", "gymnasium", "numpy")


@dataclass
class Job:
    """
    All that a task needs to know about its run.

    :param index: the run's index in the grid
    :param config: the run, with the absolute path of its home folder (see ``packing.py``)
    :param shared: whether the node has access to the home folder; a path: it has if this file exists there
    :param archive: the packed home folder, if the run resumes from it
    :param versions: versions of packages on the machine that started the grid
    :param variables: environment variables for the run; Ray's ``runtime_env`` would write an API key into its logs
    """

    index: int
    config: RunConfig
    shared: Path | bool
    archive: bytes | None = field(repr=False)
    versions: dict[str, str]
    variables: dict[str, str] = field(repr=False)


def execute(job: Job, board: Any) -> tuple[Outcome, bytes | None]:
    """
    Executes one run as a Ray task. An interrupted run returns as well, as a failure.

    :param job: the run
    :param board: Ray's handle of the progress board
    :return: the run's outcome, and its packed folder if the node has no access to the home folder
    """
    # Ray interrupts a task by SIGINT. An exception could be lost where Python ignores it, and a second one could break saving.
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())

    def on_progress(done: int) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        with suppress(Exception):  # progress is only shown
            board.report.remote(job.index, done)

    with _working_folder(job) as folder:
        config = replace(job.config, folder=folder)
        outcome: Outcome
        try:
            make_folder(folder)
            redirect_output(folder)
            check_versions(job.versions)
            os.environ.update(job.variables)
            outcome = run_when_unlocked(config, on_progress)
        except (Exception, KeyboardInterrupt):
            outcome = RunFailure(config, traceback.format_exc())
            with suppress(OSError):  # the disk may be full
                os.write(2, outcome.reason.encode())
        if config.track:
            _end_wandb()
        return outcome, None if folder == job.config.folder else pack(folder)


def _end_wandb() -> None:
    """Ends W&B's background process before Ray kills it together with the task."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


@contextmanager
def _working_folder(job: Job) -> Iterator[Path]:
    """Gives the run's home folder if the node has access to it, otherwise a temporary folder."""
    if job.shared if isinstance(job.shared, bool) else job.shared.exists():
        yield job.config.folder
        return
    with tempfile.TemporaryDirectory(prefix="crashalgos-", ignore_cleanup_errors=True) as folder:
        if job.archive is not None:
            unpack(job.archive, Path(folder))
        yield Path(folder)


def check_versions(expected: Mapping[str, str]) -> None:
    """
    Checks that this node has the same versions of ``SAME_VERSIONS`` as the machine that started the grid.

    :param expected: versions on that machine, by package
    :raises ValueError: if a version differs
    """
    installed = versions()
    # What follows a + is PyTorch's build for a kind of machine.
    there, here = ([str(found.get(name)).partition("+")[0] for name in SAME_VERSIONS] for found in (expected, installed))
    others = [f"{name} {b} instead of {a}" for name, a, b in zip(SAME_VERSIONS, there, here, strict=True) if a != b]
    if others:
        raise ValueError(f"the node {platform.node()} has {', '.join(others)}: install the same versions on all nodes")


def run_when_unlocked(config: RunConfig, on_progress: Callable[[int], None]) -> RunResult:
    """
    Executes a run as soon as no other process writes to its folder.

    :param config: the run
    :param on_progress: called with how much of the run's ``size`` is done
    :return: the run's result
    :raises FolderInUse: if the folder is still in use after ``SECONDS_TO_WAIT_FOR_LOCK``
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_LOCK
    while True:
        try:
            return run(config, on_progress)
        except FolderInUse:
            if time.monotonic() > deadline:
                raise
