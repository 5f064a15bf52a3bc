"""Short runs for tests of grids, and comparisons of what two runs have written."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch as th

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.settings import Settings

#: Columns that differ between two equal runs
TIMES = {"seconds", "time/fps", "time/time_elapsed"}


def make_configs(folder: Path, seeds: Sequence[int], env: str = "crash_env:Crash-v0") -> list[RunConfig]:
    """Makes a run of 50 steps for each seed; its folder is named after the seed."""
    settings = Settings(n_timesteps=50, hyperparameters={"n_steps": 5})
    return [
        RunConfig("sb3-a2c", env, settings, folder / str(seed), seed=seed, eval_freq=25, eval_episodes=1, track=False)
        for seed in seeds
    ]


def rows_without_times(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file without the columns of ``TIMES``."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def equal_values(one: object, other: object) -> bool:
    """Tells whether two nested values are equal, tensors to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal_values(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(equal_values, one, other))
    return th.equal(one, other) if isinstance(one, th.Tensor) and isinstance(other, th.Tensor) else one == other
