"""
The report of a comparison: ``report.md``, the same as one HTML page, its figures, and a table for the terminal.

``results`` are always a comparison's results.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from crashalgos.common.files import write_text
from crashalgos.experiments.comparison import markdown, report_tables
from crashalgos.experiments.comparison.figures import ReportFigure, write_figures
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.number_format import decimals, format_number
from crashalgos.experiments.comparison.page import html_page
from crashalgos.experiments.comparison.rendering import render
from crashalgos.experiments.comparison.report_tables import iqm_of, mean_score, steps_per_second
from crashalgos.experiments.comparison.results import Results

MARKDOWN_FILE, HTML_FILE = "report.md", "report.html"
_TITLE = "Comparison at equal environment steps"
_TERMINAL_COLUMNS = ("environment", "contender", "return", "IQM [95 % interval]", "seeds", "steps/s")


def write(folder: Path) -> list[Path]:
    """
    Writes the report from the CSV and JSON files in a comparison's folder. The same files give the same bytes.

    :param folder: the comparison's folder
    :return: the files written, ``report.md`` and ``report.html`` first
    :raises ValueError: as :func:`~crashalgos.experiments.comparison.loading.load` raises it
    """
    return write_report(load(folder))


def write_report(results: Results) -> list[Path]:
    """
    Writes figures, ``report.md`` and ``report.html`` into the comparison's folder.

    :return: the files written, ``report.md`` and ``report.html`` first
    """
    folder = results.folder
    figures = write_figures(results)
    text = report_markdown(results, figures)
    page = html_page(text, _TITLE, {figure.file: (folder / figure.file).read_bytes() for figure in figures})
    write_text(folder / MARKDOWN_FILE, text)
    write_text(folder / HTML_FILE, page)
    return [folder / MARKDOWN_FILE, folder / HTML_FILE, *(folder / figure.file for figure in figures)]


def report_markdown(results: Results, figures: Sequence[ReportFigure]) -> str:
    """
    Renders ``report.md``.

    :param figures: the figures in the comparison's folder
    :return: the text
    """
    return render("report.md.jinja", title=_TITLE, results=results, figures=figures, tables=report_tables)


def terminal_table(results: Results) -> Table:
    """Makes a short table for the terminal, a row for each contender in each environment."""
    rows = []
    for env in results.envs:
        digits = decimals(results.references[env].scale)
        for contender in results.contenders_in(env):
            runs = results.runs_of(contender, env)
            iqm = iqm_of(runs)
            ends = (format_number(end, digits) for end in (iqm.low, iqm.high))
            rows.append(
                (
                    env,
                    contender.label,
                    format_number(mean_score(runs), digits),
                    format_number(iqm.value, digits) + (f" [{', '.join(ends)}]" if math.isfinite(iqm.low) else ""),
                    str(len(runs)),
                    format_number(steps_per_second(runs), 0),
                )
            )
    return markdown.terminal_table(_TITLE, _TERMINAL_COLUMNS, rows, _TERMINAL_COLUMNS[:2])
