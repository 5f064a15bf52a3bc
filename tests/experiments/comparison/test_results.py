"""The data model of a comparison: times to the threshold, equal runs."""

from pathlib import Path

import numpy as np

from crashalgos.experiments.comparison.loading import load
from tests.helpers.comparison_folders import four_seeds, write_folder

ENV = "CartPole-v1"


def test_times_to_threshold(tmp_path: Path) -> None:
    results = load(four_seeds(tmp_path))
    a, b = results.contenders
    steps, seconds = results.times_to_threshold(a, ENV)
    assert (steps.tolist(), seconds.tolist()) == ([np.inf] * 3 + [200], [np.inf] * 3 + [4])
    steps, seconds = results.times_to_threshold(b, ENV)
    assert (steps.tolist(), seconds.tolist()) == ([100, 100, 200, np.inf], [1, 1, 2, np.inf])


def test_equal_runs(tmp_path: Path) -> None:
    means, other = (20.0, 30.0, 40.0), (20.0, 31.0, 40.0)
    returns = {("a", ENV, 0): means, ("b", ENV, 0): means, ("c", ENV, 0): other, ("d", ENV, 0): means}
    a, b, c, d = load(write_folder(tmp_path, returns, stochastic={("d", ENV, 0): means})).runs
    assert a.equals(b)
    assert not a.equals(c), "an evaluation before the last one differs"
    assert not a.equals(d), "only the stochastic evaluations differ"
