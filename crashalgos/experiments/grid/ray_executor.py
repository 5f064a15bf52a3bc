"""An executor that gives each run a task on a Ray cluster."""

import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crashalgos.common.metadata import versions
from crashalgos.experiments.grid.grid import SECONDS_TO_STOP, Outcome, Outcomes, RunFailure, available_cores
from crashalgos.experiments.grid.packing import copy_back_with_retry, pack
from crashalgos.experiments.grid.ray_cluster import check_address, has_capacity, ray_connection
from crashalgos.experiments.grid.ray_task import Job, execute
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import CHECKPOINT_FILE, LOG_FILE, make_folder

# The time between two checks for ended runs and new progress.
_SECONDS_BETWEEN_POLLS = 0.5
# How long the grid waits for a node when none is left that can execute a run.
_SECONDS_TO_WAIT_FOR_NODE = 300.0


@dataclass
class RayExecutor:
    """
    Gives each run a task on a Ray cluster: a process of its own with one CPU, and one GPU if the run's device is a GPU.

    When a run's node or process dies, Ray executes the run again. If the nodes share the storage of the run's folder, the run
    writes there and resumes from there. Otherwise it writes to a temporary folder on its node, which is copied back when the
    run ends.

    If this process is already connected to Ray, that connection is used.

    :param address: the cluster's ``HOST:PORT``, or "auto" for the cluster that this machine belongs to; ``None`` starts a
        cluster on this machine, which ends with the grid
    :param jobs: how many runs a cluster on this machine executes at a time; other clusters execute as many as they have CPUs
    :param max_retries: how often a run is executed again after its node or process died
    :param shared: whether the nodes share the storage of the runs' folders; ``None``: each task finds out
    :raises ValueError: if Ray is not installed, or if nothing listens at the address
    """

    address: str | None = None
    jobs: int = field(default_factory=available_cores)
    max_retries: int = 3
    shared: bool | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise ValueError('Ray is not installed: pip install "crashalgos[ray]"') from error
        if self.address is not None:
            check_address(self.address)

    def run(self, configs: Sequence[RunConfig], on_progress: Callable[[int, int], None]) -> Outcomes:
        """
        Executes the runs. Closing the generator stops those that have not ended.

        :param configs: the runs, each with a folder of its own, from which it resumes
        :param on_progress: called with a run's index and how much of its ``size`` is done
        :return: the index and the outcome of each run, in the order in which the runs end
        :raises ValueError: if there is no connection to the cluster; if none of its nodes can execute a run; if a run names a
            GPU by its number
        """
        if not configs:
            return
        _check_devices(configs)
        # Ray counts retries after out-of-memory kills separately, by default without a limit.
        os.environ.setdefault("RAY_task_oom_retries", str(self.max_retries))
        resources = {"CPU": 1, "GPU": int(any(config.device.startswith("cuda") for config in configs))}
        parents = {config.folder.absolute().parent for config in configs}
        with ray_connection(self.address, self.jobs), _marker_files(parents) as markers:
            if not has_capacity(resources):
                raise ValueError(
                    f"the Ray cluster has no node with {resources['CPU']} CPU and {resources['GPU']} GPU for a run"
                )
            task = self._make_task(resources)
            board = _make_board()
            running: dict[Any, int] = {}
            try:
                for job in self._make_jobs(configs, markers):
                    running[task.remote(job, board)] = job.index
                yield from self._outcomes(configs, running, resources, lambda: _forward_progress(board, on_progress))
            finally:
                self._stop(configs, running)

    def _make_task(self, resources: Mapping[str, int]) -> Any:
        import ray

        return ray.remote(
            num_cpus=resources["CPU"],
            num_gpus=resources["GPU"],
            max_calls=1,
            max_retries=self.max_retries,
            scheduling_strategy="SPREAD",
            runtime_env=_python_path_environment(),
        )(execute)

    def _make_jobs(self, configs: Sequence[RunConfig], markers: Mapping[Path, Path]) -> Iterator[Job]:
        here, variables = versions(), _wandb_variables()
        for index, config in enumerate(configs):
            folder = config.folder.absolute()
            shared = markers[folder.parent] if self.shared is None else self.shared
            # An interrupted run resumes from its files, which a node without shared storage gets with the task.
            archive = pack(folder) if shared is not True and (folder / CHECKPOINT_FILE).exists() else None
            yield Job(index, replace(config, folder=folder), shared, archive, here, variables)

    def _outcomes(
        self,
        configs: Sequence[RunConfig],
        running: dict[Any, int],
        resources: Mapping[str, int],
        forward_progress: Callable[[], None],
    ) -> Outcomes:
        """Waits for the tasks in ``running``, takes out those that end, and yields their runs' outcomes."""
        import ray

        had_capacity = time.monotonic()
        while running:
            ready, _ = ray.wait([*running], timeout=_SECONDS_BETWEEN_POLLS)
            forward_progress()
            for ref in ready:
                index = running[ref]
                outcome = self._outcome(configs[index], ref)
                del running[ref]
                yield index, outcome
            if has_capacity(resources):
                had_capacity = time.monotonic()
            elif time.monotonic() - had_capacity > _SECONDS_TO_WAIT_FOR_NODE:
                for index in [*running.values()]:
                    yield index, RunFailure(configs[index], f"no node was left for it for {_SECONDS_TO_WAIT_FOR_NODE:.0f} s")
                return

    def _outcome(self, config: RunConfig, ref: Any) -> Outcome:
        """Gets the outcome of a run whose task has ended; its files are in the home folder then."""
        import ray
        from ray import exceptions

        try:
            outcome, archive = ray.get(ref)
            if archive is not None:
                copy_back_with_retry(archive, config)
            return _with_home_paths(outcome, config)
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

    def _stop(self, configs: Sequence[RunConfig], running: Mapping[Any, int]) -> None:
        """Interrupts the tasks, copies back what they save, and kills those that do not end in time."""
        import ray

        if not running:
            return
        try:
            for ref in running:
                ray.cancel(ref)
            stopped, _ = ray.wait([*running], num_returns=len(running), timeout=SECONDS_TO_STOP)
            for ref in stopped:
                self._outcome(configs[running[ref]], ref)
        finally:
            for ref in running:
                ray.cancel(ref, force=True)


def _check_devices(configs: Iterable[RunConfig]) -> None:
    """Checks that no run names a GPU by its number."""
    for config in configs:
        if config.device.startswith("cuda:"):
            raise ValueError(f"device={config.device!r}: Ray gives each run a GPU of its own, which is 'cuda' there")


@contextmanager
def _marker_files(folders: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Keeps a file with a random name in each folder: a node that sees the file shares the storage."""
    with ExitStack() as stack:
        markers = {}
        for folder in folders:
            make_folder(folder)
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-shared-"))
            markers[folder] = Path(file.name)
        yield markers


def _python_path_environment() -> dict[str, dict[str, str]]:
    """Makes a ``runtime_env`` with the entries of this process's ``PYTHONPATH`` before those of the node."""
    entries = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([*entries, "${PYTHONPATH}"])}} if entries else {}


def _wandb_variables() -> dict[str, str]:
    """Gets the environment variables of W&B, without the one that W&B sets for child processes of this process."""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_") and name != "WANDB_SERVICE"}


def _make_board() -> Any:
    """Starts the progress board: an actor on this machine that collects how much of each run is done."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Ray sends a class that is defined in a function by value, so the actor's process does not import PyTorch.
    class Board:
        """Keeps the latest progress of each run until it is taken."""

        def __init__(self) -> None:
            self.done: dict[int, int] = {}

        def report(self, index: int, done: int) -> None:
            """Keeps how much of a run is done."""
            self.done[index] = done

        def take(self) -> dict[int, int]:
            """Gives what was reported since the last call, by the runs' indices."""
            done, self.done = self.done, {}
            return done

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()


def _forward_progress(board: Any, on_progress: Callable[[int, int], None]) -> None:
    """Calls ``on_progress`` with what is new on the board; nothing happens if the board's process is dead."""
    import ray

    news: dict[int, int] = {}
    with suppress(ray.exceptions.RayError):
        news = ray.get(board.take.remote(), timeout=_SECONDS_BETWEEN_POLLS)
    for index, done in news.items():
        on_progress(index, done)


def _with_home_paths(outcome: Outcome, config: RunConfig) -> Outcome:
    """Replaces the node's paths in an outcome by those of the home folder."""
    if isinstance(outcome, RunFailure):
        return RunFailure(config, outcome.reason)
    wandb_folder = outcome.wandb_folder and config.folder / os.path.relpath(outcome.wandb_folder, outcome.config.folder)
    return replace(outcome, config=config, wandb_folder=wandb_folder)
