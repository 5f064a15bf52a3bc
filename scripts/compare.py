"""Compares algorithms: ``python scripts/compare.py --algos ppo sb3-ppo --envs CartPole-v1 --seeds 10``."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from crashalgos.experiments.comparison.contenders import Contender, folder_name, read_contenders, runs_of, settings_of
from crashalgos.experiments.comparison.tables import NotApplicablePair, write_tables
from crashalgos.experiments.grid.grid import Executor, Outcome, RunFailure, available_cores, print_failures, run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.grid.ray_executor import RayExecutor
from crashalgos.experiments.grid.wandb_runs import describe_wandb_runs
from crashalgos.experiments.run.checks import NotApplicable, check, untuned_note
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.options import command
from crashalgos.experiments.run.signals import interrupt_on_sigterm
from crashalgos.tracking.wandb_mode import choose_wandb_mode

# The options on which the results depend.
_SHAPES_RESULTS = ("algos", "envs", "seeds", "n_timesteps", "eval_freq", "eval_episodes", "checkpoint_freq", "device")
# Keys of the comparison's configuration that may change when the comparison is continued.
_MAY_CHANGE = ("command", "untuned")


@dataclass
class CompareOptions:
    """
    Compares algorithms in environments, over seeds, at equal environment steps.

    The same command again continues what was interrupted, and executes no run twice.
    """

    algos: tuple[str, ...] = ("reinforce", "baseline-pg", "ppo", "sb3-ppo")
    """Algorithms: reinforce, baseline-pg, ppo; peers: sb3-ppo, sb3-a2c, trpo, ars. A variant is
    'NAME=ALGO{HYPERPARAMETER: VALUE, …}', such as 'fast=ppo{compile: true}'; first_seed in it is the variant's first seed."""
    envs: tuple[str, ...] = ("CartPole-v1",)
    """Environments' ids."""
    seeds: int = 10
    """How many seeds: 0, 1, …"""
    n_timesteps: int = 50_000
    """Environment steps of every run, in place of the tuned settings' own."""
    eval_freq: int = 5_000
    """Environment steps between evaluations."""
    eval_episodes: int = 10
    """Episodes of one evaluation."""
    checkpoint_freq: int = 25_000
    """Environment steps between checkpoints, from which a killed run resumes. Each checkpoint restarts the environments, so
    choose many times an episode's length. 0: no checkpoints."""
    executor: Literal["local", "ray"] = "local"
    """Where the runs are executed: local, in processes of this machine; ray, on a Ray cluster (docs/cluster.md)."""
    ray_address: str | None = None
    """The Ray cluster: HOST:PORT, or auto for the one that this machine belongs to. By default one is started here."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores. A Ray cluster executes as
    many as it has CPUs."""
    device: str = "cpu"
    """PyTorch's device: small networks are fastest on the CPU."""
    output: Path | None = None
    """The comparison's folder. By default one below results/compare/ that is named after the options."""
    track: bool = True
    """Whether Weights & Biases tracks the runs: online with an API key, offline without."""
    project: str = "crashalgos"
    """W&B's project."""
    tags: tuple[str, ...] = ()
    """W&B's tags, besides algorithm, environment and the comparison's name."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Executes the runs of a comparison and writes its report.

    :param argv: the command line; by default this process's
    :return: the exit status: 1 if a run failed or the disk is full, 2 for a mistake on the command line, 130 after Ctrl-C or
        SIGTERM
    """
    options = tyro.cli(CompareOptions, prog="compare.py", args=argv)
    try:
        runs_by_pair, config = _plan(options)
        executor = _make_executor(options)
        folder = options.output or Path("results") / "compare" / folder_name(config["envs"], _digest(config))
        tags = (folder.resolve().name, *options.tags)
        runs_by_pair = [
            [dataclasses.replace(run, folder=folder / run.name, tags=tags) for run in runs] for runs in runs_by_pair
        ]
        runs, not_applicable = _applicable_runs(runs_by_pair)
    except ValueError as error:
        return _report_mistake(error)
    interrupt_on_sigterm()
    again = command("scripts/compare.py", options, output=folder)
    print(f"the comparison is in {folder}")
    for line in [config["untuned"], *(f"not applicable: {pair.reason}" for pair in not_applicable)]:
        if line:
            print(line)
    try:
        if options.track:
            choose_wandb_mode()
        outcomes = run_grid(runs, executor, folder, config, may_change=_MAY_CHANGE)
        _report(outcomes, not_applicable, folder, options, tags)
    except ValueError as error:
        return _report_mistake(error)
    except KeyboardInterrupt:
        print(f"interrupted; to continue: {again}", file=sys.stderr)
        return 130
    except OSError as error:  # for example a full disk; errors of runs are in the outcomes
        print(f"compare.py: error: {error}; to continue: {again}", file=sys.stderr)
        return 1
    if any(isinstance(outcome, RunFailure) for outcome in outcomes):
        print(f"to try again what failed: {again}")
        return 1
    return 0


def _report_mistake(error: ValueError) -> int:
    """Prints an error in one line, and returns the exit status."""
    print(f"compare.py: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _plan(options: CompareOptions) -> tuple[list[list[RunConfig]], dict[str, Any]]:
    """Makes the runs of each pair of contender and environment, still without folders, and the comparison's configuration."""
    for name in ("seeds", "jobs", "eval_freq"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    contenders = read_contenders(options.algos)
    envs = list(dict.fromkeys(options.envs))
    if not envs:
        raise ValueError("nothing to compare: give at least one environment")
    names = ("eval_freq", "eval_episodes", "checkpoint_freq", "device", "track", "project")
    common = {name: getattr(options, name) for name in names}
    runs_by_pair = [
        runs_of(contender, env, options.n_timesteps, options.seeds, common) for env in envs for contender in contenders
    ]
    return runs_by_pair, _comparison_config(options, contenders, envs, [run for runs in runs_by_pair for run in runs])


def _make_executor(options: CompareOptions) -> Executor:
    if options.executor == "ray":
        return RayExecutor(options.ray_address, options.jobs)
    if options.ray_address is not None:
        raise ValueError(f"--ray-address {options.ray_address} needs --executor ray")
    return LocalExecutor(options.jobs)


def _applicable_runs(
    runs_by_pair: Sequence[Sequence[RunConfig]],
) -> tuple[list[RunConfig], list[NotApplicablePair]]:
    """
    Checks one run of each pair of contender and environment, and separates the pairs that are not applicable.

    The runs are sorted by seed, so that an interrupted comparison is a complete one with fewer seeds.
    """
    applicable, not_applicable = [], []
    for runs in runs_by_pair:
        try:
            check(runs[0])
            applicable.append(runs)
        except NotApplicable as error:
            not_applicable.append(NotApplicablePair(runs[0].contender, runs[0].env, " ".join(str(error).split())))
    if not applicable:
        raise ValueError(f"nothing to compare: {not_applicable[0].reason}")
    return [run for same_seed in zip(*applicable, strict=True) for run in same_seed], not_applicable


def _comparison_config(
    options: CompareOptions, contenders: Sequence[Contender], envs: Sequence[str], runs: Sequence[RunConfig]
) -> dict[str, Any]:
    """Makes the comparison's configuration as plain data."""
    shaping = {name: getattr(options, name) for name in _SHAPES_RESULTS if name not in ("algos", "envs")}
    return {
        "contenders": [
            {"name": c.name, "label": c.label, "algo": c.algo, "overrides": c.overrides, "first_seed": c.first_seed}
            for c in contenders
        ],
        "envs": list(envs),
        **shaping,
        "settings": settings_of(runs),
        "command": command("scripts/compare.py", options, _SHAPES_RESULTS),
        "untuned": untuned_note(runs),
    }


def _digest(config: Mapping[str, Any]) -> str:
    """Makes eight characters from what shapes a comparison's results."""
    content = {name: value for name, value in config.items() if name not in _MAY_CHANGE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _report(
    outcomes: Sequence[Outcome],
    not_applicable: Sequence[NotApplicablePair],
    folder: Path,
    options: CompareOptions,
    tags: Sequence[str],
) -> None:
    """Writes CSV files, figures and report, sends them to W&B if the runs are tracked, and prints where they are."""
    from rich.console import Console

    from crashalgos.experiments.comparison.contender_pairs import verdicts
    from crashalgos.experiments.comparison.loading import load
    from crashalgos.experiments.comparison.report import terminal_table, write_report
    from crashalgos.experiments.comparison.wandb_report import log_report

    place = None
    # 0: how many runs a cluster executes at a time is not known.
    write_tables(folder, outcomes, not_applicable, 0 if options.ray_address else options.jobs)
    print_failures(outcomes)
    if all(isinstance(outcome, RunFailure) for outcome in outcomes):
        print("no run has finished: there is nothing to report")
    else:
        results = load(folder)
        write_report(results)
        Console().print(terminal_table(results))
        for verdict in verdicts(results):
            print(verdict)
        place = log_report(results, options.project, tags) if options.track else None
        print(f"report  {folder / 'report.html'}, {folder / 'report.md'}\nfigures {folder / 'figures'}")
    print(f"CSV     {folder / 'evaluations.csv'}, {folder / 'runs.csv'}\nW&B     {describe_wandb_runs(outcomes)}")
    if place is not None:
        print(f"        the report: {place}")


if __name__ == "__main__":
    sys.exit(main())
