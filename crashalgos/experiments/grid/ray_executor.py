"""A grid on a Ray cluster: a task for each run, which is done again when its node dies."""

import logging
import os
import platform
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crashalgos.common.metadata import versions
from crashalgos.experiments.grid.grid import SECONDS_TO_STOP, Outcome, Outcomes, RunFailure, available_cores
from crashalgos.experiments.grid.packing import bring_home_patiently, pack, unpack
from crashalgos.experiments.run.folder import LOG_FILE, FolderInUse, make_folder, redirect_output
from crashalgos.experiments.run.runner import CHECKPOINT_FILE, RunConfig, RunResult, run

# How long a cluster may take to answer.
SECONDS_TO_CONNECT = 5.0
# Between two looks at how far the runs are.
SECONDS_BETWEEN_LOOKS = 0.5
# How long a run waits for its folder: on a node that is given up, its process may live on for a while.
SECONDS_FOR_THE_LOST = 120.0
# How long the grid waits for a node when there is none left.
SECONDS_FOR_A_NODE = 300.0

# What has to be of one version everywhere: with another, the same seed may give other numbers.
SAME_VERSIONS = ("crashalgos", "stable-baselines3", "torch", "gymnasium", "numpy")


@dataclass
class RayExecutor:
    """
    A task on a Ray cluster for each run: a process of its own, on one CPU, with one GPU if its device is one. A run whose
    node or process dies is done again. Where the nodes share the storage of its folder, the run takes place in it, and resumes
    there; where they do not, it takes place in a temporary folder of its node, and the folder comes home when the run ends.

    A process that is connected to Ray already keeps that connection.

    :param address: the cluster's ``HOST:PORT``, or "auto" for the one that this machine belongs to; ``None``: a Ray of its own
        on this machine, which ends with the grid
    :param jobs: how many runs at a time a Ray of its own does; a cluster does as many as it has CPUs
    :param max_retries: how often a run whose node or process dies is done again
    :param shared: whether the nodes share the storage of the runs' folders; ``None``: each task finds out
    :raises ValueError: if Ray is not installed, or if nothing listens at the address
    """

    address: str | None = None
    jobs: int = field(default_factory=available_cores)
    max_retries: int = 3
    shared: bool | None = None

    def __post_init__(self) -> None:
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise ValueError('Ray is not installed: pip install "crashalgos[ray]"') from error
        if self.address is not None:
            check_address(self.address)

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        :param configs: the runs
        :param on_progress: told now and then a run's index, and how much of it is done
        :return: index and outcome of each run, as they come
        :raises ValueError: if there is no connection to the cluster, if none of its nodes can take a run, or if a run wants a
            GPU by its number
        """
        if not configs:
            return
        import ray

        check_devices(configs)
        # Ray counts these retries apart, and would have no end of them
        os.environ.setdefault("RAY_task_oom_retries", str(self.max_retries))
        needs = {"CPU": 1, "GPU": int(any(config.device.startswith("cuda") for config in configs))}
        with connected(self.address, self.jobs), marked({config.folder.absolute().parent for config in configs}) as marks:
            if not has_room(needs):
                raise ValueError(f"the Ray cluster has no node with {needs['CPU']} CPU and {needs['GPU']} GPU for a run")
            task = ray.remote(
                num_cpus=needs["CPU"],
                num_gpus=needs["GPU"],
                max_calls=1,
                max_retries=self.max_retries,
                scheduling_strategy="SPREAD",
                runtime_env=python_path(),
            )(_work)
            board = make_board()
            waiting: dict[Any, int] = {}
            try:
                for job in self._jobs(configs, marks):
                    waiting[task.remote(job, board)] = job.index
                yield from self._outcomes(configs, waiting, needs, lambda: tell(board, on_progress))
            finally:
                self._stop(configs, waiting)

    def _jobs(self, configs: Sequence[RunConfig], marks: Mapping[Path, Path]) -> Iterator["_Job"]:
        here, variables = versions(), wandb_variables()
        for index, config in enumerate(configs):
            folder = config.folder.absolute()
            shared = marks[folder.parent] if self.shared is None else self.shared
            # From what an interrupted run has left it resumes, also where the storage is not shared
            files = pack(folder) if shared is not True and (folder / CHECKPOINT_FILE).exists() else None
            yield _Job(index, replace(config, folder=folder), shared, files, here, variables)

    def _outcomes(
        self, configs: Sequence[RunConfig], waiting: dict[Any, int], needs: Mapping[str, int], look: Callable[[], None]
    ) -> Outcomes:
        """
        :param configs: the runs
        :param waiting: the index of each task that goes on; what has ended is taken out
        :param needs: what a run needs of a node
        :param look: called now and then
        """
        import ray

        had_room = time.monotonic()
        while waiting:
            ready, _ = ray.wait([*waiting], timeout=SECONDS_BETWEEN_LOOKS)
            look()
            for ref in ready:
                index = waiting[ref]
                outcome = self._outcome(configs[index], ref)
                del waiting[ref]
                yield index, outcome
            if has_room(needs):
                had_room = time.monotonic()
            elif time.monotonic() - had_room > SECONDS_FOR_A_NODE:
                for index in [*waiting.values()]:
                    yield index, RunFailure(configs[index], f"no node was left for it for {SECONDS_FOR_A_NODE:.0f} s")
                return

    def _outcome(self, config: RunConfig, ref: Any) -> Outcome:
        """
        :param config: a run
        :param ref: its task, which has ended
        :return: what it came to; its folder is at home
        """
        import ray
        from ray import exceptions

        try:
            outcome, files = ray.get(ref)
            if files is not None:
                bring_home_patiently(files, config)
            return at_home(outcome, config)
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.LocalRayletDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
        ) as error:
            log = config.folder / LOG_FILE
            summary = f"the run's node or process died {self.max_retries + 1} times before it had a result"
            return RunFailure(config, f"{error}\n{summary}{f'; see {log}' if log.exists() else ''}")
        except Exception:
            return RunFailure(config, traceback.format_exc())

    def _stop(self, configs: Sequence[RunConfig], waiting: Mapping[Any, int]) -> None:
        """
        :param configs: the runs
        :param waiting: the index of each task that goes on: it is interrupted, and what it saves comes home
        """
        import ray

        if not waiting:
            return
        try:
            for ref in waiting:
                ray.cancel(ref)
            stopped, _ = ray.wait([*waiting], num_returns=len(waiting), timeout=SECONDS_TO_STOP)
            for ref in stopped:
                self._outcome(configs[waiting[ref]], ref)
        finally:
            for ref in waiting:
                ray.cancel(ref, force=True)


def check_devices(configs: Iterable[RunConfig]) -> None:
    """
    :param configs: runs
    :raises ValueError: if one wants a GPU by its number
    """
    for config in configs:
        if config.device.startswith("cuda:"):
            raise ValueError(f"device={config.device!r}: Ray gives each run a GPU of its own, which is 'cuda' there")


def check_address(address: str) -> None:
    """
    Where nothing answers, Ray itself waits for minutes.

    :param address: of a cluster
    :raises ValueError: if it is none, or if nothing listens there
    """
    from ray._private.services import canonicalize_bootstrap_address  # Ray's own reading of it, as in ray.init

    try:
        if "://" in address:
            raise ValueError("with a Ray Client the runs would end when its connection breaks")
        place = urlsplit(f"//{canonicalize_bootstrap_address(address)}")
        if not place.hostname or not place.port:
            raise ValueError("it is not HOST:PORT")
        socket.create_connection((place.hostname, place.port), timeout=SECONDS_TO_CONNECT).close()
    except (ValueError, OSError) as error:
        how = "on a node of the cluster, give the HOST:PORT of its head, or auto"
        raise ValueError(f"the Ray address {address!r} cannot be used ({error}): {how}") from error


@contextmanager
def connected(address: str | None, jobs: int) -> Iterator[None]:
    """
    While the block runs, the process is connected to Ray.

    :param address: the cluster's; ``None``: a Ray of its own is started, and stopped
    :param jobs: CPUs of a Ray of its own
    :raises ValueError: if there is no connection
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        try:
            if address is None:
                ray.init("local", num_cpus=jobs, include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
        except Exception as error:
            place = "a Ray on this machine" if address is None else f"the Ray cluster at {address}"
            hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token"
            raise ValueError(f"no connection to {place}: {error}{hint}") from error
        yield
    finally:
        ray.shutdown()


@contextmanager
def marked(folders: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """
    While the block runs, there is a file in each folder that nothing but the same storage has.

    :param folders: they need not exist
    :return: each folder's file
    """
    with ExitStack() as stack:
        marks = {}
        for folder in folders:
            make_folder(folder)
            marks[folder] = Path(stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-shared-")).name)
        yield marks


def has_room(needs: Mapping[str, int]) -> bool:
    """
    :param needs: resources by Ray's names
    :return: whether a node has them, be it that they are taken now
    """
    import ray

    return any(
        node["Alive"] and all(node["Resources"].get(name, 0) >= amount for name, amount in needs.items())
        for node in ray.nodes()
    )


def python_path() -> dict[str, dict[str, str]]:
    """:return: a Ray environment whose processes look for modules where this one does, and then in their node's own places"""
    places = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([*places, "${PYTHONPATH}"])}} if places else {}


def wandb_variables() -> dict[str, str]:
    """:return: what this process's environment says to W&B, less what W&B itself says to the children of this process"""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_") and name != "WANDB_SERVICE"}


def make_board() -> Any:
    """:return: an actor on this machine, whom the runs tell how far they are"""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # In here it is sent by value: its process need not import PyTorch
    class Board:
        def __init__(self) -> None:
            self.done: dict[int, int] = {}

        def tell(self, index: int, done: int) -> None:
            self.done[index] = done

        def take(self) -> dict[int, int]:
            done, self.done = self.done, {}
            return done

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()


def tell(board: Any, on_progress: Callable[[int, int], None]) -> None:
    """
    :param board: knows how far the runs are, if it lives
    :param on_progress: is told
    """
    import ray

    done: dict[int, int] = {}
    with suppress(ray.exceptions.RayError):
        done = ray.get(board.take.remote(), timeout=SECONDS_BETWEEN_LOOKS)
    for index, n in done.items():
        on_progress(index, n)


@dataclass
class _Job:
    """
    What a task has to know.

    :param index: of the run
    :param config: the run
    :param shared: whether its folder is on the node's storage, or a file that tells
    :param files: what is in the folder already, if the run is to resume
    :param versions: what is to be the same here and there
    :param variables: of the environment. Ray's own way for them, ``runtime_env``, would write an API key into its logs
    """

    index: int
    config: RunConfig
    shared: Path | bool
    files: bytes | None = field(repr=False)
    versions: dict[str, str]
    variables: dict[str, str] = field(repr=False)


def _work(job: _Job, board: Any) -> tuple[Outcome, bytes | None]:
    """
    The task of one run; an interrupted one returns, too.

    :param job: the run
    :param board: is told how far it is
    :return: what it came to; its folder, if that is not at home
    """

    # It would be lost where Python ignores exceptions, and a second one would cut the saving short
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())

    def on_progress(done: int) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        with suppress(Exception):  # no result depends on it
            board.tell.remote(job.index, done)

    with _workplace(job) as folder:
        config = replace(job.config, folder=folder)
        outcome: Outcome
        try:
            make_folder(folder)
            redirect_output(folder)
            check_versions(job.versions)
            os.environ.update(job.variables)
            outcome = run_patiently(config, on_progress)
        except (Exception, KeyboardInterrupt):
            outcome = RunFailure(config, traceback.format_exc())
            with suppress(OSError):  # on a full disk
                os.write(2, outcome.reason.encode())
        if config.track:
            _end_wandb()
        return outcome, None if folder == job.config.folder else pack(folder)


def _end_wandb() -> None:
    """Ray kills what a process leaves behind: W&B's process is to have ended by then."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


@contextmanager
def _workplace(job: _Job) -> Iterator[Path]:
    """
    :param job: a run
    :return: its folder, or where the storage is another one, one that is gone after the block
    """
    if job.shared if isinstance(job.shared, bool) else job.shared.exists():
        yield job.config.folder
        return
    with tempfile.TemporaryDirectory(prefix="crashalgos-", ignore_cleanup_errors=True) as folder:
        if job.files is not None:
            unpack(job.files, Path(folder))
        yield Path(folder)


def check_versions(grid: Mapping[str, str]) -> None:
    """
    :param grid: versions in the process that has the grid
    :raises ValueError: if they are others here, naming which
    """
    node = versions()
    # What follows a + says for which machine PyTorch is built
    there, here = ([str(found.get(name)).partition("+")[0] for name in SAME_VERSIONS] for found in (grid, node))
    others = [f"{name} {b} instead of {a}" for name, a, b in zip(SAME_VERSIONS, there, here, strict=True) if a != b]
    if others:
        raise ValueError(f"the node {platform.node()} has {', '.join(others)}: install the same versions on all nodes")


def run_patiently(config: RunConfig, on_progress: Callable[[int], None]) -> RunResult:
    """
    :param config: a run; a process that was given up may still write to its folder
    :param on_progress: told now and then how much of it is done
    :return: what it came to
    :raises FolderInUse: if that process does not end
    """
    deadline = time.monotonic() + SECONDS_FOR_THE_LOST
    while True:
        try:
            return run(config, on_progress)
        except FolderInUse:
            if time.monotonic() > deadline:
                raise


def at_home(outcome: Outcome, config: RunConfig) -> Outcome:
    """
    :param outcome: of a run, perhaps elsewhere
    :param config: the run
    :return: the outcome, with the places where things are at home
    """
    if isinstance(outcome, RunFailure):
        return RunFailure(config, outcome.reason)
    place = outcome.wandb_folder and config.folder / os.path.relpath(outcome.wandb_folder, outcome.config.folder)
    return replace(outcome, config=config, wandb_folder=place)
