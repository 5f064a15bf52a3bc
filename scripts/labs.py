"""Repeats the course's labs with their budget, 100 updates of 20 trajectories: ``python scripts/labs.py``."""

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
from crashalgos.experiments.grid.grid import Outcome, RunFailure, available_cores, print_failures, run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.grid.wandb_runs import describe_wandb_runs
from crashalgos.experiments.run.checks import check
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.options import command
from crashalgos.experiments.run.registry import find_algorithm
from crashalgos.experiments.run.runner import RunResult
from crashalgos.experiments.run.settings import HYPERPARAMS, parse_settings, read_yaml
from crashalgos.tracking.wandb_mode import choose_wandb_mode

_TITLE = "The labs again: 20 trajectories an update, {} updates"
_COLUMNS = ("environment", "algorithm", "result", "each seed", "the lab")
_NOTE = (
    "A seed's figure is the mean return of the trajectories that its last 10 updates learned from, sampled from the "
    "stochastic policy (`rollout/trajectory_return_mean`, raw rewards). The result is their median for CartPole-v1, "
    "their mean for LunarLander-v3. The labs published one run each, of 100 updates: lab II on CartPole-v1, labs III and IV "
    "on LunarLander-v2, which is gone from today's gymnasium."
)
# The options on which the results depend.
_SHAPES_RESULTS = ("algos", "seeds", "n_updates", "device")


@dataclass(frozen=True)
class Lab:
    """
    One lab of the course.

    :param algo: the algorithm's name
    :param env: the environment's id
    :param seeds: how many seeds
    :param average: computes the result from the seeds' returns
    :param published: the result that the lab published
    """

    algo: str
    env: str
    seeds: int
    average: Callable[[Sequence[float]], np.floating]
    published: str


_LABS = (
    Lab("reinforce", "CartPole-v1", 5, np.median, "348"),
    Lab("baseline-pg", "LunarLander-v3", 3, np.mean, "-113"),
    Lab("ppo", "LunarLander-v3", 3, np.mean, "52 at best"),
)


@dataclass
class LabsOptions:
    """Repeats the course's labs, with the settings of labs.yml."""

    algos: tuple[str, ...] = tuple(lab.algo for lab in _LABS)
    """Which of the labs: reinforce, baseline-pg, ppo."""
    seeds: int | None = None
    """How many seeds each; by default 5 for CartPole-v1 and 3 for LunarLander-v3."""
    n_updates: int = 100
    """How many updates; the labs made 100."""
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
    Executes the labs' runs and writes their report.

    :param argv: the command line; by default this process's
    :return: the exit status: 1 if a run failed or the disk is full, 2 for a mistake on the command line, 130 after Ctrl-C
    """
    options = tyro.cli(LabsOptions, prog="labs.py", args=argv)
    again = command("scripts/labs.py", options)
    try:
        configs = _make_configs(options)
        for config in configs:
            if config.seed == 0:
                check(config)
        if options.track:
            choose_wandb_mode()
        outcomes = run_grid(
            configs, LocalExecutor(options.jobs), options.output, _grid_config(options, configs), unit="update"
        )
        _write_report(outcomes, options)
    except ValueError as error:
        print(f"labs.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; to continue: {again}", file=sys.stderr)
        return 130
    except OSError as error:  # for example a full disk; errors of runs are in the outcomes
        print(f"labs.py: error: {error}; to continue: {again}", file=sys.stderr)
        return 1
    return 1 if any(isinstance(outcome, RunFailure) for outcome in outcomes) else 0


def _make_configs(options: LabsOptions) -> list[RunConfig]:
    """Makes the runs of the chosen labs; raises ValueError for a mistake on the command line."""
    for name in ("seeds", "n_updates", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    known = [lab.algo for lab in _LABS]
    for algo in options.algos:
        if algo not in known:
            raise ValueError(f"no lab has the algorithm {algo!r}: {', '.join(known)} have one")
    entries = read_yaml(HYPERPARAMS / "labs.yml")
    configs = []
    for lab in _LABS:
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
                    # A checkpoint restarts the environments, which the labs did not. A killed run starts again.
                    checkpoint_freq=0,
                    device=options.device,
                    track=options.track,
                    project=options.project,
                )
                config.folder = options.output / config.name
                configs.append(config)
    return configs


def _grid_config(options: LabsOptions, configs: Sequence[RunConfig]) -> dict[str, Any]:
    """Makes the grid's configuration as plain data."""
    shaping = {name: getattr(options, name) for name in _SHAPES_RESULTS}
    return shaping | {"settings": {config.contender: {config.env: config.settings.as_entry()} for config in configs}}


def _final_return(result: RunResult) -> float:
    """Averages the mean trajectory return of a run's last 10 updates."""
    with (result.config.folder / "progress.csv").open(newline="", encoding="utf-8") as file:
        column = [row["rollout/trajectory_return_mean"] for row in csv.DictReader(file)]
    returns = [float(value) for value in column if value]
    if len(returns) != result.config.n_updates:
        raise RuntimeError(f"{result.config.name} made {len(returns)} updates, not {result.config.n_updates}")
    return float(np.mean(returns[-10:]))


def _result_rows(results: Sequence[RunResult]) -> tuple[list[tuple[str, ...]], list[tuple[Any, ...]]]:
    """Makes the rows of the table, one for each lab, and the rows of the CSV file, one for each run."""
    lab_rows: list[tuple[str, ...]] = []
    run_rows: list[tuple[Any, ...]] = []
    for lab in _LABS:
        of_lab = [result for result in results if (result.config.algo, result.config.env) == (lab.algo, lab.env)]
        returns = [_final_return(result) for result in of_lab]
        for result, value in zip(of_lab, returns, strict=True):
            run_rows.append((lab.algo, lab.env, result.config.seed, value, result.num_timesteps, result.seconds))
        if returns:
            each = " ".join(f"{value:.1f}" for value in returns)
            label = find_algorithm(lab.algo).label
            lab_rows.append((lab.env, label, f"{lab.average(returns):.1f} ({lab.average.__name__})", each, lab.published))
    return lab_rows, run_rows


def _write_report(outcomes: Sequence[Outcome], options: LabsOptions) -> None:
    """Prints the table, writes CSV file and report, and prints where they are."""
    from rich.console import Console

    folder = options.output
    lab_rows, run_rows = _result_rows([outcome for outcome in outcomes if isinstance(outcome, RunResult)])
    header = ("algorithm", "env", "seed", "last_10_updates_return_mean", "num_timesteps", "seconds")
    write_csv(folder / "labs.csv", header, run_rows)
    title = _TITLE.format(options.n_updates)
    failures = [f"- {outcome.config.name}: {outcome.last_line}" for outcome in outcomes if isinstance(outcome, RunFailure)]
    parts = [
        f"# {title}",
        markdown_table(_COLUMNS, lab_rows, _COLUMNS[:2]),
        _NOTE,
        *(["## Failed runs", *failures] if failures else []),
        "## To reproduce",
        fence(command("scripts/labs.py", options, _SHAPES_RESULTS), "sh"),
        "Settings: `crashalgos/experiments/hyperparams/labs.yml`, and `config.json` beside this file.",
    ]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")

    Console().print(terminal_table(title, _COLUMNS, lab_rows, _COLUMNS[:2]))
    print_failures(outcomes)
    print(f"CSV     {folder / 'labs.csv'}\nreport  {folder / 'report.md'}\nW&B     {describe_wandb_runs(outcomes)}")


if __name__ == "__main__":
    sys.exit(main())
