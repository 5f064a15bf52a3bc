"""Many runs: an executor says where they take place, and one that fails takes no other with it."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from crashalgos.common.files import remove_unfinished
from crashalgos.experiments.run.folder import CONFIG_FILE, LOG_FILE, claimed, make_folder, redirect_output, write_json
from crashalgos.experiments.run.runner import RunConfig, RunResult, finished, run
from crashalgos.experiments.run.signals import interrupt_on_sigterm

# How long interrupted runs may take, together, to save their models and close their W&B runs (which may take 60 s).
SECONDS_TO_STOP = 90.0
# How often in a row a run's process may die without having got further than those before it.
DEATHS = 3


@dataclass
class RunFailure:
    """
    :param config: the run that failed
    :param reason: its traceback, or how its process ended
    """

    config: RunConfig
    reason: str

    @property
    def last_line(self) -> str:
        """The line of the traceback that says what happened."""
        return self.reason.strip().splitlines()[-1]


Outcome = RunResult | RunFailure
# A run's index and outcome, as they come
Outcomes = Generator[tuple[int, Outcome], None, None]


class Executor(Protocol):
    """Where the runs of a grid take place: on this machine, or on others."""

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        Do the runs; closing the generator stops those that are going on.

        :param configs: the runs, each with a folder of its own, from which it resumes
        :param on_progress: told now and then a run's index, and how much of its ``size`` is done
        :return: index and outcome of each run, as they come
        """


def available_cores() -> int:
    """:return: how many cores this process may use"""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_grid(
    configs: Sequence[RunConfig],
    executor: Executor,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    free: Sequence[str] = (),
    unit: str = "step",
) -> list[Outcome]:
    """
    Do all runs that have not finished, with one bar for all. Ctrl-C stops every run and raises KeyboardInterrupt. The same
    call again continues: runs that have finished are read from their folders.

    :param configs: the runs, each with a folder of its own, where ``output.log`` gets what it prints
    :param executor: where they take place
    :param folder: the grid's own
    :param identity: what the grid is, as plain data
    :param free: keys of it that may differ the next time
    :param unit: what ``RunConfig.size`` counts
    :return: what each run came to, in the runs' order
    :raises ValueError: if the folder is in use, or of another grid, naming what differs
    """
    # Where nobody watches it move, a line every ten seconds is enough.
    pace = 0.1 if sys.stderr.isatty() else 10.0
    with claimed(folder, identity, free):
        remove_unfinished(folder)
        write_json(folder / CONFIG_FILE, identity)
        outcomes: dict[int, Outcome] = {
            i: found for i, config in enumerate(configs) if (found := finished(config)) is not None
        }
        left = [i for i in range(len(configs)) if i not in outcomes]
        done = [config.size if i in outcomes else 0 for i, config in enumerate(configs)]
        total = sum(config.size for config in configs)
        with tqdm(total=total, initial=sum(done), unit=unit, unit_scale=True, smoothing=0.05, mininterval=pace) as bar:

            def advance(index: int, n: int) -> None:
                # The last rollout may go past the end, and a run that is resubmitted comes from behind.
                further = max(0, min(n, configs[index].size) - done[index])
                done[index] += further
                bar.update(further)

            _show(bar, len(configs), outcomes)
            with closing(executor.run([configs[i] for i in left], lambda i, n: advance(left[i], n))) as coming:
                for i, outcome in coming:
                    outcomes[left[i]] = outcome
                    advance(left[i], configs[left[i]].size)
                    _show(bar, len(configs), outcomes)
    return [outcomes[i] for i in range(len(configs))]


def print_failures(outcomes: Sequence[Outcome]) -> None:
    """
    :param outcomes: what runs came to; of the failed ones, why they failed is printed
    """
    for outcome in outcomes:
        if isinstance(outcome, RunFailure):
            print(f"{outcome.config.name} failed:\n{outcome.reason.rstrip()}")


def _show(bar: tqdm, n_runs: int, outcomes: Mapping[int, Outcome]) -> None:
    failed = sum(isinstance(outcome, RunFailure) for outcome in outcomes.values())
    bar.set_postfix_str(f"{len(outcomes)}/{n_runs} runs" + (f", {failed} failed" if failed else ""))


@dataclass
class _Process:
    """
    :param index: of the run
    :param config: the run
    :param done: how much of it is done
    :param furthest: how far the processes before this one got
    :param deaths: how many of them, in a row, did not get further than those before them
    :param outcome: what it came to, when it has said so
    """

    index: int
    config: RunConfig
    process: multiprocessing.process.BaseProcess | None = None
    done: int = 0
    furthest: int = 0
    deaths: int = 0
    outcome: Outcome | None = None


@dataclass
class LocalExecutor:
    """
    A process for each run on this machine. A run whose process dies (killed, out of memory) is resubmitted and resumes; after
    ``DEATHS`` in a row without any progress it has failed. The processes do not outlive this one.

    :param jobs: how many at a time
    """

    jobs: int

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        :param configs: the runs
        :param on_progress: told now and then a run's index, and how much of it is done
        :return: index and outcome of each run, as they come
        """
        waiting = [_Process(index, config) for index, config in enumerate(configs)]
        running: dict[Connection, _Process] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    receiver, sender, process = _make_process(waiting[0].config)
                    # Known before it starts: whatever comes in between, it is stopped
                    running[receiver] = current = waiting.pop(0)
                    current.process = process
                    _start(process, sender)
                for receiver in _ready(running):
                    current = running[receiver]
                    if _receive(receiver, current):
                        on_progress(current.index, current.done)
                        continue
                    del running[receiver]
                    if (outcome := _end(current)) is not None:
                        yield current.index, outcome
                    else:
                        waiting.insert(0, current)
        finally:
            _stop([current.process for current in running.values() if current.process is not None and current.process.pid])


def _make_process(config: RunConfig) -> tuple[Connection, Connection, multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    return receiver, sender, context.Process(target=_work, args=(config, sender), name=config.name)


def _start(process: multiprocessing.process.BaseProcess, sender: Connection) -> None:
    # Ctrl-C reaches the whole process group: the runs ignore it, from their birth on, and are stopped by this process.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()


def _ready(running: Mapping[Connection, _Process]) -> list[Connection]:
    """
    :param running: the runs that are going on
    :return: those that have something to say, or whose process has ended: a child of its own may keep the pipe open
    """
    found = wait([*running, *(current.process.sentinel for current in running.values() if current.process is not None)])
    return [
        receiver
        for receiver, current in running.items()
        if receiver in found or (current.process is not None and current.process.sentinel in found)
    ]


def _work(config: RunConfig, sender: Connection) -> None:
    """
    The process of one run.

    :param config: the run
    :param sender: gets numbers (progress), at last the outcome
    """
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
        with suppress(OSError):  # on a full disk
            print(outcome.reason, file=sys.stderr, flush=True)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # At once: who starts the grid again finds the folder free, and nothing is lost that the checkpoint does not hold.
    os.kill(os.getpid(), signal.SIGKILL)


def _receive(receiver: Connection, current: _Process) -> bool:
    """
    :param receiver: has a message, or has been closed by the process's end
    :param current: gets the message
    :return: whether more may come
    """
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


def _end(current: _Process) -> Outcome | None:
    """
    :param current: its process has ended
    :return: what the run came to; ``None`` if it is to be resubmitted
    """
    assert current.process is not None
    current.process.join()
    if current.outcome is not None:
        return current.outcome
    current.deaths = 0 if current.done > current.furthest else current.deaths + 1
    current.furthest = max(current.furthest, current.done)
    if current.deaths < DEATHS:
        return None
    code = current.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    return RunFailure(
        current.config,
        f"the run's process {how} before it had a result, {DEATHS} times without getting further; "
        f"see {current.config.folder / LOG_FILE}",
    )


def _stop(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
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
