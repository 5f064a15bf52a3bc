"""An executor that gives each run a process on this machine."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from crashalgos.experiments.grid.grid import SECONDS_TO_STOP, Outcome, Outcomes, RunFailure
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import LOG_FILE, make_folder, redirect_output
from crashalgos.experiments.run.runner import run
from crashalgos.experiments.run.signals import interrupt_on_sigterm

# A run has failed when this many of its processes in a row died and none got further than those before.
MAX_DEATHS_WITHOUT_PROGRESS = 3


@dataclass
class LocalExecutor:
    """
    Gives each run a process on this machine.

    When a run's process dies (killed, out of memory), the run is resubmitted and resumes. After
    ``MAX_DEATHS_WITHOUT_PROGRESS`` deaths in a row without progress it has failed. The processes end with this process.

    :param jobs: how many runs are executed at a time
    """

    jobs: int

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        Executes the runs. Closing the generator stops those that have not ended.

        :param configs: the runs, each with a folder of its own, from which it resumes
        :param on_progress: called with a run's index and how much of its ``size`` is done
        :return: the index and the outcome of each run, in the order in which the runs end
        """
        waiting = [_Submission(index, config) for index, config in enumerate(configs)]
        running: dict[Connection, _Submission] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    receiver, sender, process = _make_process(waiting[0].config)
                    # Registered before it starts, so that an interrupt in between stops it as well.
                    running[receiver] = current = waiting.pop(0)
                    current.process = process
                    _start(process, sender)
                for receiver in _wait_for_news(running):
                    current = running[receiver]
                    if _receive(receiver, current):
                        on_progress(current.index, current.done)
                        continue
                    del running[receiver]
                    if (outcome := _outcome_of_ended(current)) is not None:
                        yield current.index, outcome
                    else:
                        waiting.insert(0, current)
        finally:
            _stop([current.process for current in running.values() if current.process is not None and current.process.pid])


@dataclass
class _Submission:
    """
    A run with its current process.

    :param done: how much of the run's ``size`` is done
    :param furthest: the largest ``done`` of the earlier processes
    :param deaths: how many processes in a row died without getting further
    :param outcome: the run's outcome, once its process has sent it
    """

    index: int
    config: RunConfig
    process: BaseProcess | None = None
    done: int = 0
    furthest: int = 0
    deaths: int = 0
    outcome: Outcome | None = None


def _make_process(config: RunConfig) -> tuple[Connection, Connection, BaseProcess]:
    """Makes a run's process and the two ends of the pipe through which it reports."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    return receiver, sender, context.Process(target=_execute, args=(config, sender), name=config.name)


def _start(process: BaseProcess, sender: Connection) -> None:
    """Starts a process that ignores Ctrl-C from its first moment."""
    # Ctrl-C reaches the whole process group, but only this process may stop the runs.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()


def _wait_for_news(running: Mapping[Connection, _Submission]) -> list[Connection]:
    """Waits until a run has sent a message or its process has ended, and returns the pipes of all such runs."""
    # The process is watched as well: after it ends, a child of it may keep the pipe open.
    ready = wait([*running, *(current.process.sentinel for current in running.values() if current.process is not None)])
    return [
        receiver
        for receiver, current in running.items()
        if receiver in ready or (current.process is not None and current.process.sentinel in ready)
    ]


def _receive(receiver: Connection, current: _Submission) -> bool:
    """Receives one message of a run; returns False if there is none and the process has ended."""
    assert current.process is not None
    try:
        if not receiver.poll() and not current.process.is_alive() and not receiver.poll():
            raise EOFError
        message = receiver.recv()
    except (EOFError, OSError):
        receiver.close()
        return False
    if isinstance(message, int):
        current.done = message
    else:
        current.outcome = message
    return True


def _outcome_of_ended(current: _Submission) -> Outcome | None:
    """Returns the outcome of a run whose process has ended; ``None`` if the run is to be resubmitted."""
    assert current.process is not None
    current.process.join()
    if current.outcome is not None:
        return current.outcome
    current.deaths = 0 if current.done > current.furthest else current.deaths + 1
    current.furthest = max(current.furthest, current.done)
    if current.deaths < MAX_DEATHS_WITHOUT_PROGRESS:
        return None
    code = current.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    return RunFailure(
        current.config,
        f"the run's process {how} before it had a result, {MAX_DEATHS_WITHOUT_PROGRESS} times without getting further; "
        f"see {current.config.folder / LOG_FILE}",
    )


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Terminates all processes; kills those that have not ended after ``SECONDS_TO_STOP``."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()


def _execute(config: RunConfig, sender: Connection) -> None:
    """Executes a run in its own process; sends its progress as whole numbers, and its outcome at last."""
    interrupt_on_sigterm()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    outcome: Outcome
    try:
        make_folder(config.folder)
        redirect_output(config.folder)
        outcome = run(config, on_progress=sender.send)
    except Exception:
        outcome = RunFailure(config, traceback.format_exc())
    except KeyboardInterrupt:
        sys.exit(130)
    sender.send(outcome)
    if isinstance(outcome, RunFailure):
        with suppress(OSError):  # the disk may be full
            print(outcome.reason, file=sys.stderr, flush=True)


def _die_with_parent() -> None:
    """Waits for the parent's end, then kills this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # At once, so that the folder is free when the grid is started again; the run resumes from its checkpoint.
    os.kill(os.getpid(), signal.SIGKILL)
