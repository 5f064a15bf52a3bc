"""How fast, beside SB3's PPO, SBX's PPO and a plain loop: ``python scripts/benchmark.py``."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.benchmark.tables import Report
    from scripts.benchmark.workloads import Workload

# Each contender's process imports this file: what else it needs is imported in its functions, not to count as theirs.


@dataclass
class BenchmarkOptions:
    """Steps per second, time to the first update and memory, at the same settings, the contenders taking turns."""

    workloads: tuple[str, ...] = ()
    """Which: cartpole-8, cartpole-1, pendulum-8, halfcheetah-4, cnn, reinforce-8, reinforce-20, import. By default all these.
    Besides, to compare vectorized envs: vec-envs, vec-envs-ppo, vec-envs-reinforce."""
    contenders: tuple[str, ...] = ()
    """Beside the reference: eager, compiled, sbx, floor; of vectorized envs: subproc, sync, async, envpool. By default all,
    SBX and EnvPool where they are installed."""
    repeats: int = 5
    """How many timed trainings each contender has, after one that warms up."""
    steps: int | None = None
    """How many environment steps a training has at least: it ends with a rollout. By default some seconds' worth."""
    growth: bool = False
    """Measure besides how speed changes with the number of envs, the width of the network, and the number of trajectories."""
    growth_repeats: int = 2
    """As repeats, for these."""
    threads: int | None = None
    """PyTorch's threads in each process. By default PyTorch's choice; JAX has its own."""
    device: str = "cpu"
    """PyTorch's device."""
    out: Path = Path("results") / "benchmark"
    """The folder of benchmark.json, benchmark.md and workers.log. They replace those of the last time."""


@dataclass
class Planned:
    """
    A contest to be held.

    :param name: the workload's name, or what grows
    :param value: to which value it grows; ``None`` where nothing does
    :param workload: at what
    :param contenders: who takes part
    :param repeats: how many timed trainings each has
    """

    name: str
    value: int | None
    workload: "Workload"
    contenders: tuple[str, ...]
    repeats: int


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: 1 if a contender failed, 2 for a mistake on the command line
    """
    import tyro

    from crashalgos.experiments.run.folder import make_folder
    from scripts.benchmark.tables import JSON_FILE, MARKDOWN_FILE, NOTE, Report

    options = tyro.cli(BenchmarkOptions, prog="benchmark.py", args=argv)
    report = Report(settings=dataclasses.asdict(options) | {"out": str(options.out)})
    try:
        plan = make_plan(options, report.notes)
        make_folder(options.out)
    except ValueError as error:
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


def make_plan(options: BenchmarkOptions, notes: list[str]) -> list[Planned]:
    """
    :param options: the command line
    :param notes: gets what is left out, and why
    :return: the contests
    :raises ValueError: for a mistake on the command line
    """
    from scripts.benchmark import workloads as known

    for name in ("repeats", "growth_repeats", "steps", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    names = options.workloads or (*known.WORKLOADS, known.IMPORT)
    workloads = known.WORKLOADS | known.MORE_WORKLOADS
    known.check_names("workload", names, (*workloads, known.IMPORT))
    wanted = options.contenders or tuple(known.CONTENDERS)
    known.check_names("contender", wanted, known.CONTENDERS)
    if "sbx" in wanted and not known.sbx_installed():
        notes.append("SBX's PPO is left out, because it is not installed: pip install sbx-rl")
        wanted = tuple(name for name in wanted if name != "sbx")
    if "envpool" in wanted and not known.envpool_installed():
        if any(name in known.MORE_WORKLOADS for name in names):
            notes.append("EnvPool is left out, because it is not installed: pip install envpool")
        wanted = tuple(name for name in wanted if name != "envpool")

    plan = []
    for name in dict.fromkeys(names):
        if name == known.IMPORT:
            continue
        workload = known.with_rollouts(workloads[name], options.steps)
        try:
            known.check_available(workload)
        except ValueError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        contenders = tuple(one for one in workload.contenders if one in wanted or one == workload.reference)
        plan.append(Planned(name, None, workload, contenders, options.repeats))
    for what, by_value in known.GROWTH.items() if options.growth else ():
        for value, workload in by_value.items():
            contenders = tuple(one for one in workload.contenders if one in known.GROWING)
            contenders = tuple(one for one in contenders if one in wanted or one == workload.reference)
            plan.append(Planned(what, value, known.with_rollouts(workload, options.steps), contenders, options.growth_repeats))
    return plan


def measure(plan: Sequence[Planned], options: BenchmarkOptions, report: "Report") -> None:
    """
    Hold the contests. After each its table is printed, and the files hold what there is so far.

    :param plan: the contests
    :param options: the command line
    :param report: gets what they come to
    """
    from rich.console import Console
    from tqdm import tqdm

    from crashalgos.experiments.comparison.markdown import terminal_table
    from scripts.benchmark import contest as contests
    from scripts.benchmark.tables import Contest, Table, contest_table, growth_table, import_table
    from scripts.benchmark.workloads import CONTENDERS, IMPORT

    imports = ("stable_baselines3", "crashalgos") if IMPORT in (options.workloads or (IMPORT,)) else ()
    total = sum(contests.n_turns(len(planned.contenders), planned.repeats) for planned in plan)
    total += len(imports) * (contests.IMPORTS + 1)
    log = options.out / "workers.log"
    log.unlink(missing_ok=True)
    # Where nobody watches it move, a line every ten seconds is enough.
    pace = 0.1 if sys.stderr.isatty() else 10.0

    with tqdm(total=total, unit="turn", mininterval=pace) as bar:

        @contextmanager
        def turn(name: str) -> Iterator[None]:
            bar.set_description(CONTENDERS.get(name, name), refresh=sys.stderr.isatty())
            yield
            bar.update()

        def show(table: Table) -> None:
            report.write(options.out)
            with bar.external_write_mode():
                Console().print(terminal_table(table.title, table.columns, table.rows, table.columns[:1]))

        for planned in plan:
            bar.set_postfix_str(planned.workload.title, refresh=False)
            results = contests.contest(
                planned.workload, planned.contenders, planned.repeats, log, options.threads, options.device, turn
            )
            contest = Contest(planned.workload, results)
            if planned.value is None:
                report.contests[planned.name] = contest
                show(contest_table(contest))
            else:
                by_value = report.growth.setdefault(planned.name, {})
                by_value[planned.value] = contest
                show(growth_table(planned.name, by_value))
        if imports:
            bar.set_postfix_str("import", refresh=False)
            report.imports = contests.time_imports(imports, turn)
            show(import_table(report.imports))


if __name__ == "__main__":
    sys.exit(main())
