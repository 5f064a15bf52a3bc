"""
Writes ``rliable_numbers.json``: the numbers that rliable (https://github.com/google-research/rliable) computes.

The scores are fixed. Run this once, in an environment of its own: ``pip install rliable "pandas<3"``, then
``python make_rliable_numbers.py``. Another run gives other bands of the profile, within their Monte Carlo error.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPS = 50_000
TASKS, RUNS = 3, 10
THRESHOLDS = np.array([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0])


def make_scores(shift: float) -> np.ndarray:
    """
    Makes irregular scores without a random generator. Some are above 1, some are equal.

    :param shift: is added to all scores
    :return: shape (RUNS, TASKS), rliable's order
    """
    run, task = np.meshgrid(np.arange(RUNS), np.arange(TASKS), indexing="ij")
    return np.round(0.4 + shift + 0.3 * task + 0.45 * np.sin(2.3 * run + 1.7 * task + 5.0 * shift), 2)


def main() -> None:
    """Computes and writes all numbers."""
    x, y = make_scores(0.15), make_scores(0.0)

    def aggregates(scores: np.ndarray) -> np.ndarray:
        return np.array(
            [
                metrics.aggregate_iqm(scores),
                metrics.aggregate_median(scores),
                metrics.aggregate_mean(scores),
                metrics.aggregate_optimality_gap(scores),
            ]
        )

    def improvement(x_scores: np.ndarray, y_scores: np.ndarray) -> np.ndarray:
        return np.array([metrics.probability_of_improvement(x_scores, y_scores)])

    values, intervals = library.get_interval_estimates({"x": x}, aggregates, reps=REPS, random_state=np.random.RandomState(1))
    pair, pair_intervals = library.get_interval_estimates(
        {"x,y": (x, y)}, improvement, reps=REPS, random_state=np.random.RandomState(2)
    )
    profiles, bands = library.create_performance_profile({"x": x}, THRESHOLDS, reps=REPS)
    numbers = {
        "versions": {package: version(package) for package in ("rliable", "arch", "numpy", "scipy")},
        "reps": REPS,
        "x": x.T.tolist(),
        "y": y.T.tolist(),
        "thresholds": THRESHOLDS.tolist(),
        "aggregate": {
            name: {"value": values["x"][i], "low": intervals["x"][0, i], "high": intervals["x"][1, i]}
            for i, name in enumerate(("IQM", "median", "mean", "optimality gap"))
        },
        "probability_of_improvement": {
            "value": pair["x,y"][0],
            "low": pair_intervals["x,y"][0, 0],
            "high": pair_intervals["x,y"][1, 0],
        },
        "performance_profile": {
            "value": profiles["x"].tolist(),
            "low": bands["x"][0].tolist(),
            "high": bands["x"][1].tolist(),
        },
    }
    path = Path(__file__).with_name("rliable_numbers.json")
    path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
