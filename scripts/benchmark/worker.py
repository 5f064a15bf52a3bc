"""
A participant's process: it answers one request after the other until its parent is gone.

Every participant's process imports this module, and with it crashalgos and SB3: they all need the same few megabytes more.
"""

import os
import platform
import re
import sys
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch as th

from scripts.benchmark.participants import make_participant
from scripts.benchmark.workloads import Workload


@dataclass(frozen=True)
class Task:
    """
    What a process is started with.

    :param participant: the participant's name
    :param workload: the workload
    :param log: the file that takes what the process prints
    :param cache: the folder of PyTorch's compiler; ``None``: the compiler's default
    :param threads: PyTorch's threads; ``None``: PyTorch's default
    :param device: PyTorch's device
    """

    participant: str
    workload: Workload
    log: Path
    cache: Path | None = None
    threads: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Usage:
    """
    What a process has used so far.

    :param peak_mb: the most memory that the process has held, in units of 10⁶ bytes
    :param threads: PyTorch's threads
    :param warnings: the warnings' texts
    """

    peak_mb: float
    threads: int
    warnings: list[str]


@dataclass(frozen=True)
class Failure:
    """
    The answer of a process that has raised an error and ends.

    :param reason: the error in one line
    """

    reason: str


def run_worker(task: Task, connection: Connection) -> None:
    """
    Makes the participant, then answers requests. A number of rollouts asks for a run, ``None`` for the usage.

    :param task: what the process is for
    :param connection: the parent's; the first answer is ``None`` and says that the participant is ready
    """
    # A group of its own: the compiler's processes are stopped with this one.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    _redirect_output(task.log)
    if task.cache is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(task.cache)
    warned = _record_warnings()
    try:
        if task.threads is not None:
            th.set_num_threads(task.threads)
        participant = make_participant(task.participant, task.workload, task.device)
        connection.send(None)
        while True:
            rollouts = connection.recv()
            if rollouts is None:
                connection.send(Usage(_peak_memory_mb(), th.get_num_threads(), warned))
            else:
                connection.send(participant.run(rollouts))
    except EOFError:
        return
    except Exception as error:
        traceback.print_exc()
        connection.send(Failure(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _redirect_output(log: Path) -> None:
    """Lets this process, and those that it starts, print to the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _record_warnings() -> list[str]:
    """Collects warnings from now on in the list that it gives, instead of printing them."""
    texts: list[str] = []

    def record(message: Warning | str, *_: Any, **__: Any) -> None:
        texts.append(" ".join(str(message).split()))

    warnings.showwarning = record
    return texts


def _peak_memory_mb() -> float:
    """Reads the most memory that this process has held, in units of 10⁶ bytes."""
    try:
        # On Linux, getrusage of a child begins with its parent's peak; this figure begins anew.
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024) / 1e6
