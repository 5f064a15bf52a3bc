"""A grid on a Ray cluster of two nodes, both on this machine, gives the results of processes of this machine."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from crashalgos.experiments.grid import ray_executor
from crashalgos.experiments.grid.grid import Outcome, RunFailure, run_grid
from crashalgos.experiments.grid.ray_executor import RayExecutor
from crashalgos.experiments.run.callbacks import ReportProgress
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import LOG_FILE, read_status
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.runner import RunResult, finished, run
from crashalgos.experiments.run.settings import Settings
from tests.helpers.grids import equal_values, make_configs, rows_without_times
from tests.helpers.paths import HELPERS, ROOT

CHECKPOINT_FREQ = 32


class Nodes:
    """
    A cluster, whose head node lives during all tests of this file.

    :param traces: the folder in which ray_env.py writes its traces
    """

    def __init__(self, traces: Path) -> None:
        self.traces = traces
        self.cluster = Cluster()
        # A dead node is noticed within seconds
        quickly = {"initial_delay_ms": 500, "period_ms": 500, "failure_threshold": 4}
        config = {f"health_check_{name}": n for name, n in quickly.items()}
        self.add(num_cpus=2, include_dashboard=False, _system_config=config)

    def add(self, **options: Any) -> Any:
        return self.cluster.add_node(object_store_memory=80 * 2**20, **options)

    @property
    def logs(self) -> Path:
        return Path(self.cluster.head_node.get_logs_dir_path())

    def executor(self, **options: Any) -> RayExecutor:
        return RayExecutor(self.cluster.address, **options)

    def steps(self) -> list[int]:
        """Counts the steps of each process on the head node, smallest first."""
        return sorted(path.stat().st_size for path in self.traces.glob(f"{self.cluster.head_node.node_id}-*"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    traces = tmp_path_factory.mktemp("traces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Keep Ray on loopback, in new processes and in this one
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        patch.setenv("RAY_ENV_TRACES", str(traces))
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.syspath_prepend(HELPERS)
        nodes = Nodes(traces)
        # The nodes have started without the path of ray_env.py; the executor must send it
        patch.setenv("PYTHONPATH", str(HELPERS))
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()


def traced_configs(folder: Path) -> list[RunConfig]:
    settings = Settings(n_timesteps=64, hyperparameters={"n_steps": 16, "batch_size": 16, "n_epochs": 2})
    return [
        RunConfig(
            "ppo",
            "ray_env:Traced-v0",
            settings,
            folder / str(seed),
            seed=seed,
            eval_freq=32,
            eval_episodes=1,
            checkpoint_freq=CHECKPOINT_FREQ,
            track=False,
        )
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def undisturbed(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RunResult], int]:
    """Executes the runs in this process; returns their results and how many environment steps one run takes."""
    results = [run(config) for config in traced_configs(tmp_path_factory.mktemp("undisturbed"))]
    (trace,) = nodes.traces.glob("here-*")
    return results, trace.stat().st_size // len(results)


def killed(actor: Any) -> Any:
    ray.kill(actor)
    return actor


def assert_same(one: Outcome, two: Outcome) -> None:
    assert isinstance(one, RunResult) and isinstance(two, RunResult)
    here, there = one.config.folder, two.config.folder
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()} | {LOG_FILE}
    assert read_status(here)["state"] == "finished"
    for file in ("progress.csv", "evaluations.csv"):
        assert rows_without_times(here / file) == rows_without_times(there / file)
    algorithm = algorithm_class(one.config.algo)
    assert equal_values(*(algorithm.load(folder / "model.zip", device="cpu").get_parameters() for folder in (here, there)))


@pytest.mark.parametrize("shared", [None, pytest.param(False, marks=pytest.mark.slow)])
def test_a_node_dies_and_nothing_is_lost(
    shared: bool | None,
    nodes: Nodes,
    undisturbed: tuple[list[RunResult], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for trace in nodes.traces.iterdir():
        trace.unlink()
    expected, whole = undisturbed
    configs = traced_configs(tmp_path)

    # The last run was started before, in this process, and was interrupted after its checkpoint
    def interrupt(done: int) -> None:
        if done > CHECKPOINT_FREQ:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ReportProgress, "PERIOD", 0.0)
        run(configs[3], on_progress=interrupt)

    if shared is False:
        # The progress board is dead as well: no result may depend on it
        make_board = ray_executor._make_board
        monkeypatch.setattr(ray_executor, "_make_board", lambda: killed(make_board()))

    doomed = nodes.add(num_cpus=1)
    (nodes.traces / doomed.node_id).touch()

    def kill() -> None:
        # A run stands still there, after its checkpoint
        while not (nodes.traces / f"standing-{doomed.node_id}").exists():
            time.sleep(0.05)
        nodes.cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = run_grid(configs, nodes.executor(shared=shared), tmp_path / "grid", {})
    killer.join(timeout=30)
    assert not killer.is_alive()

    for outcome, config, other in zip(outcomes, configs, expected, strict=True):
        assert outcome == finished(config)
        assert_same(outcome, other)
    # The last run resumes from its files; the run whose node dies resumes only if its folder is on shared storage
    resumed = 2 if shared is None else 1
    steps = nodes.steps()
    assert len(steps) == 4 and steps[resumed:] == [whole] * (4 - resumed)
    assert all(0 < n <= whole - CHECKPOINT_FREQ for n in steps[:resumed])
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_failure_is_reported_and_its_files_are_copied_back(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Seed 1 raises an error (crash_env.py)
    (config,) = make_configs(Path("runs"), (1,))
    ((index, failed),) = nodes.executor(shared=False).run([config], lambda *news: None)
    assert index == 0 and isinstance(failed, RunFailure) and failed.config is config
    assert failed.last_line == "RuntimeError: this seed fails" and failed.reason.startswith("Traceback")
    assert "this seed fails" in (config.folder / LOG_FILE).read_text()
    assert read_status(config.folder)["state"] == "failed" and (config.folder / "progress.csv").exists()
    assert finished(config) is None
    assert "this seed fails" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_process_that_always_dies_is_a_failure(nodes: Nodes, tmp_path: Path) -> None:
    # Seed 2 is killed (crash_env.py)
    configs = make_configs(tmp_path, (0, 2))
    outcomes = dict(nodes.executor(max_retries=1).run(configs, lambda *news: None))
    assert isinstance(outcomes[0], RunResult) and outcomes[0].final_return == 5.0
    dead = outcomes[1]
    assert isinstance(dead, RunFailure) and dead.config is configs[1]
    log = configs[1].folder / LOG_FILE
    assert dead.last_line == f"the run's node or process died 2 times before it had a result; see {log}"


@pytest.mark.slow
def test_wandb_variables_reach_the_node(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    monkeypatch.chdir(tmp_path)
    (config,) = make_configs(Path("runs"), (0,))
    config.track = True
    ((index, result),) = nodes.executor(shared=False).run([config], lambda *news: None)
    assert index == 0 and isinstance(result, RunResult) and result == finished(config)
    assert result.wandb_folder is not None and list(result.wandb_folder.glob("*.wandb"))
    assert (
        result.wandb_folder / "files" / "model" / "model.zip"
    ).is_file()  # the offline artifact only knows the file's path on the node
    # Without WANDB_API_KEY the log would say that there is no API key
    log = (config.folder / LOG_FILE).read_text()
    assert "W&B run" in log and "no API key" not in log and "Traceback" not in log
    # Everybody can read Ray's logs
    assert not [path for path in nodes.logs.rglob("*.*") if b"a-secret" in path.read_bytes()]


@pytest.mark.slow
def test_an_interrupted_run_saves_its_model_and_is_copied_back(nodes: Nodes, tmp_path: Path) -> None:
    settings = Settings(n_timesteps=1_000_000, hyperparameters={"n_steps": 5})
    configs = [
        replace(config, settings=settings, eval_freq=1_000_000)
        for config in make_configs(tmp_path, (0, 3, 4), "crash_env:Slow-v0")
    ]
    begun = set()

    def interrupt(index: int, done: int) -> None:
        begun.add(index)
        if len(begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(nodes.executor(shared=False).run(configs, interrupt))
    # Two CPUs: the third run waits
    for index, config in enumerate(configs):
        if index in begun:
            status = read_status(config.folder)
            assert (status["state"], status["reason"]) == ("interrupted", "KeyboardInterrupt")
        assert (config.folder / "model.zip").exists() == (index in begun)
    assert not ray.is_initialized()


def test_a_cluster_without_capacity(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = make_configs(tmp_path, (0, 3))
    on_gpu = [replace(config, device="cuda") for config in configs]
    with pytest.raises(ValueError, match="the Ray cluster has no node with 1 CPU and 1 GPU for a run"):
        next(nodes.executor().run(on_gpu, lambda *news: None))
    assert not ray.is_initialized()

    # The only node disappears after the start
    answers = iter([True])
    monkeypatch.setattr(ray_executor, "has_capacity", lambda resources: next(answers, False))
    monkeypatch.setattr(ray_executor, "_SECONDS_TO_WAIT_FOR_NODE", 0.0)
    outcomes = dict(nodes.executor().run(configs, lambda *news: None))
    assert [outcomes[index] for index in (0, 1)] == [
        RunFailure(config, "no node was left for it for 0 s") for config in configs
    ]


def test_without_runs_no_cluster_is_started() -> None:
    assert list(RayExecutor().run([], lambda *news: None)) == []
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", r"Connection refused"),
        ("ray://127.0.0.1:1", "with a Ray Client the runs would end when its connection breaks"),
        ("somewhere", "Invalid address format"),
        ("127.0.0.1:", "it is not HOST:PORT"),
        ("127.0.0.1:port", "Port could not be cast"),
        ("auto", r"Connection refused"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(
        ValueError, match=rf"the Ray address '{address}' cannot be used \(.*{why}.*give the HOST:PORT of its head"
    ):
        RayExecutor(address)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'Ray is not installed: pip install "crashalgos\[ray\]"'):
        RayExecutor()


def test_a_gpu_by_its_number_is_refused(tmp_path: Path) -> None:
    configs = [replace(config, device="cuda:1") for config in make_configs(tmp_path, (0,))]
    with pytest.raises(ValueError, match="device='cuda:1': Ray gives each run a GPU of its own, which is 'cuda' there"):
        next(RayExecutor().run(configs, lambda *news: None))
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_run_that_always_runs_out_of_memory_is_a_failure(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from crashalgos.experiments.grid.ray_executor import RayExecutor
from tests.helpers.grids import make_configs
[(_, failure)] = RayExecutor(jobs=1, max_retries=1).run(make_configs(Path({str(tmp_path)!r}), (0,)), lambda *news: None)
print(failure.reason)
"""
    # Ray's limit is a hundredth of the memory, and more than that is in use already
    variables = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "200"}
    environment = os.environ | variables | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert "running low on memory" in done.stdout, done.stderr
    assert "the run's node or process died 2 times before it had a result" in done.stdout
