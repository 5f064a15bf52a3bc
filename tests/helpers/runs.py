"""Short runs for tests, and what they leave in their folders."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch as th

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.settings import load_settings
from tests.helpers.kill import Killed


def small_config(algo: str, folder: Path, env: str = "CartPole-v1", n_timesteps: int = 600, **changes: Any) -> RunConfig:
    """Makes the configuration of a short run with tuned settings, without checkpoints and tracking."""
    settings = replace(load_settings(algo, env), n_timesteps=n_timesteps)
    short: dict[str, Any] = dict(seed=3, eval_freq=200, eval_episodes=2, checkpoint_freq=0, track=False)
    return RunConfig(algo, env, settings, folder, **short | changes)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def saved_parameters(config: RunConfig) -> dict[str, th.Tensor]:
    """Loads the parameters of the run's final model."""
    return algorithm_class(config.algo).load(config.folder / "model.zip", device="cpu").policy.state_dict()


def equal_parameters(one: dict[str, th.Tensor], other: dict[str, th.Tensor]) -> bool:
    """Tells whether two models have the same parameters, to the last bit."""
    return one.keys() == other.keys() and all(th.equal(one[name], other[name]) for name in one)


def kill_at(step: int) -> Callable[[int], None]:
    """Makes a progress function that ends the run at a step as a kill does."""

    def on_progress(done: int) -> None:
        if done >= step:
            raise Killed

    return on_progress
