"""Compare algorithms: ``python scripts/compare.py --algos ppo sb3-ppo --envs CartPole-v1 --seeds 3``."""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from crashalgos.experiments.grid import RunFailure, available_cores, go_offline_if_unreachable, run_grid
from crashalgos.experiments.run import CONFIG_FILE, RunConfig, RunResult, check, claim_folder, untuned
from crashalgos.experiments.settings import load_settings

TITLE = "Comparison at equal environment steps"
# The options that shape the results.
SHAPING = ("algos", "envs", "seeds", "n_timesteps", "eval_freq", "eval_episodes", "device")


@dataclass
class CompareOptions:
    """Compare algorithms in environments, over seeds, at equal environment steps."""

    algos: tuple[str, ...] = ("reinforce", "baseline-pg", "ppo", "sb3-ppo")
    """Algorithms: reinforce, baseline-pg, ppo, sb3-ppo, sb3-a2c, trpo, ars."""
    envs: tuple[str, ...] = ("CartPole-v1",)
    """Environments' ids."""
    seeds: int = 3
    """How many seeds: 0, 1, …"""
    n_timesteps: int = 100_000
    """Environment steps of every run, in place of the tuned settings' own."""
    eval_freq: int = 5_000
    """Environment steps between evaluations."""
    eval_episodes: int = 10
    """Episodes of one evaluation."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores."""
    device: str = "cpu"
    """PyTorch's device: small networks are fastest on the CPU."""
    output: Path | None = None
    """The comparison's folder. By default one below results/compare/ that carries the time."""
    track: bool = True
    """Whether Weights & Biases tracks the runs: online with an API key, offline without."""
    project: str = "crashalgos"
    """W&B's project."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: 1 if a run failed, 2 for a mistake on the command line
    """
    options = tyro.cli(CompareOptions, prog="compare.py", args=argv)
    folder = options.output or Path("results") / "compare" / time.strftime("%Y%m%d-%H%M%S")
    try:
        configs = make_configs(options, folder)
    except ValueError as error:
        print(f"compare.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    content = dataclasses.asdict(options) | {"output": str(folder)}
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    if untuned(configs):
        print(untuned(configs))
    if options.track:
        go_offline_if_unreachable()
    try:
        outcomes = run_grid(configs, options.jobs)
    except KeyboardInterrupt:
        print(f"interrupted; the runs so far are in {folder}", file=sys.stderr)
        return 130
    show(outcomes, folder, options)
    return 1 if any(isinstance(outcome, RunFailure) for outcome in outcomes) else 0


def make_configs(options: CompareOptions, folder: Path) -> list[RunConfig]:
    """
    :param options: the command line
    :param folder: the comparison's folder; it is made
    :return: the runs
    :raises ValueError: for a mistake on the command line
    """
    for name in ("seeds", "jobs", "eval_freq"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    configs = []
    for seed in range(options.seeds):
        for env in dict.fromkeys(options.envs):
            for algo in dict.fromkeys(options.algos):
                settings = dataclasses.replace(load_settings(algo, env), n_timesteps=options.n_timesteps)
                config = RunConfig(
                    algo=algo,
                    env=env,
                    settings=settings,
                    folder=Path(),
                    seed=seed,
                    eval_freq=options.eval_freq,
                    eval_episodes=options.eval_episodes,
                    threads=1,
                    device=options.device,
                    track=options.track,
                    project=options.project,
                )
                config.folder = folder / config.name
                configs.append(config)
    if not configs:
        raise ValueError("nothing to compare: give at least one algorithm and one environment")
    claim_folder(folder)
    for config in configs:
        if config.seed == 0:
            check(config)
    return configs


def show(outcomes: Sequence[RunResult | RunFailure], folder: Path, options: CompareOptions) -> None:
    """
    Write figure, CSV files and report, and say where they are.

    :param outcomes: what the runs came to
    :param folder: the comparison's folder
    :param options: the command line
    """
    from rich.console import Console

    from crashalgos.experiments import plots, report

    results = [outcome for outcome in outcomes if isinstance(outcome, RunResult)]
    rows = report.summary_rows(results)
    report.write_evaluations(results, folder / "evaluations.csv")
    report.write_runs(outcomes, folder / "runs.csv")
    figure = folder / "learning_curves.png" if results else None
    if figure is not None:
        plots.learning_curves(results, figure)
        Console().print(report.terminal_table(TITLE, report.COLUMNS, rows))
    table = report.markdown_table(report.COLUMNS, rows)
    command = report.reproducing_command("scripts/compare.py", options, SHAPING)
    report.write_report(outcomes, folder / "report.md", TITLE, command, table, report.EVALUATION_NOTE, figure)

    report.print_failures(outcomes)
    places = {"figure": figure, "CSV": f"{folder / 'evaluations.csv'}, {folder / 'runs.csv'}", "report": folder / "report.md"}
    places["W&B"] = report.wandb_place(outcomes)
    for name, place in places.items():
        print(f"{name:<7} {place if place is not None else 'none'}")


if __name__ == "__main__":
    sys.exit(main())
