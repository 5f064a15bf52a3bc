"""
The look of all figures: colours, lines, panels, legends. The same whatever the reader's matplotlib settings are.

``panel`` is always the panel that is drawn into.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from crashalgos.common.files import replacing
from crashalgos.experiments.comparison.contenders import Contender

# Okabe and Ito's colours, which colour-blind readers can tell apart; without yellow, which is hard to see on white. Lines and
# markers differ as well, for print in grey and for curves that coincide: later curves are narrower and dashed, so the one
# below shows. The lengths of the three lists have no common divisor, so many contenders all look different.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.2)),
    (0, (7, 1.5, 1.2, 1.5)),
    (0, (10, 3)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0, (2.5, 2.5)),
    (0, (7, 1.2, 2.5, 1.2)),
    (0, (14, 2, 2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")

#: Width and height of a panel, in inches
PANEL = (5.4, 3.7)
_DPI = 150
_BAND_ALPHA = 0.15
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 4.0,
    # A label with dollar signs is no formula.
    "text.parse_math": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Applies the style to figures that the block makes, in place of the reader's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """
    Saves a figure.

    :param figure: the figure
    :param path: its PNG file
    """
    with replacing(path) as temporary:
        # By default matplotlib writes its version.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": "crashalgos"})


def grid_of_panels(n: int) -> tuple[Figure, list[Axes]]:
    """
    Makes a figure with at most two panels in a row.

    :param n: number of panels
    :return: the figure and its panels
    """
    columns = min(n, 2)
    rows = -(-n // columns)
    width = 7.5 if columns == 1 else columns * PANEL[0]
    figure = Figure(figsize=(width, 0.8 + rows * PANEL[1]), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[n:]:
        panel.set_axis_off()
    return figure, panels[:n]


def line_style(contender: Contender) -> dict[str, Any]:
    """
    Returns a contender's style, the same in every figure.

    :param contender: the contender
    :return: matplotlib's arguments of its line
    """
    i = contender.index
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": _LINES[i % len(_LINES)],
        "linewidth": max(1.5, 2.9 - 0.2 * i),
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 5.5,
    }


def draw_runs(panel: Axes, contender: Contender, curves: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """
    Draws a thin line for each run.

    :param contender: the runs' contender
    :param curves: x and y of each run, each of shape (n,)
    """
    plain = line_style(contender) | {"marker": "", "linewidth": 0.6}
    for x, y in curves:
        panel.plot(x, y, alpha=0.35, zorder=1.5, **plain)


def draw_curve(
    panel: Axes, contender: Contender, x: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """
    Draws a thick line and its band. The markers of several contenders are at different places.

    :param contender: the curve's contender
    :param x: shape (n,)
    :param values: shape (n,)
    :param low: the band's lower end, shape (n,); NaN where there is no interval
    :param high: the band's upper end, shape (n,)
    """
    stride = max(1, len(x) // 7)
    style = line_style(contender)
    panel.fill_between(x, low, high, color=style["color"], alpha=_BAND_ALPHA, linewidth=0, zorder=1.2)
    panel.plot(x, values, markevery=(contender.index * 2 % stride, stride), zorder=2.5, **style)


def shade_groups(panel: Axes, names: Sequence[str]) -> None:
    """
    Gives every other group of rows a grey ground.

    :param panel: a panel whose rows are at 0, 1, …
    :param names: name of each row's group
    """
    groups = list(dict.fromkeys(names))
    for row, name in enumerate(names):
        if groups.index(name) % 2:
            panel.axhspan(row - 0.5, row + 0.5, color="0.95", linewidth=0, zorder=-1)


def label_steps(panel: Axes) -> None:
    """Labels the x axis with environment steps."""
    panel.set_xlabel("environment steps")
    panel.xaxis.set_major_formatter(lambda step, _: _short_number(step))


def _short_number(number: float) -> str:
    """Writes a number with k for thousands and M for millions."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(number) >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def band_entry() -> tuple[Patch, str]:
    """Makes the legend's entry for a band."""
    return Patch(color="0.3", alpha=_BAND_ALPHA, linewidth=0), "95 % interval"


def add_legend(figure: Figure, contenders: Sequence[Contender], others: Sequence[tuple[Line2D | Patch, str]]) -> None:
    """
    Adds a legend below the panels.

    :param figure: the figure
    :param contenders: the contenders in it
    :param others: handle and label of other entries
    """
    handles: list[Line2D | Patch] = [Line2D([], [], **line_style(contender)) for contender in contenders]
    labels = [contender.label for contender in contenders]
    for handle, label in others:
        handles.append(handle)
        labels.append(label)
    # About 14 characters an inch, and the handles' own width.
    columns = max(1, int(figure.get_figwidth() / (0.75 + max(map(len, labels)) / 14)))
    legend = figure.legend(handles, [" "] * len(labels), loc="outside lower center", ncols=min(columns, len(labels), 4))
    # Texts are set afterwards, because a legend leaves out labels that begin with an underscore.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
