"""Contenders take turns: one process each, one of them at work at a time, in another order in each repeat."""

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
from typing import Any, Protocol, TypeVar

from scripts.benchmark.worker import Failure, Task, Training, Usage, work
from scripts.benchmark.workloads import Workload

#: How long one answer may take: a training, or an import and the making of a model
SECONDS_TO_ANSWER = 900.0
#: How often the time of an import is taken
IMPORTS = 7

Name = TypeVar("Name")
#: What is put around a turn, given who has it
Turn = Callable[[str], AbstractContextManager[Any]]


class ContenderFailed(Exception):
    """A contender's process has raised an error, died, or not answered."""


@dataclass
class Result:
    """
    What a contender came to at a workload.

    :param warm_up: the first training, which counts for nothing else than its first update
    :param cold_memory_mb: the most memory of the process that compiled with an empty cache
    :param cold_first_update: seconds to the first update where the compiler's cache was empty; ``None`` without a compiler
    :param trainings: the timed ones, by repeat
    :param usage: at the end
    :param failure: why it did not get there
    """

    warm_up: Training | None = None
    cold_first_update: float | None = None
    cold_memory_mb: float = 0.0
    trainings: list[Training] = field(default_factory=list)
    usage: Usage | None = None
    failure: str | None = None

    @property
    def steps_per_second(self) -> float:
        """The median over the repeats."""
        return statistics.median(training.steps_per_second for training in self.trainings)

    def seconds_per_rollout(self, part: str) -> float:
        """
        :param part: ``rollout_seconds`` or ``update_seconds``
        :return: of one rollout, the median over the repeats
        """
        return statistics.median(getattr(training, part) / training.rollouts for training in self.trainings)

    def ratios(self, reference: "Result") -> list[float]:
        """
        :param reference: of the same contest
        :return: how many times the reference's speed this one's was, pair by pair, in each repeat that both have finished
        """
        pairs = zip(self.trainings, reference.trainings, strict=False)
        return [mine.steps_per_second / other.steps_per_second for mine, other in pairs]


class Process(Protocol):
    """A contender's process, seen from outside."""

    def ask(self, request: int | None = None) -> Any:
        """
        :param request: a number of rollouts, or ``None``
        :return: the training, or the usage
        """

    def stop(self) -> None:
        """End it."""


class ContenderProcess:
    """
    Starts a process, which lives until :meth:`stop`.

    :param task: what it is for
    :raises ContenderFailed: if the contender cannot be made
    """

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        # A daemon may have no processes of its own, as some vectorized envs do
        daemon = not task.workload.compares_vec_envs
        self.process = context.Process(target=work, args=(task, other_end), name=task.contender, daemon=daemon)
        # Ctrl-C reaches the whole process group: the process ignores it, from its birth on, and is stopped by this one.
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

    def ask(self, request: int | None = None) -> Any:
        """
        :param request: a number of rollouts, or ``None``
        :return: the training, or the usage
        :raises ContenderFailed: if there is no answer
        """
        try:
            self.connection.send(request)
        except OSError:
            raise ContenderFailed(self._how_it_ended()) from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self.connection.poll(SECONDS_TO_ANSWER):
                raise ContenderFailed(f"no answer within {SECONDS_TO_ANSWER:g} seconds")
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise ContenderFailed(self._how_it_ended()) from None
        if isinstance(answer, Failure):
            raise ContenderFailed(answer.reason)
        return answer

    def _how_it_ended(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        if code is None:
            return "its process has closed the connection"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return f"its process {how}"

    def stop(self) -> None:
        """End the process and those that its compiler has started. There is nothing in them to be saved."""
        if self.process.pid is not None and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


def rotated(names: Sequence[Name], repeat: int) -> list[Name]:
    """
    :param names: who takes part
    :param repeat: 0, 1, …
    :return: the order in which they do: everybody is first in turn
    """
    start = repeat % len(names) if names else 0
    return [*names[start:], *names[:start]]


def hold_contest(
    contenders: Sequence[str],
    repeats: int,
    rollouts: int,
    start: Callable[[str, Result], Process],
    on_turn: Turn,
) -> dict[str, Result]:
    """
    Each contender warms up with one training; then they take turns. One that fails takes no further part.

    :param contenders: who takes part
    :param repeats: how many timed trainings each has
    :param rollouts: how many rollouts a training has
    :param start: starts a contender's process, and notes in its result what the start has shown
    :param on_turn: around each turn, with the contender's name
    :return: what each came to
    """
    results = {name: Result() for name in contenders}
    processes: dict[str, Process] = {}

    def turn(name: str, take: Callable[[], None]) -> None:
        with on_turn(name):
            if results[name].failure is None:
                try:
                    take()
                except ContenderFailed as failure:
                    results[name].failure = str(failure)

    def begin(name: str) -> None:
        processes[name] = start(name, results[name])
        results[name].warm_up = processes[name].ask(rollouts)

    def train(name: str) -> None:
        results[name].trainings.append(processes[name].ask(rollouts))

    def look(name: str) -> None:
        results[name].usage = processes[name].ask()

    try:
        for name in contenders:
            turn(name, lambda name=name: begin(name))  # type: ignore[misc]
        for repeat in range(repeats):
            for name in rotated(contenders, repeat):
                turn(name, lambda name=name: train(name))  # type: ignore[misc]
        for name in contenders:
            turn(name, lambda name=name: look(name))  # type: ignore[misc]
    finally:
        for process in processes.values():
            process.stop()
    return results


def n_turns(n_contenders: int, repeats: int) -> int:
    """
    :param n_contenders: how many take part
    :param repeats: how many timed trainings each has
    :return: how many turns :func:`hold_contest` has
    """
    return n_contenders * (repeats + 2)


def contest(
    workload: Workload,
    contenders: Sequence[str],
    repeats: int,
    log: Path,
    threads: int | None,
    device: str,
    on_turn: Turn,
) -> dict[str, Result]:
    """
    A contest of real processes. The compiled contender compiles twice: in a process that ends after its first update, with an
    empty cache, and in the one that stays, with what the first has left there.

    :param workload: at what
    :param contenders: who takes part
    :param repeats: how many timed trainings each has
    :param log: the file that takes what the processes print
    :param threads: PyTorch's threads; ``None``: what PyTorch takes
    :param device: PyTorch's device
    :param on_turn: around each turn, with the contender's name
    :return: what each came to
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as cache:

        def start(name: str, result: Result) -> Process:
            task = Task(name, workload, log, threads=threads, device=device)
            if name != "compiled":
                return ContenderProcess(task)
            task = replace(task, cache=Path(cache))
            first = ContenderProcess(task)
            try:
                result.cold_first_update = first.ask(1).first_update_seconds
                result.cold_memory_mb = first.ask().peak_mb
            finally:
                first.stop()
            return ContenderProcess(task)

        return hold_contest(contenders, repeats, workload.rollouts, start, on_turn)


def seconds_to_import(module: str) -> float:
    """
    :param module: a module
    :return: how long a new Python takes to import it and end
    """
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True, timeout=SECONDS_TO_ANSWER)
    return time.perf_counter() - start


def time_imports(modules: Sequence[str], on_turn: Turn) -> dict[str, list[float]]:
    """
    :param modules: modules, which take turns; a first round, which fills the caches of the disk, is not counted
    :param on_turn: around each turn, with the contender's name
    :return: the seconds of each
    """
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for repeat in range(-1, IMPORTS):
        for module in rotated(modules, repeat):
            with on_turn(module):
                taken = seconds_to_import(module)
            if repeat >= 0:
                seconds[module].append(taken)
    return seconds
