"""The course's labs again, at their own budget of 20 trajectories an update and 100 updates: ``python scripts/labs.py``."""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from crashalgos.common.files import write_csv, write_text
from crashalgos.experiments.comparison.markdown import fence, markdown_table, terminal_table
from crashalgos.experiments.grid.grid import LocalExecutor, Outcome, RunFailure, available_cores, print_failures, run_grid
from crashalgos.experiments.grid.wandb_runs import choose_wandb_mode, wandb_place
from crashalgos.experiments.run.options import command
from crashalgos.experiments.run.registry import find_algorithm
from crashalgos.experiments.run.runner import RunConfig, RunResult, check
from crashalgos.experiments.run.settings import HYPERPARAMS, parse_settings, read_yaml

TITLE = "The labs again: 20 trajectories an update, {} updates"
COLUMNS = ("environment", "algorithm", "result", "each seed", "the lab")
NOTE = (
    "A seed's figure is the mean return of the trajectories that its last 10 updates learned from, sampled from the "
    "stochastic policy (`rollout/trajectory_return_mean`, raw rewards). The result is their median for CartPole-v1, "
    "their mean for LunarLander-v3. The labs published one run each, of 100 updates: lab II on CartPole-v1, labs III and IV "
    "on LunarLander-v2, which is gone from today's gymnasium."
)
# The options that shape the results.
SHAPING = ("algos", "seeds", "n_updates", "device")


@dataclass(frozen=True)
class Lab:
    """
    :param algo: the algorithm's name
    :param env: the environment's id
    :param seeds: how many seeds
    :param average: what makes one figure of the seeds' figures
    :param published: what the lab reached
    """

    algo: str
    env: str
    seeds: int
    average: Callable[[Sequence[float]], float]
    published: str


def median(values: Sequence[float]) -> float:
    """:return: the median"""
    return float(np.median(values))


def mean(values: Sequence[float]) -> float:
    """:return: the mean"""
    return float(np.mean(values))


LABS = (
    Lab("reinforce", "CartPole-v1", 5, median, "348"),
    Lab("baseline-pg", "LunarLander-v3", 3, mean, "-113"),
    Lab("ppo", "LunarLander-v3", 3, mean, "52 at best"),
)


@dataclass
class LabsOptions:
    """The course's labs again, with the settings of labs.yml."""

    algos: tuple[str, ...] = tuple(lab.algo for lab in LABS)
    """Which of the labs: reinforce, baseline-pg, ppo."""
    seeds: int | None = None
    """How many seeds each; by default 5 for CartPole-v1 and 3 for LunarLander-v3."""
    n_updates: int = 100
    """How many updates: the labs make 100."""
    jobs: int = field(default_factory=available_cores)
    """How many runs at a time, each with one PyTorch thread. By default as many as there are cores."""
    device: str = "cpu"
    """PyTorch's device: small networks are fastest on the CPU."""
    output: Path = Path("results") / "labs"
    """The folder. The same command again continues what was interrupted there."""
    track: bool = True
    """Whether Weights & Biases tracks the runs: online with an API key, offline without."""
    project: str = "crashalgos"
    """W&B's project."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: 1 if a run failed, 2 for a mistake on the command line, 130 after Ctrl-C
    """
    options = tyro.cli(LabsOptions, prog="labs.py", args=argv)
    folder = options.output
    again = command("scripts/labs.py", options)
    try:
        configs = make_configs(options)
        for config in configs:
            if config.seed == 0:
                check(config)
        if options.track:
            choose_wandb_mode()
        outcomes = run_grid(configs, LocalExecutor(options.jobs), folder, identity_of(options, configs), unit="update")
        show(outcomes, folder, options)
    except ValueError as error:
        print(f"labs.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; to continue: {again}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, say; the runs report their own
        print(f"labs.py: error: {error}; to continue: {again}", file=sys.stderr)
        return 1
    return 1 if any(isinstance(outcome, RunFailure) for outcome in outcomes) else 0


def make_configs(options: LabsOptions) -> list[RunConfig]:
    """
    :param options: the command line
    :return: the runs
    :raises ValueError: for a mistake on the command line
    """
    for name in ("seeds", "n_updates", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    known = [lab.algo for lab in LABS]
    for algo in options.algos:
        if algo not in known:
            raise ValueError(f"no lab has the algorithm {algo!r}: {', '.join(known)} have one")
    entries = read_yaml(HYPERPARAMS / "labs.yml")
    configs = []
    for lab in LABS:
        if lab.algo in options.algos:
            settings = parse_settings(lab.algo, entries[lab.algo][lab.env], f"labs.yml: {lab.algo}: {lab.env}")
            for seed in range(options.seeds or lab.seeds):
                config = RunConfig(
                    algo=lab.algo,
                    env=lab.env,
                    settings=settings,
                    folder=Path(),
                    seed=seed,
                    n_updates=options.n_updates,
                    eval_freq=0,
                    # A lab takes minutes, and had no restarts: a killed run begins anew.
                    checkpoint_freq=0,
                    device=options.device,
                    track=options.track,
                    project=options.project,
                )
                config.folder = options.output / config.name
                configs.append(config)
    return configs


def identity_of(options: LabsOptions, configs: Sequence[RunConfig]) -> dict[str, Any]:
    """
    :param options: the command line
    :param configs: its runs
    :return: what the labs' results are of, as plain data
    """
    shaping = {name: getattr(options, name) for name in SHAPING}
    return shaping | {"settings": {config.contender: {config.env: config.settings.as_entry()} for config in configs}}


def lab_figure(result: RunResult) -> float:
    """
    :param result: a finished run
    :return: the mean of the last 10 updates' mean trajectory return
    """
    with (result.config.folder / "progress.csv").open(newline="", encoding="utf-8") as file:
        column = [row["rollout/trajectory_return_mean"] for row in csv.DictReader(file)]
    returns = [float(value) for value in column if value]
    if len(returns) != result.config.n_updates:
        raise RuntimeError(f"{result.config.name} made {len(returns)} updates, not {result.config.n_updates}")
    return float(np.mean(returns[-10:]))


def show(outcomes: Sequence[Outcome], folder: Path, options: LabsOptions) -> None:
    """
    Write table, CSV file and report, and say where they are.

    :param outcomes: what the runs came to
    :param folder: where everything goes
    :param options: the command line
    """
    from rich.console import Console

    results = [outcome for outcome in outcomes if isinstance(outcome, RunResult)]
    rows, seed_rows = [], []
    for lab in LABS:
        of_lab = [result for result in results if (result.config.algo, result.config.env) == (lab.algo, lab.env)]
        figures = [lab_figure(result) for result in of_lab]
        for result, figure in zip(of_lab, figures, strict=True):
            seed_rows.append((lab.algo, lab.env, result.config.seed, figure, result.num_timesteps, result.seconds))
        if figures:
            each = " ".join(f"{figure:.1f}" for figure in figures)
            label = find_algorithm(lab.algo).label
            rows.append((lab.env, label, f"{lab.average(figures):.1f} ({lab.average.__name__})", each, lab.published))
    header = ("algorithm", "env", "seed", "last_10_updates_return_mean", "num_timesteps", "seconds")
    write_csv(folder / "labs.csv", header, seed_rows)
    title = TITLE.format(options.n_updates)
    failures = [outcome for outcome in outcomes if isinstance(outcome, RunFailure)]
    parts = [
        f"# {title}",
        markdown_table(COLUMNS, rows, COLUMNS[:2]),
        NOTE,
        *(["## Failed runs", *(f"- {failure.config.name}: {failure.last_line}" for failure in failures)] if failures else []),
        "## To reproduce",
        fence(command("scripts/labs.py", options, SHAPING), "sh"),
        "Settings: `crashalgos/experiments/hyperparams/labs.yml`, and `config.json` beside this file.",
    ]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")

    Console().print(terminal_table(title, COLUMNS, rows, COLUMNS[:2]))
    print_failures(outcomes)
    print(f"CSV     {folder / 'labs.csv'}\nreport  {folder / 'report.md'}\nW&B     {wandb_place(outcomes)}")


if __name__ == "__main__":
    sys.exit(main())
