"""Environment steps per second beside SB3's PPO, on CartPole-v1: ``python scripts/benchmark.py``."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from crashalgos.experiments.registry import find_algorithm
from crashalgos.experiments.run import RunConfig, close, make_model
from crashalgos.experiments.settings import load_settings

REFERENCE = "sb3-ppo"


@dataclass
class BenchmarkOptions:
    """Environment steps per second of whole trainings on CartPole-v1, tuned settings, beside SB3's PPO."""

    algos: tuple[str, ...] = ("ppo", "reinforce")
    """Which algorithms."""
    n_timesteps: int = 10_000
    """Environment steps of one training."""
    repeats: int = 5
    """How often each is timed. The algorithms take turns, so that a busy spell of the machine meets all of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status
    """
    import torch as th
    from rich.console import Console

    from crashalgos.experiments.report import terminal_table

    options = tyro.cli(BenchmarkOptions, prog="benchmark.py", args=argv)
    th.set_num_threads(1)
    algos = [REFERENCE, *options.algos]
    try:
        speeds: dict[str, list[float]] = {algo: [] for algo in algos}
        for repeat in range(options.repeats + 1):
            for algo in algos:
                speed = steps_per_second(algo, options.n_timesteps, seed=repeat)
                # The first round warms up.
                if repeat > 0:
                    speeds[algo].append(speed)
    except ValueError as error:
        print(f"benchmark.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2

    rows = []
    for algo in algos:
        ratios = np.array(speeds[algo]) / np.array(speeds[REFERENCE])
        ratio = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        rows.append((find_algorithm(algo).label, "CartPole-v1", f"{np.median(speeds[algo]):.0f}", ratio))
    columns = ("algorithm", "environment", "steps/s (median)", "times SB3's PPO (median, range)")
    Console().print(terminal_table(f"{options.repeats} trainings of {options.n_timesteps} steps", columns, rows))
    return 0


def steps_per_second(algo: str, n_timesteps: int, seed: int) -> float:
    """
    :param algo: the algorithm's name
    :param n_timesteps: length of the training
    :param seed: of the model
    :return: the training's speed
    """
    model = make_model(RunConfig(algo, "CartPole-v1", load_settings(algo, "CartPole-v1"), folder=Path(), seed=seed))
    start = time.perf_counter()
    model.learn(n_timesteps)
    seconds = time.perf_counter() - start
    close(model)
    return model.num_timesteps / seconds


if __name__ == "__main__":
    sys.exit(main())
