"""Compare algorithms: ``python scripts/compare.py --algos ppo sb3-ppo --envs CartPole-v1 --seeds 10``."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from crashalgos.experiments.comparison.contenders import (
    Entrant,
    cell,
    folder_name,
    read_contenders,
    settings_of,
)
from crashalgos.experiments.comparison.tables import NoCell, write_tables
from crashalgos.experiments.grid.grid import (
    Executor,
    LocalExecutor,
    Outcome,
    RunFailure,
    available_cores,
    print_failures,
    run_grid,
)
from crashalgos.experiments.grid.ray_executor import RayExecutor
from crashalgos.experiments.grid.wandb_runs import choose_wandb_mode, wandb_place
from crashalgos.experiments.run.options import command
from crashalgos.experiments.run.runner import NotApplicable, RunConfig, check, untuned
from crashalgos.experiments.run.signals import interrupt_on_sigterm

# The options that shape the results.
SHAPING = ("algos", "envs", "seeds", "n_timesteps", "eval_freq", "eval_episodes", "checkpoint_freq", "device")
# Of the comparison's configuration, what may be another the next time.
FREE = ("command", "untuned")


@dataclass
class CompareOptions:
    """
    Compare algorithms in environments, over seeds, at equal environment steps. The same command again continues what was
    interrupted, and does nothing twice.
    """

    algos: tuple[str, ...] = ("reinforce", "baseline-pg", "ppo", "sb3-ppo")
    """Algorithms: reinforce, baseline-pg, ppo; peers: sb3-ppo, sb3-a2c, trpo, ars. A variant is
    'NAME=ALGO{HYPERPARAMETER: VALUE, …}', such as 'fast=ppo{compile: true}'; first_seed in it gives it seeds of its own."""
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
    """Environment steps between checkpoints, from which a killed run resumes. The environments start afresh there, so it is to
    be long beside an episode. 0: none."""
    executor: Literal["local", "ray"] = "local"
    """Where the runs take place: local, in processes of this machine; ray, on a Ray cluster (docs/cluster.md)."""
    ray_address: str | None = None
    """The Ray cluster: HOST:PORT, or auto for the one that this machine belongs to. By default a Ray of its own, here."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores. A Ray cluster does as many
    as it has CPUs."""
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
    :param argv: the command line; by default the process's own
    :return: the exit status: 1 if a run failed, 2 for a mistake on the command line, 130 after Ctrl-C or SIGTERM
    """
    options = tyro.cli(CompareOptions, prog="compare.py", args=argv)
    try:
        cells, identity = plan(options)
        executor = make_executor(options)
        folder = options.output or Path("results") / "compare" / folder_name(identity["envs"], digest(identity))
        tags = (folder.resolve().name, *options.tags)
        runs, no_cells = applicable(
            [[dataclasses.replace(config, folder=folder / config.name, tags=tags) for config in configs] for configs in cells]
        )
    except ValueError as error:
        return mistake(error)
    interrupt_on_sigterm()
    again = command("scripts/compare.py", options, output=folder)
    print(f"the comparison is in {folder}")
    for line in [identity["untuned"], *(f"not applicable: {no_cell.reason}" for no_cell in no_cells)]:
        if line:
            print(line)
    try:
        if options.track:
            choose_wandb_mode()
        outcomes = run_grid(runs, executor, folder, identity, free=FREE)
        show(outcomes, no_cells, folder, options, tags)
    except ValueError as error:
        return mistake(error)
    except KeyboardInterrupt:
        print(f"interrupted; to continue: {again}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, say; the runs report their own
        print(f"compare.py: error: {error}; to continue: {again}", file=sys.stderr)
        return 1
    if any(isinstance(outcome, RunFailure) for outcome in outcomes):
        print(f"to try again what failed: {again}")
        return 1
    return 0


def mistake(error: ValueError) -> int:
    """
    :param error: is printed, in one line
    :return: the exit status
    """
    print(f"compare.py: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def plan(options: CompareOptions) -> tuple[list[list[RunConfig]], dict[str, Any]]:
    """
    :param options: the command line
    :return: for each contender in each environment its runs, whose folders are yet to be placed; and what the comparison is
    :raises ValueError: for a mistake on the command line
    """
    for name in ("seeds", "jobs", "eval_freq"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    contenders = read_contenders(options.algos)
    envs = list(dict.fromkeys(options.envs))
    if not envs:
        raise ValueError("nothing to compare: give at least one environment")
    names = ("eval_freq", "eval_episodes", "checkpoint_freq", "device", "track", "project")
    common = {name: getattr(options, name) for name in names}
    cells = [cell(contender, env, options.n_timesteps, options.seeds, common) for env in envs for contender in contenders]
    return cells, identity_of(options, contenders, envs, [config for configs in cells for config in configs])


def make_executor(options: CompareOptions) -> Executor:
    """
    :param options: the command line
    :return: where the runs take place
    :raises ValueError: if there is no such place
    """
    if options.executor == "ray":
        return RayExecutor(options.ray_address, options.jobs)
    if options.ray_address is not None:
        raise ValueError(f"--ray-address {options.ray_address} needs --executor ray")
    return LocalExecutor(options.jobs)


def applicable(cells: Sequence[Sequence[RunConfig]]) -> tuple[list[RunConfig], list[NoCell]]:
    """
    :param cells: for each contender in each environment its runs
    :return: the runs, seed by seed, so that what is done at any time is a smaller comparison; and what is not applicable
    :raises ValueError: if one of them cannot be, or none is applicable
    """
    possible, no_cells = [], []
    for configs in cells:
        try:
            check(configs[0])
            possible.append(configs)
        except NotApplicable as error:
            no_cells.append(NoCell(configs[0].contender, configs[0].env, " ".join(str(error).split())))
    if not possible:
        raise ValueError(f"nothing to compare: {no_cells[0].reason}")
    return [config for same_seed in zip(*possible, strict=True) for config in same_seed], no_cells


def identity_of(
    options: CompareOptions, contenders: Sequence[Entrant], envs: Sequence[str], runs: Sequence[RunConfig]
) -> dict[str, Any]:
    """
    :param options: the command line
    :param contenders: who is compared
    :param envs: where
    :param runs: the runs
    :return: what the comparison is, as plain data
    """
    shaping = {name: getattr(options, name) for name in SHAPING if name not in ("algos", "envs")}
    return {
        "contenders": [
            {"name": c.name, "label": c.label, "algo": c.algo, "overrides": c.overrides, "first_seed": c.first_seed}
            for c in contenders
        ],
        "envs": list(envs),
        **shaping,
        "settings": settings_of(runs),
        "command": command("scripts/compare.py", options, SHAPING),
        "untuned": untuned(runs),
    }


def digest(identity: dict[str, Any]) -> str:
    """
    :param identity: what a comparison is
    :return: eight characters that are another one's only by chance
    """
    content = {name: value for name, value in identity.items() if name not in FREE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def show(
    outcomes: Sequence[Outcome], no_cells: Sequence[NoCell], folder: Path, options: CompareOptions, tags: Sequence[str]
) -> None:
    """
    Write CSV files, figures and report, also for W&B, and say where they are.

    :param outcomes: what the runs came to
    :param no_cells: what is not applicable
    :param folder: the comparison's folder
    :param options: the command line
    :param tags: W&B's tags
    """
    from rich.console import Console

    from crashalgos.experiments.comparison import report
    from crashalgos.experiments.comparison.wandb_report import log_report

    place = None
    write_tables(folder, outcomes, no_cells, 0 if options.ray_address else options.jobs)  # a cluster's are not known
    print_failures(outcomes)
    if all(isinstance(outcome, RunFailure) for outcome in outcomes):
        print("no run has finished: there is nothing to report")
    else:
        results = report.load(folder)
        report.write_report(results)
        Console().print(report.terminal_table(results))
        for verdict in report.verdicts(results):
            print(verdict)
        place = log_report(results, options.project, tags) if options.track else None
        print(f"report  {folder / 'report.html'}, {folder / 'report.md'}\nfigures {folder / 'figures'}")
    print(f"CSV     {folder / 'evaluations.csv'}, {folder / 'runs.csv'}\nW&B     {wandb_place(outcomes)}")
    if place is not None:
        print(f"        the report: {place}")


if __name__ == "__main__":
    sys.exit(main())
