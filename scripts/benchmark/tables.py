"""The results of a benchmark: tables for the terminal and in Markdown, and all figures as JSON."""

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

from crashalgos.common.metadata import git_commit, versions
from crashalgos.experiments.comparison.markdown import markdown_table
from crashalgos.experiments.grid.grid import available_cores
from scripts.benchmark.contest import Result
from scripts.benchmark.workloads import PARTICIPANTS, Workload

JSON_FILE, MARKDOWN_FILE = "benchmark.json", "benchmark.md"

#: What the columns mean, printed below the tables
NOTE = (
    "Steps/s: environment steps of a run over its wall time, the median of the repeats; with REINFORCE the steps of the "
    "sample alone. Times: how many times the reference's steps/s, pair by pair within each repeat, median and range. First "
    "update: seconds from learn() on a new model to the end of its first update; where something is compiled to disk, with an "
    "empty cache / with a filled one. Rollout, update: seconds of one. MB: the most memory that the contender's process has "
    "held (10⁶ bytes). The floor is the env with random actions, plus the matrix products of the update at the rate "
    "that the largest hidden layer's reaches alone."
)


@dataclass
class Table:
    """
    A table of texts.

    :param title: its title
    :param columns: its columns' headings
    :param rows: its rows, each with one text a column
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass
class Contest:
    """
    A workload and its participants' results.

    :param workload: the workload
    :param results: the results by participant
    """

    workload: Workload
    results: dict[str, Result]

    def figures(self, name: str) -> dict[str, Any]:
        """
        Collects a participant's figures, as the JSON file has them.

        :param name: the participant's name
        :return: medians, ratios, memory and every timed run, as plain values
        """
        result = self.results[name]
        figures = {"label": PARTICIPANTS[name], "failure": result.failure} | self._speed(result)
        if result.warm_up is not None:
            figures["first_update_seconds"] = result.warm_up.first_update_seconds
        figures["cold_first_update_seconds"] = result.cold_first_update
        figures["cold_memory_mb"] = result.cold_memory_mb
        figures["usage"] = None if result.usage is None else dataclasses.asdict(result.usage)
        figures["trainings"] = [dataclasses.asdict(run) for run in result.runs]
        return figures

    def _speed(self, result: Result) -> dict[str, Any]:
        """Collects the figures of timed runs; a participant that failed before has none."""
        if not result.runs:
            return {}
        rollout_seconds = result.seconds_per_rollout("rollout_seconds")
        update_seconds = result.seconds_per_rollout("update_seconds")
        speed: dict[str, Any] = {
            "steps_per_second": result.steps_per_second,
            "rollout_seconds": rollout_seconds,
            "update_seconds": update_seconds,
            "update_share": update_seconds / (rollout_seconds + update_seconds),
            "rollout_steps": result.runs[0].steps / result.runs[0].rollouts,
        }
        ratios = result.ratios(self.results[self.workload.reference])
        if ratios:
            speed["ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "each": ratios}
        if self.workload.algorithm == "REINFORCE":
            episodes = sum(run.rollouts for run in result.runs) * self.workload.hyperparameters["n_trajectories"]
            speed["episode_steps"] = sum(run.steps for run in result.runs) / episodes
        return speed

    def as_json(self) -> dict[str, Any]:
        """
        Collects the whole contest, as the JSON file has it.

        :return: the workload's settings and each participant's figures, as plain values
        """
        return {
            "settings": dataclasses.asdict(self.workload),
            "reference": self.workload.reference,
            "contenders": {name: self.figures(name) for name in self.results},
        }


@dataclass
class Report:
    """
    All measurements made so far.

    :param settings: the options of the command line
    :param contests: the contests by workload
    :param growth: the contests by what grows, and by its value
    :param imports: seconds of each module's imports
    :param notes: remarks for the reader, such as what was left out
    :param machine: the machine, its versions and the commit
    """

    settings: dict[str, Any]
    contests: dict[str, Contest] = field(default_factory=dict)
    growth: dict[str, dict[int, Contest]] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: _describe_machine())

    def failures(self) -> list[str]:
        """
        Lists the participants that failed.

        :return: a line for each, with workload, participant and reason
        """
        grown = [contest for by_value in self.growth.values() for contest in by_value.values()]
        return [
            f"{contest.workload.title}: {PARTICIPANTS[name]}: {result.failure}"
            for contest in [*self.contests.values(), *grown]
            for name, result in contest.results.items()
            if result.failure is not None
        ]

    def remarks(self) -> list[str]:
        """
        Lists what a reader has to know besides the tables.

        :return: a line for each note, each workload's mean episode length, and each warning of ours
        """
        remarks = list(self.notes)
        for contest in self.contests.values():
            by_name = {name: contest.figures(name) for name in contest.results}
            lengths = [f"{one['label']} {one['episode_steps']:.0f}" for one in by_name.values() if "episode_steps" in one]
            if lengths:
                remarks.append(f"{contest.workload.title}: mean steps of an episode: {', '.join(lengths)}")
            for name in ("eager", "compiled"):
                warned = (by_name.get(name, {}).get("usage") or {}).get("warnings", [])
                label = f"{contest.workload.title}: {PARTICIPANTS[name]}"
                remarks += [f"{label} warns: {text}" for text in dict.fromkeys(warned)]
        return remarks

    def write(self, folder: Path) -> None:
        """
        Writes ``benchmark.json`` and ``benchmark.md``.

        :param folder: the folder of both files
        """
        content = {
            "machine": self.machine,
            "settings": self.settings,
            "workloads": {name: contest.as_json() for name, contest in self.contests.items()},
            "growth": {
                what: {str(value): contest.as_json() for value, contest in by_value.items()}
                for what, by_value in self.growth.items()
            },
            "import_seconds": self.imports,
            "notes": self.remarks(),
            "failures": self.failures(),
        }
        (folder / JSON_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(self._markdown(), encoding="utf-8")

    def _markdown(self) -> str:
        lines = ["# Benchmark", "", _machine_line(self.machine), ""]
        for table in self._tables():
            lines += [f"## {table.title}", "", markdown_table(table.columns, table.rows, table.columns[:1]), ""]
        lines += [NOTE, ""]
        for title, remarks in (("Notes", self.remarks()), ("Failures", self.failures())):
            if remarks:
                lines += [f"## {title}", "", *(f"- {remark}" for remark in remarks), ""]
        return "\n".join(lines)

    def _tables(self) -> list[Table]:
        tables = [contest_table(contest) for contest in self.contests.values()]
        if self.imports:
            tables.append(import_table(self.imports))
        return tables + [growth_table(what, by_value) for what, by_value in self.growth.items()]


def contest_table(contest: Contest) -> Table:
    """
    Makes the table of a contest.

    :param contest: the contest
    :return: a table with one row for each participant
    """
    reference = PARTICIPANTS[contest.workload.reference]
    columns = ("contender", f"times {reference}", "steps/s", "first update s", "rollout s", "update s", "MB")
    return Table(contest.workload.title, columns, [contest_row(contest.figures(name)) for name in contest.results])


def contest_row(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Makes a participant's row.

    :param figures: the participant's figures
    :return: the row's texts
    """
    if figures["failure"] is not None:
        # The list of failures has the full reason.
        return (figures["label"], textwrap.shorten(f"failed: {figures['failure']}", 60, placeholder=" …"), "", "", "", "", "")
    cold, warm = figures["cold_first_update_seconds"], figures["first_update_seconds"]
    return (
        figures["label"],
        ratio_text(figures["ratio"]["each"]) if "ratio" in figures else "",
        f"{figures['steps_per_second']:,.0f}",
        f"{warm:.2f}" if cold is None else f"{cold:.2f} / {warm:.2f}",
        f"{figures['rollout_seconds']:.3f}",
        f"{figures['update_seconds']:.3f}",
        "" if figures["usage"] is None else f"{max(figures['usage']['peak_mb'], figures['cold_memory_mb']):.0f}",
    )


def ratio_text(ratios: Sequence[float]) -> str:
    """
    Formats the ratios of all repeats.

    :param ratios: one ratio for each repeat
    :return: their median and range
    """
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def import_table(seconds: Mapping[str, Sequence[float]]) -> Table:
    """
    Makes the table of the imports.

    :param seconds: the seconds of each module's imports; the first module is the reference
    :return: a table with one row for each module
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
    Makes the table of one kind of growth.

    :param what: what grows
    :param contests: the contests by its value
    :return: a table with one row for each value and one column for each participant
    """
    names = list(dict.fromkeys(name for contest in contests.values() for name in contest.results))
    columns = (what, *(f"{PARTICIPANTS[name]}: steps/s (times {PARTICIPANTS[names[0]]})" for name in names))
    rows = []
    for value, contest in contests.items():
        texts = [str(value)]
        for figures in map(contest.figures, names):
            speed = "failed" if figures["failure"] else f"{figures['steps_per_second']:,.0f}"
            texts.append(speed + (f" ({figures['ratio']['median']:.2f})" if "ratio" in figures else ""))
        rows.append(tuple(texts))
    return Table(f"Growth: {what}", columns, rows)


def _describe_machine() -> dict[str, Any]:
    """Finds out the processor, its cores, all versions, the commit, and how busy the machine is now."""
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


def _machine_line(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores; {packages}; commit {machine['git_commit'] or 'unknown'}."
