"""The command ``scripts/labs.py``."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def labs(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("labs")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_labs_are_the_courses(labs: ModuleType, tmp_path: Path) -> None:
    configs = labs._make_configs(labs.LabsOptions(track=False, output=tmp_path / "out"))
    assert [(config.algo, config.env, config.seed) for config in configs] == [
        *(("reinforce", "CartPole-v1", seed) for seed in range(5)),
        *(("baseline-pg", "LunarLander-v3", seed) for seed in range(3)),
        *(("ppo", "LunarLander-v3", seed) for seed in range(3)),
    ]
    assert {(config.n_updates, config.settings.hyperparameters["n_trajectories"]) for config in configs} == {(100, 20)}


def test_a_lab_end_to_end(labs: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    assert labs.main(["--algos", "reinforce", "--seeds", "2", "--n-updates", "12", "--no-track", "--output", str(folder)]) == 0
    figures = []
    for seed in (0, 1):
        progress = rows(folder / f"reinforce-CartPole-v1-seed{seed}" / "progress.csv")
        returns = [float(row["rollout/trajectory_return_mean"]) for row in progress if row["rollout/trajectory_return_mean"]]
        assert len(returns) == 12
        figures.append(sum(returns[2:]) / 10)
    results = rows(folder / "labs.csv")
    assert [float(row["last_10_updates_return_mean"]) for row in results] == pytest.approx(figures)
    each = f"{figures[0]:.1f} {figures[1]:.1f}"
    line = f"| CartPole-v1 | REINFORCE | {np.median(figures):.1f} (median) | {each} | 348 |"
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert line in report
    assert report.startswith("# The labs again: 20 trajectories an update, 12 updates\n")
    assert "python scripts/labs.py --algos reinforce --seeds 2 --n-updates 12 --device cpu\n" in report
    assert each in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--algos sb3-ppo", "no lab has the algorithm 'sb3-ppo': reinforce, baseline-pg, ppo have one"),
        ("--seeds 0", "--seeds must be at least 1, got 0"),
        ("--n-updates 0", "--n-updates must be at least 1, got 0"),
        ("--output /dev/null/x", "cannot write to output folder '/dev/null/x': Not a directory"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: str, message: str, labs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labs.main(["--no-track", "--output", str(tmp_path / "out"), *arguments.split()]) == 2
    assert capsys.readouterr().err == f"labs.py: error: {message}\n"
