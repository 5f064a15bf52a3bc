"""The report's figures: which there are, and what they show."""

import re
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from crashalgos.experiments.comparison import figures
from crashalgos.experiments.comparison.figure_style import house_style
from crashalgos.experiments.comparison.loading import load
from tests.helpers.comparison_folders import four_seeds


def test_there_is_a_figure_for_each_link(two_envs: Path) -> None:
    linked = re.findall(r"\]\((figures/.*?\.png)\)", (two_envs / "report.md").read_text(encoding="utf-8"))
    assert linked == [
        f"figures/{name}.png"
        for name in (
            "learning_curves",
            "sample_efficiency",
            "performance_profiles",
            "probability_of_improvement",
            "wall_clock",
        )
    ]
    for name in linked:
        pixels = imread(two_envs / name)
        assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.01


def test_a_figure_of_an_earlier_report_is_removed(one_env: Path) -> None:
    assert {path.stem for path in (one_env / "figures").iterdir()} == {
        "learning_curves",
        "performance_profiles",
        "probability_of_improvement",
        "wall_clock",
        "time_to_threshold",
    }


def test_figures_say_nothing_about_the_program(two_envs: Path) -> None:
    chunks = (two_envs / "figures" / "learning_curves.png").read_bytes()
    assert b"Softwarecrashalgos" in chunks.replace(b"\0", b"") and b"matplotlib" not in chunks.lower()


def test_labels_of_a_legend_are_shown_whatever_signs_they_have(two_envs: Path) -> None:
    with house_style():
        figure = figures.learning_curves(load(two_envs))
        (legend,) = figure.legends
        texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["A & B <b>", "_b_ $x^2$ | *c*", "c", "one run", "95 % interval"]


def test_learning_curves_show_every_run_and_the_iqm(tmp_path: Path) -> None:
    figure = figures.learning_curves(load(four_seeds(tmp_path)))
    (panel,) = figure.axes
    thin = [line for line in panel.lines if line.get_linewidth() < 1]
    thick = [line for line in panel.lines if line.get_linewidth() > 1]
    assert len(thin) == 8 and [np.asarray(line.get_ydata())[-1] for line in thick] == [250.0, 500.0]
