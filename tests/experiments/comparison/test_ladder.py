"""What a rung buys, on small comparisons whose numbers are worked out on paper."""

from pathlib import Path

import numpy as np
import pytest

from crashalgos.experiments.comparison.ladder import MEASURES, equal_time, gains, speed, write_ladder
from crashalgos.experiments.comparison.results import Results, load
from tests.experiments.comparison.folders import write_folder

ENV = "CartPole-v1"  # the reference range is 500 − 22.2


def two_rungs(folder: Path, env: str = ENV) -> Results:
    """
    Returns at steps 0, 100, 200. Low takes 1, 2 and 6 seconds for its 200 steps: at the median, 100 steps a second. High takes
    4 seconds: 50 steps a second. Equal time is 2 seconds, when low has made 200 steps and high 100.
    """
    low = {("low", env, seed): (0.0, 10.0, 20.0 + seed) for seed in range(3)}
    high = {("high", env, seed): (0.0, 40.0, 100.0) for seed in range(3)}
    seconds = {("low", env, seed): took for seed, took in enumerate((1.0, 2.0, 6.0))}
    seconds |= {("high", env, seed): 4.0 for seed in range(3)}
    return load(write_folder(folder, low | high, seconds=seconds))


def test_speed_and_equal_time(tmp_path: Path) -> None:
    results = two_rungs(tmp_path / "out")
    low, high = results.contenders
    assert (speed(results, low, ENV), speed(results, high, ENV)) == (100.0, 50.0)
    assert equal_time(results, ENV) == 2.0


def test_gains(tmp_path: Path) -> None:
    [gain] = gains([two_rungs(tmp_path / "out")], [("low", "high")])
    assert (gain.env, gain.lower.name, gain.upper.name) == (ENV, "low", "high")
    found = {name: pair.difference for name, pair in gain.pairs.items()}
    # Final: 100 − the mean of 20, 21, 22. Mean, by trapezoids: (0/2 + 40 + 100/2)/2 = 45 against (10 + 10.5)/2 = 10.25 for
    # seed 1, the middle one. At equal time: high's return at 100 steps, 40, against low's at its end, 21.
    assert found == pytest.approx({"final": 79.0, "mean": 34.75, "at equal time": 19.0})
    assert set(MEASURES) == set(found) and all(pair.paired and pair.n_a == 3 for pair in gain.pairs.values())


def test_between_evaluations_the_return_is_interpolated(tmp_path: Path) -> None:
    # The slow one, with a third of the speed, has made 66.7 steps at equal time: two thirds of the way from 0 to 30.
    returns = {("slow", ENV, 0): (0.0, 30.0, 60.0), ("fast", ENV, 0): (0.0, 1.0, 2.0)}
    results = load(write_folder(tmp_path / "out", returns, seconds={("slow", ENV, 0): 6.0, ("fast", ENV, 0): 2.0}))
    slow = results.cell(results.contenders[0], ENV)[0]
    assert MEASURES["at equal time"](results, ENV, slow) == pytest.approx(20.0)


def test_the_page_and_its_figures(tmp_path: Path) -> None:
    first = two_rungs(tmp_path / "one")
    second = two_rungs(tmp_path / "two", "Acrobot-v1")  # reference range: 399.1
    files = write_ladder([first, second], [["low", "high"]], tmp_path)
    assert [file.name for file in files] == ["ladder.md", "ladder.png", "peers.png"] and all(file.exists() for file in files)
    page = files[0].read_text()
    assert f"## {ENV}" in page and "## Acrobot-v1" in page and "equal time: 2 s" in page
    # Over both environments, final: the mean of 79/477.8 and 79/399.1
    assert f"| LOW → HIGH | +{np.mean([79 / 477.8, 79 / 399.1]):.3f} (" in page
    assert write_ladder([first, second], [["low", "high"]], tmp_path)[0].read_text() == page
