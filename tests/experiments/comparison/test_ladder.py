"""The gains of a rung, in small comparisons whose numbers can be computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.ladder import (
    MEASURES,
    Rung,
    compare_rung,
    compute_gains,
    gains_figure,
    normalized_gains,
    rungs_of,
    write_ladder,
)
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.results import Results
from tests.helpers.comparison_folders import write_folder

ENV = "CartPole-v1"  # the reference range is 500 − 22.2


def two_rungs(folder: Path, env: str = ENV, n_seeds: int = 3) -> Results:
    """
    Makes two contenders with returns at steps 0, 100, 200.

    Low takes 2 seconds for its 200 steps, but seed 0 takes 1 and seed 2 takes 4. High takes 4 seconds, but seed 2 takes 8.
    """
    low = {("low", env, seed): (0.0, 10.0, 20.0 + seed) for seed in range(n_seeds)}
    high = {("high", env, seed): (0.0, 40.0, 100.0) for seed in range(n_seeds)}
    seconds = {key: 2.0 for key in low} | {key: 4.0 for key in high}
    seconds |= {("low", env, 0): 1.0, ("low", env, 2): 4.0, ("high", env, 2): 8.0}
    return load(write_folder(folder, low | high, seconds=seconds))


def only_rung(results: Results) -> Rung:
    [rung] = rungs_of([results], [["low", "high"]])
    return rung


def test_gains(tmp_path: Path) -> None:
    rung = only_rung(two_rungs(tmp_path / "out"))
    assert (rung.env, rung.lower.name, rung.upper.name, rung.equal_time) == (ENV, "low", "high", 2.0)
    found = {name: compare_rung(rung, measure) for name, measure in MEASURES.items()}
    # Final: 100 − the mean of 20, 21, 22. Area, by trapezoids: (0/2 + 40 + 100/2)/2 = 45 against (10 + 21/2)/2 = 10.25.
    # At equal time, 1, 2 and 4 seconds: low is done (20, 21, 22); high's seed 0 is in the middle of its first 100 steps (20),
    # seeds 1 and 2 have made 100 (40). (20 + 40 + 40 − 20 − 21 − 22)/3.
    assert {name: pair.difference for name, pair in found.items()} == pytest.approx(
        {"final": 79.0, "area": 34.75, "at equal time": 37 / 3}
    )
    assert all(pair.paired and pair.n_a == 3 for pair in found.values())
    np.testing.assert_allclose(normalized_gains(rung, MEASURES["final"]), np.array([80.0, 79.0, 78.0]) / 477.8)


def test_rungs_are_compared_on_the_seeds_that_both_ran(tmp_path: Path) -> None:
    returns = {("low", ENV, seed): (0.0, 0.0, float(seed)) for seed in range(5)}
    returns |= {("high", ENV, seed): (0.0, 0.0, 10.0 + seed) for seed in (4, 5)}
    rung = only_rung(load(write_folder(tmp_path / "out", returns)))
    pair = compare_rung(rung, MEASURES["final"])
    assert (pair.difference, pair.n_a, pair.paired) == (10.0, 1, True)
    returns = {("low", ENV, 0): (0.0, 0.0, 1.0), ("high", ENV, 1): (0.0, 0.0, 1.0)}
    assert rungs_of([load(write_folder(tmp_path / "none", returns))], [["low", "high"]]) == []


def test_a_noisy_clock_makes_no_gain_at_equal_time(tmp_path: Path) -> None:
    """Two equal contenders with random times: p is below 0.1 in a tenth of the cases."""
    rng = np.random.default_rng(0)
    p = []
    for i in range(60):
        returns = {(name, ENV, seed): (0.0, 50.0, 100.0) for name in ("low", "high") for seed in range(8)}
        seconds = {key: float(rng.uniform(1.0, 2.0)) for key in returns}
        rung = only_rung(load(write_folder(tmp_path / str(i), returns, seconds=seconds)))
        p.append(statistics.mean_difference([normalized_gains(rung, MEASURES["at equal time"])], n_resamples=10)[1])
    # Binomial(60, 0.1): more than 14 has a probability below 0.1 %.
    assert sum(value < 0.1 for value in p) <= 14


def test_a_noisy_clock_does_not_cut_the_faster_one_short(tmp_path: Path) -> None:
    """Both learn equally fast in steps, but low takes half the time, ± a third: at equal time high is half as far."""
    rng = np.random.default_rng(0)
    returns = {(name, ENV, seed): (0.0, 50.0, 100.0) for name in ("low", "high") for seed in range(400)}
    seconds = {key: float(rng.uniform(0.67, 1.33)) * (1.0 if key[0] == "low" else 2.0) for key in returns}
    rung = only_rung(load(write_folder(tmp_path / "out", returns, seconds=seconds)))
    # Low's return is 100 for every seed whose low run is the faster one; a single time for all would give a gain of −41
    assert normalized_gains(rung, MEASURES["at equal time"]).mean() * rung.scale == pytest.approx(-48.0, abs=2.5)


def test_the_page_and_its_figures(tmp_path: Path) -> None:
    first = two_rungs(tmp_path / "one", n_seeds=8)
    second = two_rungs(tmp_path / "two", "Acrobot-v1", n_seeds=5)  # reference range: 399.1
    files = write_ladder([first, second], [["low", "high"]], tmp_path)
    assert [file.name for file in files] == ["ladder.md", "gains.png", "ladder.png", "peers.png"] and all(
        file.exists() for file in files
    )
    page = files[0].read_text()
    assert f"## {ENV}" in page and "## Acrobot-v1" in page
    # Over both environments, final: 80 less the mean seed, 3.5 and 2, in units of 477.8 and 399.1. Eight and thirteen signs
    # that agree are sure, five are not.
    assert f"| low → high | 2 | +{np.mean([76.5 / 477.8, 78 / 399.1]):.3f} (" in page
    lines = [line for line in page.splitlines() if line.startswith("| low → high | +")]
    assert [line.count("*") for line in lines] == [3, 0] and lines[0].startswith("| low → high | +76.5 (")
    # The last evaluation: mean, IQM, interval, stochastic mean, each seed; the seconds of the median run
    each = " ".join(8 * ["100.0"])
    assert f"| HIGH | 8 | 0–7 | 100.0 | 100.0 | 100.0 to 100.0 | 90.0 | {each} | 4 |" in page
    assert write_ladder([first, second], [["low", "high"]], tmp_path)[0].read_text() == page


def test_a_page_without_a_rung(tmp_path: Path) -> None:
    returns = {("low", ENV, 0): (0.0, 0.0, 1.0), ("high", ENV, 1): (0.0, 0.0, 1.0)}
    files = write_ladder([load(write_folder(tmp_path / "none", returns))], [["low", "high"]], tmp_path)
    assert [file.name for file in files] == ["ladder.md", "ladder.png", "peers.png"]
    assert "No seed has been run by both" in files[0].read_text() and "gains.png" not in files[0].read_text()


def test_the_figure_shows_the_gains_in_units_of_the_reference_range(tmp_path: Path) -> None:
    comparisons = [two_rungs(tmp_path / "one", n_seeds=3), two_rungs(tmp_path / "two", "Acrobot-v1", n_seeds=5)]
    gains = compute_gains(rungs_of(comparisons, [["low", "high"], ["high", "low"]]))
    figure = gains_figure(gains)
    # At equal time seed 0 gains 20 − 20, the others 40 − (20 + seed)
    one, two = np.array([0.0, 19.0, 18.0]) / 477.8, np.array([0.0, 19.0, 18.0, 17.0, 16.0]) / 399.1
    at_the_end, at_equal_time = (79.0 / 477.8, 78.0 / 399.1), (one.mean(), two.mean())
    styles = [handle.get_marker() for handle in figure.legends[0].get_lines()]
    for panel, measure, (first, second) in zip(
        figure.axes, ("final", "at equal time"), (at_the_end, at_equal_time), strict=True
    ):
        lines = panel.lines[:-1]  # the last one is at 0
        found = {}
        for bar, mark in zip(lines[::2], lines[1::2], strict=True):
            assert bar.get_ydata()[0] == bar.get_ydata()[1] == mark.get_ydata()[0]
            assert bar.get_color() == mark.get_color()
            found[round(mark.get_ydata()[0]), mark.get_marker()] = [
                bar.get_xdata()[0],
                mark.get_xdata()[0],
                bar.get_xdata()[1],
            ]
        for row, sign in enumerate((1.0, -1.0)):
            expected = [sign * first, sign * second, sign * (first + second) / 2]
            assert [found[row, style][1] for style in styles] == pytest.approx(expected)
        for rung, pairs in gains.single.items():
            row, style = int(rung.lower.name == "high"), styles[int(rung.env != ENV)]
            pair, scale = pairs[measure], 477.8 if rung.env == ENV else 399.1
            assert found[row, style] == pytest.approx([value / scale for value in (pair.low, pair.difference, pair.high)])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["low → high", "high → low"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [ENV, "Acrobot-v1", "mean over environments"]
