"""Measures the speed of crashalgos, SB3's PPO, SBX's PPO and a plain loop: ``python -m scripts.benchmark``."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from tqdm import tqdm

from crashalgos.experiments.comparison.markdown import terminal_table
from crashalgos.experiments.run.folder import make_folder
from scripts.benchmark import contest, workloads
from scripts.benchmark.tables import (
    JSON_FILE,
    MARKDOWN_FILE,
    NOTE,
    Contest,
    Report,
    Table,
    contest_table,
    growth_table,
    import_table,
)
from scripts.benchmark.workloads import IMPORT, PARTICIPANTS, Workload


@dataclass
class BenchmarkOptions:
    """Measures steps per second, time to the first update and memory, with the same settings for all contenders."""

    workloads: tuple[str, ...] = ()
    """Any of cartpole-8, cartpole-1, pendulum-8, halfcheetah-4, cnn, reinforce-8, reinforce-20, import. By default all these.
    Besides, to compare vectorized envs: vec-envs, vec-envs-ppo, vec-envs-reinforce."""
    contenders: tuple[str, ...] = ()
    """Beside the reference: eager, compiled, sbx, floor; of vectorized envs: subproc, sync, async, envpool. By default all,
    SBX and EnvPool where they are installed."""
    repeats: int = 5
    """How many timed runs each contender has, after one that warms up."""
    steps: int | None = None
    """How many environment steps a run has at least; it ends with a rollout. By default it lasts some seconds."""
    growth: bool = False
    """Also measure how speed changes with the number of envs, the width of the network, and the number of trajectories."""
    growth_repeats: int = 2
    """How many timed runs each contender has with --growth, at each value."""
    threads: int | None = None
    """PyTorch's threads in each process. By default PyTorch's choice; JAX has its own."""
    device: str = "cpu"
    """PyTorch's device."""
    out: Path = Path("results") / "benchmark"
    """The folder of benchmark.json, benchmark.md and workers.log. They replace those of the last time."""


@dataclass
class PlannedContest:
    """
    A contest that will be run.

    :param name: the workload's name, or what grows
    :param value: the value of what grows; ``None`` if nothing does
    :param workload: the workload
    :param participants: the participants' names
    :param repeats: how many timed runs each participant has
    """

    name: str
    value: int | None
    workload: Workload
    participants: tuple[str, ...]
    repeats: int


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs the command.

    :param argv: the command line; by default the process's own
    :return: the exit status: 1 if a participant failed, 2 for a mistake on the command line, 130 after Ctrl-C
    """
    options = tyro.cli(BenchmarkOptions, prog="python -m scripts.benchmark", args=argv)
    report = Report(settings=dataclasses.asdict(options) | {"out": str(options.out)})
    try:
        plan = make_plan(options, report.notes)
        make_folder(options.out)
    except ValueError as error:
        # The prefix is kept for programs that read it
        print(f"benchmark.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    report.write(options.out)
    try:
        measure(plan, options, report)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured so far is in {options.out}", file=sys.stderr)
        return 130
    print(NOTE)
    for line in [*report.remarks(), *report.failures()]:
        print(f"- {line}")
    print(f"tables  {options.out / MARKDOWN_FILE}\nJSON    {options.out / JSON_FILE}")
    return 1 if report.failures() else 0


def make_plan(options: BenchmarkOptions, notes: list[str]) -> list[PlannedContest]:
    """
    Plans the contests.

    :param options: the options of the command line
    :param notes: gets a line for each workload or participant that is left out
    :return: the contests in the order in which they will be run
    :raises ValueError: for a mistake on the command line
    """
    _check_counts(options)
    names = options.workloads or (*workloads.WORKLOADS, IMPORT)
    known = workloads.WORKLOADS | workloads.VEC_ENV_WORKLOADS
    workloads.check_names("workload", names, (*known, IMPORT))
    wanted = _installed_participants(options, names, notes)

    def planned(name: str, value: int | None, workload: Workload, repeats: int) -> PlannedContest:
        participants = tuple(one for one in workload.participants if one in wanted or one == workload.reference)
        if value is not None:
            participants = tuple(one for one in participants if one in workloads.GROWTH_PARTICIPANTS)
        return PlannedContest(name, value, workloads.with_least_steps(workload, options.steps), participants, repeats)

    plan = []
    for name in dict.fromkeys(names):
        if name == IMPORT:
            continue
        try:
            workloads.check_available(known[name])
        except ValueError as error:
            notes.append(f"{name} is left out: {error}")
        else:
            plan.append(planned(name, None, known[name], options.repeats))
    for what, by_value in workloads.GROWTH.items() if options.growth else ():
        plan += [planned(what, value, workload, options.growth_repeats) for value, workload in by_value.items()]
    return plan


def _check_counts(options: BenchmarkOptions) -> None:
    for name in ("repeats", "growth_repeats", "steps", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def _installed_participants(options: BenchmarkOptions, workload_names: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """Gives the participants that the command line asks for, without those that are not installed."""
    wanted = options.contenders or tuple(PARTICIPANTS)
    workloads.check_names("contender", wanted, PARTICIPANTS)
    if "sbx" in wanted and not workloads.is_installed("sbx"):
        notes.append("SBX's PPO is left out, because it is not installed: pip install sbx-rl")
        wanted = tuple(name for name in wanted if name != "sbx")
    if "envpool" in wanted and not workloads.is_installed("envpool"):
        if any(name in workloads.VEC_ENV_WORKLOADS for name in workload_names):
            notes.append("EnvPool is left out, because it is not installed: pip install envpool")
        wanted = tuple(name for name in wanted if name != "envpool")
    return wanted


def measure(plan: Sequence[PlannedContest], options: BenchmarkOptions, report: Report) -> None:
    """
    Runs the contests, and times the imports. After each, its table is printed and the report is written.

    :param plan: the contests
    :param options: the options of the command line
    :param report: gets the results
    """
    imports = ("stable_baselines3", "crashalgos") if IMPORT in (options.workloads or (IMPORT,)) else ()
    total = sum(contest.n_turns(len(planned.participants), planned.repeats) for planned in plan)
    total += len(imports) * (contest.N_IMPORTS + 1)
    log = options.out / "workers.log"
    log.unlink(missing_ok=True)
    # In a file, a line every ten seconds is enough.
    interval = 0.1 if sys.stderr.isatty() else 10.0

    with tqdm(total=total, unit="turn", mininterval=interval) as bar:

        @contextmanager
        def turn(name: str) -> Iterator[None]:
            bar.set_description(PARTICIPANTS.get(name, name), refresh=sys.stderr.isatty())
            yield
            bar.update()

        def show(table: Table) -> None:
            report.write(options.out)
            with bar.external_write_mode():
                Console().print(terminal_table(table.title, table.columns, table.rows, table.columns[:1]))

        for planned in plan:
            bar.set_postfix_str(planned.workload.title, refresh=False)
            results = contest.run_contest(
                planned.workload, planned.participants, planned.repeats, log, options.threads, options.device, turn
            )
            measured = Contest(planned.workload, results)
            if planned.value is None:
                report.contests[planned.name] = measured
                show(contest_table(measured))
            else:
                by_value = report.growth.setdefault(planned.name, {})
                by_value[planned.value] = measured
                show(growth_table(planned.name, by_value))
        if imports:
            bar.set_postfix_str("import", refresh=False)
            report.imports = contest.time_imports(imports, turn)
            show(import_table(report.imports))


if __name__ == "__main__":
    sys.exit(main())
