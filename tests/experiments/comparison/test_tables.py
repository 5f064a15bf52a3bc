"""Writing of a comparison's CSV and JSON files."""

import json
from pathlib import Path

from crashalgos.experiments.comparison.contenders import read_contenders, runs_of
from crashalgos.experiments.comparison.tables import NotApplicablePair, write_tables
from crashalgos.experiments.grid.grid import RunFailure
from crashalgos.experiments.run.evaluation import Evaluation
from crashalgos.experiments.run.runner import RunResult
from tests.helpers.comparison_folders import EVALUATIONS_HEADER, RUNS_HEADER


def test_every_run_has_a_row_and_every_episode_of_a_finished_one(tmp_path: Path) -> None:
    [ppo] = read_contenders(["ppo"])
    finished, failed = runs_of(ppo, "CartPole-v1", n_timesteps=100, seeds=2, common={})
    result = RunResult(finished, 128, 2.5, [Evaluation(0, 0, 0.5, "deterministic", [9.0, 10.0], [9, 10])], None)
    not_applicable = NotApplicablePair("trpo", "Pendulum-v1", "no reason")
    write_tables(tmp_path, [result, RunFailure(failed, "Traceback\nValueError: no")], [not_applicable], jobs=3)
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines() == [
        RUNS_HEADER,
        "ppo,CartPole-v1,0,finished,128,2.5,,",
        "ppo,CartPole-v1,1,failed,,,,ValueError: no",
        "trpo,Pendulum-v1,,not applicable,,,,no reason",
    ]
    assert (tmp_path / "evaluations.csv").read_text(encoding="utf-8").splitlines() == [
        EVALUATIONS_HEADER,
        "ppo,CartPole-v1,0,0,0,0.5,deterministic,0,9.0,9",
        "ppo,CartPole-v1,0,0,0,0.5,deterministic,1,10.0,10",
    ]
    assert json.loads((tmp_path / "versions.json").read_text(encoding="utf-8"))["jobs"] == 3
