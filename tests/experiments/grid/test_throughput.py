"""A grid keeps the cores busy."""

import statistics
import time
from pathlib import Path

import pytest

from crashalgos.experiments.grid.grid import available_cores, run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.runner import RunResult
from crashalgos.experiments.run.settings import load_settings


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_two_runs_at_a_time_are_nearly_twice_as_fast(tmp_path: Path) -> None:
    ratios = []
    for repeat in range(3):
        seconds = []
        # In turns, so that other work of the machine slows both
        for jobs in (1, 2):
            folder = tmp_path / f"{repeat}-{jobs}"
            settings = load_settings("ppo", "CartPole-v1")
            settings.n_timesteps = 40_000
            configs = [RunConfig("ppo", "CartPole-v1", settings, folder / str(i), seed=i, track=False) for i in range(4)]
            start = time.perf_counter()
            outcomes = run_grid(configs, LocalExecutor(jobs), folder, {})
            seconds.append(time.perf_counter() - start)
            assert all(isinstance(outcome, RunResult) for outcome in outcomes)
        ratios.append(seconds[0] / seconds[1])
    print("times faster:", *(f"{ratio:.2f}" for ratio in ratios))
    assert statistics.median(ratios) >= 1.8
