"""Many runs in parallel, each in a process of its own: one that fails takes no other with it."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from urllib.parse import urlsplit

from tqdm import tqdm

from crashalgos.experiments.run import RunConfig, RunResult, claim_folder, run

LOG_FILE = "output.log"

# How long interrupted runs may take, together, to save their models and close their W&B runs (which may take 60 s).
SECONDS_TO_STOP = 90.0
# How long W&B's server may take to answer.
SECONDS_TO_CONNECT = 3.0


@dataclass
class RunFailure:
    """
    :param config: the run that failed
    :param reason: its traceback, or how its process ended
    """

    config: RunConfig
    reason: str


@dataclass
class _Running:
    config: RunConfig
    process: multiprocessing.process.BaseProcess
    done: int = 0
    outcome: RunResult | RunFailure | None = None


def available_cores() -> int:
    """:return: how many cores this process may use"""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def go_offline_if_unreachable() -> None:
    """Set ``WANDB_MODE=offline`` if W&B's server cannot be reached: each run would find that out anew, in half a minute."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    try:
        import wandb

        url = wandb.setup().settings.base_url
        wandb.teardown()
    except Exception:  # the runs report what is wrong with W&B, and go on
        return
    server = urlsplit(url)
    host = server.hostname or ""
    if server.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    try:
        address = host, server.port or (80 if server.scheme == "http" else 443)
        socket.create_connection(address, timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        os.environ["WANDB_MODE"] = "offline"
        print(f"W&B: {url} cannot be reached ({error}); the runs are offline")


def run_grid(configs: Sequence[RunConfig], jobs: int, unit: str = "step") -> list[RunResult | RunFailure]:
    """
    Run them all, at most ``jobs`` at a time, with one bar for all. Ctrl-C stops every run and raises KeyboardInterrupt.

    :param configs: the runs, each with a folder of its own, where ``output.log`` gets what it prints
    :param jobs: how many processes
    :param unit: what ``RunConfig.size`` counts
    :return: what each run came to, in the runs' order
    """
    waiting = list(reversed(list(enumerate(configs))))
    running: dict[Connection, tuple[int, _Running]] = {}
    outcomes: dict[int, RunResult | RunFailure] = {}
    # Where nobody watches it move, a line every ten seconds is enough.
    pace = 0.1 if sys.stderr.isatty() else 10.0
    total = sum(config.size for config in configs)
    with tqdm(total=total, unit=unit, unit_scale=True, smoothing=0.05, mininterval=pace) as bar:
        try:
            _show(bar, len(configs), outcomes)
            while waiting or running:
                while waiting and len(running) < jobs:
                    index, config = waiting.pop()
                    receiver, process = _start(config)
                    running[receiver] = index, _Running(config, process)
                ready = wait(list(running))
                for receiver in [receiver for receiver in running if receiver in ready]:
                    index, current = running[receiver]
                    if not _receive(receiver, current, bar):
                        del running[receiver]
                        outcomes[index] = _end(current, bar)
                        _show(bar, len(configs), outcomes)
        except BaseException:
            _stop([current.process for _, current in running.values()])
            raise
    return [outcomes[index] for index in range(len(configs))]


def _start(config: RunConfig) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(config, sender), name=config.name)
    # Ctrl-C reaches the whole process group: the runs ignore it, from their birth on, and are stopped by this process.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()
    return receiver, process


def _work(config: RunConfig, sender: Connection) -> None:
    """
    The process of one run.

    :param config: the run
    :param sender: gets numbers (progress), at last the outcome
    """
    signal.signal(signal.SIGTERM, _interrupt)
    outcome: RunResult | RunFailure
    try:
        claim_folder(config.folder)
        log = os.open(config.folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        outcome = run(config, on_progress=sender.send)
    except Exception:
        outcome = RunFailure(config, traceback.format_exc())
        print(outcome.reason, file=sys.stderr)
    except KeyboardInterrupt:
        sys.exit(130)
    sender.send(outcome)


def _interrupt(signum: int, frame: object) -> None:
    # Once: a second one would cut the saving short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _receive(receiver: Connection, current: _Running, bar: tqdm) -> bool:
    """
    :param receiver: has a message, or has been closed by the process's end
    :param current: gets the message
    :param bar: moves
    :return: whether more may come
    """
    try:
        message = receiver.recv()
    except (EOFError, OSError):
        receiver.close()
        return False
    if isinstance(message, int):
        _advance(current, message, bar)
    else:
        current.outcome = message
    return True


def _advance(current: _Running, done: int, bar: tqdm) -> None:
    # The last rollout may go past the end.
    done = min(done, current.config.size)
    bar.update(done - current.done)
    current.done = done


def _end(current: _Running, bar: tqdm) -> RunResult | RunFailure:
    current.process.join()
    _advance(current, current.config.size, bar)
    if current.outcome is not None:
        return current.outcome
    code = current.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    return RunFailure(
        current.config, f"the run's process {how} before it had a result; see {current.config.folder / LOG_FILE}"
    )


def _show(bar: tqdm, n_runs: int, outcomes: dict[int, RunResult | RunFailure]) -> None:
    failed = sum(isinstance(outcome, RunFailure) for outcome in outcomes.values())
    bar.set_postfix_str(f"{len(outcomes)}/{n_runs} runs" + (f", {failed} failed" if failed else ""))


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
