"""
Contests: participants, each in a process of its own, take turns in another order in each repeat.

``repeats`` is the number of timed runs of each participant. ``on_turn`` makes a context manager around each turn.
``rollouts`` is always the number of rollouts of a timed run.
"""

import contextlib
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from scripts.benchmark.participants import TimedRun
from scripts.benchmark.worker import Failure, Task, Usage, run_worker
from scripts.benchmark.workloads import Workload

#: Seconds that a process may take for one answer: a run, or its start with all imports
ANSWER_TIMEOUT = 900.0
#: How many times each import is timed
N_IMPORTS = 7

#: Makes the context of a turn from the name of the participant that has it
Turn = Callable[[str], AbstractContextManager[Any]]


class ParticipantFailed(Exception):
    """A participant's process has raised an error, died, or not answered in time."""


@dataclass
class Result:
    """
    A participant's measurements at one workload.

    :param warm_up: the first run, of which only the first update counts
    :param cold_first_update: seconds to the first update with an empty compiler cache; ``None`` without a compiler
    :param cold_memory_mb: the most memory of the process that compiled with an empty cache
    :param runs: the timed runs, one a repeat
    :param usage: what the process had used at the end
    :param failure: why the participant failed; ``None`` if it did not
    """

    warm_up: TimedRun | None = None
    cold_first_update: float | None = None
    cold_memory_mb: float = 0.0
    runs: list[TimedRun] = field(default_factory=list)
    usage: Usage | None = None
    failure: str | None = None

    @property
    def steps_per_second(self) -> float:
        """The median over the repeats."""
        return statistics.median(run.steps_per_second for run in self.runs)

    def seconds_per_rollout(self, part: str) -> float:
        """
        Calculates the seconds of one rollout, or of one update.

        :param part: ``rollout_seconds`` or ``update_seconds``
        :return: the median over the repeats
        """
        return statistics.median(getattr(run, part) / run.rollouts for run in self.runs)

    def ratios(self, reference: "Result") -> list[float]:
        """
        Divides the speed of each repeat by the reference's speed in the same repeat.

        :param reference: the reference's result in the same contest
        :return: one ratio for each repeat that both have finished
        """
        pairs = zip(self.runs, reference.runs, strict=False)
        return [mine.steps_per_second / other.steps_per_second for mine, other in pairs]


class Process(Protocol):
    """A participant's process, as a contest uses it."""

    def run(self, rollouts: int) -> TimedRun:
        """Makes a run of so many rollouts."""

    def usage(self) -> Usage:
        """Says what the process has used so far."""

    def stop(self) -> None:
        """Ends the process."""


class ParticipantProcess:
    """
    A process that holds a participant from its start to :meth:`stop`.

    :param task: what the process is for
    :raises ParticipantFailed: if the participant cannot be made
    """

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        # A daemon may have no processes of its own, as some vectorized envs do
        daemon = not task.workload.compares_vec_envs
        self.process = context.Process(target=run_worker, args=(task, other_end), name=task.participant, daemon=daemon)
        # Ctrl-C reaches the whole process group. The child is born ignoring it, and this process stops the child.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        other_end.close()
        try:
            self._receive()
        except BaseException:
            self.stop()
            raise

    def run(self, rollouts: int) -> TimedRun:
        """
        Makes a run.

        :param rollouts: how many rollouts it has
        :return: its times
        :raises ParticipantFailed: if there is no answer
        """
        return self._ask(rollouts)

    def usage(self) -> Usage:
        """
        Asks what the process has used so far.

        :return: memory, threads and warnings
        :raises ParticipantFailed: if there is no answer
        """
        return self._ask(None)

    def _ask(self, request: int | None) -> Any:
        try:
            self.connection.send(request)
        except OSError:
            raise ParticipantFailed(self._explain_end()) from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self.connection.poll(ANSWER_TIMEOUT):
                raise ParticipantFailed(f"no answer within {ANSWER_TIMEOUT:g} seconds")
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise ParticipantFailed(self._explain_end()) from None
        if isinstance(answer, Failure):
            raise ParticipantFailed(answer.reason)
        return answer

    def _explain_end(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        if code is None:
            return "its process has closed the connection"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return f"its process {how}"

    def stop(self) -> None:
        """Kills the process and those that its compiler has started; they have nothing to save."""
        if self.process.pid is not None and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_contest(
    workload: Workload,
    participants: Sequence[str],
    repeats: int,
    log: Path,
    threads: int | None,
    device: str,
    on_turn: Turn,
) -> dict[str, Result]:
    """
    Runs a contest with real processes.

    The compiled participant compiles twice. Its first process starts with an empty cache and ends after one update; the
    second, which stays, finds the filled cache.

    :param workload: the workload
    :param participants: the participants' names
    :param log: the file that takes what the processes print
    :param threads: PyTorch's threads; ``None``: PyTorch's default
    :param device: PyTorch's device
    :return: each participant's result
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as cache:

        def start(name: str, result: Result) -> Process:
            task = Task(name, workload, log, threads=threads, device=device)
            if name != "compiled":
                return ParticipantProcess(task)
            task = replace(task, cache=Path(cache))
            cold = ParticipantProcess(task)
            try:
                result.cold_first_update = cold.run(1).first_update_seconds
                result.cold_memory_mb = cold.usage().peak_mb
            finally:
                cold.stop()
            return ParticipantProcess(task)

        return take_turns(participants, repeats, workload.rollouts, start, on_turn)


def take_turns(
    participants: Sequence[str],
    repeats: int,
    rollouts: int,
    start: Callable[[str, Result], Process],
    on_turn: Turn,
) -> dict[str, Result]:
    """
    Starts all participants, lets each warm up with one run, and then times them in turns.

    A participant that has failed keeps its turns, but does nothing in them.

    :param participants: the participants' names
    :param rollouts: how many rollouts a run has
    :param start: starts a participant's process, and may write into its result
    :return: each participant's result
    """
    results = {name: Result() for name in participants}
    processes: dict[str, Process] = {}

    def warm_up(name: str) -> None:
        processes[name] = start(name, results[name])
        results[name].warm_up = processes[name].run(rollouts)

    def time_run(name: str) -> None:
        results[name].runs.append(processes[name].run(rollouts))

    def read_usage(name: str) -> None:
        results[name].usage = processes[name].usage()

    def turn(name: str, action: Callable[[str], None]) -> None:
        with on_turn(name):
            if results[name].failure is None:
                try:
                    action(name)
                except ParticipantFailed as failure:
                    results[name].failure = str(failure)

    try:
        for name in participants:
            turn(name, warm_up)
        for repeat in range(repeats):
            for name in _rotated(participants, repeat):
                turn(name, time_run)
        for name in participants:
            turn(name, read_usage)
    finally:
        for process in processes.values():
            process.stop()
    return results


def n_turns(n_participants: int, repeats: int) -> int:
    """
    Counts the turns of a contest.

    :param n_participants: how many participants it has
    :return: a warm-up, the repeats and a last turn for each participant
    """
    return n_participants * (repeats + 2)


def time_imports(modules: Sequence[str], on_turn: Turn) -> dict[str, list[float]]:
    """
    Times imports of modules, which take turns. A first round fills the disk's caches and is not counted.

    :param modules: the modules' names
    :return: the seconds of each module's imports
    """
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for repeat in range(-1, N_IMPORTS):
        for module in _rotated(modules, repeat):
            with on_turn(module):
                taken = _seconds_to_import(module)
            if repeat >= 0:
                seconds[module].append(taken)
    return seconds


def _seconds_to_import(module: str) -> float:
    """Measures how long a new Python takes to import a module and end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True, timeout=ANSWER_TIMEOUT)
    return time.perf_counter() - start


def _rotated(names: Sequence[str], repeat: int) -> list[str]:
    """Gives the order of a repeat, in which each participant is first in turn."""
    start = repeat % len(names) if names else 0
    return [*names[start:], *names[:start]]
