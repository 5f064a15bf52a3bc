"""What a benchmark has come to: tables for the terminal and in Markdown, and everything as JSON."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmark.contest import Result
from scripts.benchmark.workloads import CONTENDERS, Workload

JSON_FILE, MARKDOWN_FILE = "benchmark.json", "benchmark.md"

NOTE = (
    "Steps/s: environment steps of a training over its wall time, the median of the repeats; with REINFORCE the steps of the "
    "sample alone. Times: how many times the reference's steps/s, pair by pair within each repeat, median and range. First "
    "update: seconds from learn() on a new model to the end of its first update; where something is compiled to disk, with an "
    "empty cache / with a filled one. Rollout, update: seconds of one. MB: the most memory that the contender's process has "
    "held (10⁶ bytes). The floor is the env with random actions, plus the matrix products of the update at the rate "
    "that the largest hidden layer's reaches alone."
)


@dataclass
class Table:
    """
    :param title: what stands above it
    :param columns: its columns
    :param rows: its rows
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass
class Contest:
    """
    A workload and what the contenders came to.

    :param workload: the workload
    :param results: by contender
    """

    workload: Workload
    results: dict[str, Result]

    def row(self, name: str) -> dict[str, Any]:
        """
        :param name: a contender
        :return: its figures and every repeat, as plain values
        """
        result, reference = self.results[name], self.results[self.workload.reference]
        row: dict[str, Any] = {"label": CONTENDERS[name], "failure": result.failure}
        if result.trainings:
            row["steps_per_second"] = result.steps_per_second
            row["rollout_seconds"] = result.seconds_per_rollout("rollout_seconds")
            row["update_seconds"] = result.seconds_per_rollout("update_seconds")
            row["update_share"] = row["update_seconds"] / (row["rollout_seconds"] + row["update_seconds"])
            row["rollout_steps"] = result.trainings[0].steps / result.trainings[0].rollouts
        ratios = result.ratios(reference)
        if ratios:
            row["ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "each": ratios}
        if self.workload.algorithm == "REINFORCE" and result.trainings:
            episodes = sum(t.rollouts for t in result.trainings) * self.workload.hyperparameters["n_trajectories"]
            row["episode_steps"] = sum(t.steps for t in result.trainings) / episodes
        if result.warm_up is not None:
            row["first_update_seconds"] = result.warm_up.first_update_seconds
        row["cold_first_update_seconds"] = result.cold_first_update
        row["cold_memory_mb"] = result.cold_memory_mb
        row["usage"] = None if result.usage is None else dataclasses.asdict(result.usage)
        row["trainings"] = [dataclasses.asdict(training) for training in result.trainings]
        return row


@dataclass
class Report:
    """
    Everything that has been measured so far.

    :param settings: the command line
    :param contests: by workload
    :param growth: by what grows, by value
    :param imports: seconds, by module
    :param notes: what a reader has to know besides
    :param machine: what it was measured on
    """

    settings: dict[str, Any]
    contests: dict[str, Contest] = field(default_factory=dict)
    growth: dict[str, dict[int, Contest]] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: describe_machine())

    def tables(self) -> list[Table]:
        """:return: one for each workload, for the imports, and for each kind of growth"""
        tables = [contest_table(contest) for contest in self.contests.values()]
        if self.imports:
            tables.append(import_table(self.imports))
        return tables + [growth_table(what, by_value) for what, by_value in self.growth.items()]

    def failures(self) -> list[str]:
        """:return: who failed at what and why, in a line each"""
        grown = [contest for by_value in self.growth.values() for contest in by_value.values()]
        return [
            f"{contest.workload.title}: {CONTENDERS[name]}: {result.failure}"
            for contest in [*self.contests.values(), *grown]
            for name, result in contest.results.items()
            if result.failure is not None
        ]

    def remarks(self) -> list[str]:
        """:return: the notes, how long the episodes were, and what ours warned of"""
        remarks = list(self.notes)
        for contest in self.contests.values():
            rows = {name: contest.row(name) for name in contest.results}
            lengths = [f"{row['label']} {row['episode_steps']:.0f}" for row in rows.values() if "episode_steps" in row]
            if lengths:
                remarks.append(f"{contest.workload.title}: mean steps of an episode: {', '.join(lengths)}")
            for name in ("eager", "compiled"):
                warned = (rows.get(name, {}).get("usage") or {}).get("warnings", [])
                remarks += [f"{contest.workload.title}: {CONTENDERS[name]} warns: {text}" for text in dict.fromkeys(warned)]
        return remarks

    def write(self, folder: Path) -> None:
        """
        :param folder: gets both files
        """
        content = {
            "machine": self.machine,
            "settings": self.settings,
            "workloads": {name: contest_content(contest) for name, contest in self.contests.items()},
            "growth": {
                what: {str(value): contest_content(contest) for value, contest in by_value.items()}
                for what, by_value in self.growth.items()
            },
            "import_seconds": self.imports,
            "notes": self.remarks(),
            "failures": self.failures(),
        }
        (folder / JSON_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """:return: the tables, what they mean, and the machine"""
        from crashalgos.experiments.comparison.markdown import markdown_table

        lines = ["# Benchmark", "", machine_line(self.machine), ""]
        for table in self.tables():
            lines += [f"## {table.title}", "", markdown_table(table.columns, table.rows, table.columns[:1]), ""]
        lines += [NOTE, ""]
        for title, remarks in (("Notes", self.remarks()), ("Failures", self.failures())):
            if remarks:
                lines += [f"## {title}", "", *(f"- {remark}" for remark in remarks), ""]
        return "\n".join(lines)


def contest_table(contest: Contest) -> Table:
    """
    :param contest: a contest
    :return: a row for each contender
    """
    reference = CONTENDERS[contest.workload.reference]
    columns = ("contender", f"times {reference}", "steps/s", "first update s", "rollout s", "update s", "MB")
    return Table(contest.workload.title, columns, [contest_row(contest.row(name)) for name in contest.results])


def contest_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """
    :param row: a contender's figures
    :return: the same as text
    """
    if row["failure"] is not None:
        # All of it stands among the failures.
        return (row["label"], textwrap.shorten(f"failed: {row['failure']}", 60, placeholder=" …"), "", "", "", "", "")
    cold, warm = row["cold_first_update_seconds"], row["first_update_seconds"]
    return (
        row["label"],
        ratio_text(row["ratio"]["each"]) if "ratio" in row else "",
        f"{row['steps_per_second']:,.0f}",
        f"{warm:.2f}" if cold is None else f"{cold:.2f} / {warm:.2f}",
        f"{row['rollout_seconds']:.3f}",
        f"{row['update_seconds']:.3f}",
        "" if row["usage"] is None else f"{max(row['usage']['peak_mb'], row['cold_memory_mb']):.0f}",
    )


def ratio_text(ratios: Sequence[float]) -> str:
    """
    :param ratios: one a repeat
    :return: median and range
    """
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def import_table(seconds: Mapping[str, Sequence[float]]) -> Table:
    """
    :param seconds: by module, the reference first
    :return: a row for each module
    """
    reference, *_ = seconds
    rows: list[tuple[str, ...]] = [
        (
            f"import {module}",
            ratio_text([mine / other for mine, other in zip(taken, seconds[reference], strict=True)]),
            f"{statistics.median(taken):.3f}",
        )
        for module, taken in seconds.items()
    ]
    return Table("Import in a new Python", ("statement", f"times the seconds of import {reference}", "seconds"), rows)


def growth_table(what: str, contests: Mapping[int, Contest]) -> Table:
    """
    :param what: what grows
    :param contests: by its value
    :return: a row for each value
    """
    names = list(dict.fromkeys(name for contest in contests.values() for name in contest.results))
    columns = (what, *(f"{CONTENDERS[name]}: steps/s (times {CONTENDERS[names[0]]})" for name in names))
    rows = []
    for value, contest in contests.items():
        cells = [str(value)]
        for row in (contest.row(name) for name in names):
            cell = "failed" if row["failure"] else f"{row['steps_per_second']:,.0f}"
            cells.append(cell + (f" ({row['ratio']['median']:.2f})" if "ratio" in row else ""))
        rows.append(tuple(cells))
    return Table(f"Growth: {what}", columns, rows)


def contest_content(contest: Contest) -> dict[str, Any]:
    """
    :param contest: a contest
    :return: the same as plain values
    """
    return {
        "settings": dataclasses.asdict(contest.workload),
        "reference": contest.workload.reference,
        "contenders": {name: contest.row(name) for name in contest.results},
    }


def describe_machine() -> dict[str, Any]:
    """:return: processor, cores, versions, commit, and how busy the machine is before the first contest"""
    from crashalgos.common.metadata import git_commit, versions
    from crashalgos.experiments.grid.grid import available_cores

    found = versions()
    for package in ("sbx-rl", "jax", "envpool"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": found,
        "git_commit": git_commit(),
    }


def machine_line(machine: Mapping[str, Any]) -> str:
    """
    :param machine: as described
    :return: the same in a line
    """
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores; {versions}; commit {machine['git_commit'] or 'unknown'}."
