"""Loading of a comparison's folder: its runs, its gaps, and files with mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest

from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.results import Gap
from tests.helpers.comparison_folders import EVALUATIONS_HEADER, RUNS_HEADER, four_seeds, write_csv, write_folder

ENV = "CartPole-v1"


def test_runs_and_their_evaluations(tmp_path: Path) -> None:
    results = load(four_seeds(tmp_path))
    assert [(run.contender, run.seed, run.score) for run in results.runs] == [
        ("a", 0, 100.0),
        ("a", 1, 200.0),
        ("a", 2, 300.0),
        ("a", 3, 500.0),
        ("b", 0, 500.0),
        ("b", 1, 500.0),
        ("b", 2, 500.0),
        ("b", 3, 460.0),
    ]
    run = results.runs[3]
    assert (run.num_timesteps, run.seconds, run.stochastic_score) == (200.0, 4.0, 490.0)
    np.testing.assert_array_equal(run.deterministic.steps, [0, 100, 200])
    np.testing.assert_array_equal(run.deterministic.seconds, [0, 2, 4])
    np.testing.assert_array_equal(run.deterministic.returns, [20, 50, 500])
    np.testing.assert_array_equal(run.deterministic.episodes[-2:], [[200, 0, 499, 7], [200, 1, 501, 7]])
    assert (results.envs, results.gaps) == ((ENV,), ())


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    folder = four_seeds(tmp_path)
    before = load(folder)
    for name in ("runs.csv", "evaluations.csv"):
        header, *rows = (folder / name).read_text(encoding="utf-8").splitlines()
        (folder / name).write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    after = load(folder)
    assert [(run.contender, run.seed) for run in after.runs] == [(run.contender, run.seed) for run in before.runs]
    assert all(run.equals(same) for run, same in zip(before.runs, after.runs, strict=True))


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path: Path) -> None:
    results = load(write_folder(tmp_path, {(name, ENV, 0): (1, 2, 3) for name in ("nan", "1e3", "007")}))
    assert [run.contender for run in results.runs] == ["nan", "1e3", "007"]


def test_a_return_keeps_its_last_digit(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    folder = write_folder(tmp_path, {("a", ENV, 0): (value, value, value)})
    assert set(load(folder).runs[0].deterministic.episodes[:, 2]) == {value - 1, value + 1}


def test_what_is_not_there(tmp_path: Path) -> None:
    other_rows = [
        ("a", ENV, 1, "failed", "", "", "a-1", "ValueError: no"),
        ("b", ENV, "", "not applicable", "", "", "", "b needs\nsomething else"),
        ("c", ENV, 0, "finished", 200, 2.0, "c-0", ""),
    ]
    results = load(write_folder(tmp_path, {("a", ENV, 0): (1, 2, 3)}, other_rows=other_rows, seeds=3))
    assert results.gaps == (
        Gap("a", ENV, None, "missing", "runs.csv has 2 of 3 runs"),
        Gap("a", ENV, 1, "failed", "ValueError: no"),
        Gap("b", ENV, None, "not applicable", "b needs something else"),
        Gap("c", ENV, None, "missing", "runs.csv has 1 of 3 runs"),
        Gap("c", ENV, 0, "incomplete", "evaluations.csv has no deterministic evaluation of it"),
    )
    assert [contender.name for contender in results.contenders_in(ENV)] == ["a"]
    # Of three runs of a one has finished, of c none; b was to have none
    assert [results.count_unfinished(contender, ENV) for contender in results.contenders] == [2, 0, 3]


def test_a_run_without_its_last_evaluation_is_incomplete(tmp_path: Path) -> None:
    folder = four_seeds(tmp_path)
    lines = (folder / "evaluations.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(f"b,{ENV},3,200,")]
    (folder / "evaluations.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    results = load(folder)
    assert results.gaps == (Gap("b", ENV, 3, "incomplete", "evaluations.csv has 2 of the 3 deterministic evaluations"),)
    assert len(results.runs) == 7


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_return_that_is_not_finite_makes_its_run_incomplete(tmp_path: Path, value: str) -> None:
    folder = four_seeds(tmp_path)
    text = (folder / "evaluations.csv").read_text(encoding="utf-8")
    (folder / "evaluations.csv").write_text(text.replace(",1,461.0,", f",1,{value},"), encoding="utf-8")
    reason = "its deterministic evaluations hold what is not a finite number"
    assert load(folder).gaps == (Gap("b", ENV, 3, "incomplete", reason),)


def test_an_environment_without_a_finished_run_is_left_out(tmp_path: Path) -> None:
    other_rows = [("a", "Acrobot-v1", 0, "failed", "", "", "a-0", "ValueError: no")]
    assert load(write_folder(tmp_path, {("a", ENV, 0): (1, 2, 3)}, other_rows=other_rows)).envs == (ENV,)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        load(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json, runs\.csv, evaluations\.csv, versions\.json not found in it"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["runs.csv", "evaluations.csv", "config.json", "versions.json"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (four_seeds(tmp_path) / name).write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=name.replace(".", r"\.") + " (cannot be read as CSV|is not a JSON file)"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "versions.json"])
def test_json_of_another_kind(tmp_path: Path, name: str) -> None:
    (four_seeds(tmp_path) / name).write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must have the key '(contenders|versions)' \((list|dict)\)"):
        load(tmp_path)


def test_missing_columns(tmp_path: Path) -> None:
    write_csv(
        four_seeds(tmp_path) / "runs.csv", "contender,env,seed,status,folder,reason", [("a", ENV, 0, "finished", "", "")]
    )
    with pytest.raises(ValueError, match=r"runs\.csv lacks the columns num_timesteps, seconds"):
        load(tmp_path)


def test_text_in_a_column_of_numbers(tmp_path: Path) -> None:
    write_csv(four_seeds(tmp_path) / "runs.csv", RUNS_HEADER, [("a", ENV, "one", "finished", 200, 2.0, "", "")])
    with pytest.raises(ValueError, match=r"runs\.csv, column seed: could not convert string to float: 'one'"):
        load(tmp_path)


@pytest.mark.parametrize(("contender", "env", "column"), [("z", ENV, "contender 'z'"), ("a", "Other-v0", "env 'Other-v0'")])
def test_strangers(tmp_path: Path, contender: str, env: str, column: str) -> None:
    write_csv(four_seeds(tmp_path) / "runs.csv", RUNS_HEADER, [(contender, env, 0, "finished", 200, 2.0, "", "")])
    with pytest.raises(ValueError, match=f"config.json has no {column}"):
        load(tmp_path)


def test_a_run_twice(tmp_path: Path) -> None:
    write_csv(four_seeds(tmp_path) / "runs.csv", RUNS_HEADER, [("a", ENV, 0, "finished", 200, 2.0, "", "")] * 2)
    with pytest.raises(ValueError, match="the run of a in CartPole-v1 with seed 0 twice"):
        load(tmp_path)


def test_an_unknown_status(tmp_path: Path) -> None:
    write_csv(four_seeds(tmp_path) / "runs.csv", RUNS_HEADER, [("a", ENV, 0, "done", 200, 2.0, "", "")])
    with pytest.raises(ValueError, match="the run of a in CartPole-v1 with seed 0: unknown status 'done'"):
        load(tmp_path)


def test_two_contenders_of_one_name(tmp_path: Path) -> None:
    path = four_seeds(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["contenders"][1]["name"] = "a"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="more than one contender is called 'a'"):
        load(tmp_path)


def test_no_finished_run(tmp_path: Path) -> None:
    write_folder(tmp_path, {}, other_rows=[("a", ENV, 0, "failed", "", "", "a-0", "ValueError: no")])
    write_csv(tmp_path / "evaluations.csv", EVALUATIONS_HEADER, [])
    with pytest.raises(
        ValueError, match=r"no run has finished.*: the run of a in CartPole-v1 with seed 0: failed: ValueError: no"
    ):
        load(tmp_path)
    write_csv(tmp_path / "runs.csv", RUNS_HEADER, [])
    with pytest.raises(ValueError, match=r"no run has finished, so there is nothing to report: runs\.csv has no row"):
        load(tmp_path)
