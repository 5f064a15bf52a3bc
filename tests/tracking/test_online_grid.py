"""What the scripts put on a W&B server: a comparison's runs and report, the trials of a sweep."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from crashalgos.experiments.comparison import wandb_report
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.report import write_report
from crashalgos.experiments.comparison.wandb_report import log_report
from tests.helpers.comparison_folders import four_seeds, write_folder
from tests.helpers.paths import ROOT

SHORT = "--env CartPole-v1 --n-timesteps 64 --eval-freq 32 --eval-episodes 1".split()


def call(command, folder, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=280,
    )


def report_of(folder):
    results = load(folder)
    write_report(results)
    return results


def media(run, kind):
    """Gives the content of the last media of a kind, for each key that the run logged."""
    found = {}
    for row in run.rows:
        for key, value in row.items():
            if isinstance(value, dict) and value.get("_type") == kind:
                found[key] = run.files[value["path"]]
    return found


def test_a_comparison_is_a_group_of_runs_and_a_report(server, tmp_path):
    command = [sys.executable, ROOT / "scripts" / "compare.py", "--algos", "reinforce", "--seeds", "2", "--output", "out"]
    short = "--envs CartPole-v1 --n-timesteps 64 --eval-freq 32 --eval-episodes 1 --tags mine --project q".split()
    result = call([*command, *short], tmp_path)
    assert result.returncode == 0, result.stderr

    trains = [run for run in server.runs.values() if run.fields["jobType"] == "train"]
    assert {run.fields["displayName"] for run in trains} == {f"reinforce-CartPole-v1-seed{seed}" for seed in (0, 1)}
    for run in trains:
        assert run.fields["groupName"] == "reinforce-CartPole-v1" and run.fields["project"] == "q"
        assert run.fields["tags"] == ["reinforce", "CartPole-v1", "out", "mine"] and run.exit_code == 0
    models = [artifact for artifact in server.artifacts if artifact.type == "model"]
    assert sorted(artifact.aliases for artifact in models) == [["best"], ["best"], ["latest"], ["latest"]]

    [report] = [run for run in server.runs.values() if run.fields["jobType"] == "report"]
    assert report.fields["tags"] == ["out", "mine"] and report.exit_code == 0
    assert f"the report: {server.url}/me/q/runs/" in result.stdout
    [comparison] = [artifact for artifact in server.artifacts if artifact.type == "comparison"]
    assert comparison.files["runs.csv"] == (tmp_path / "out" / "runs.csv").read_bytes()


def test_the_reports_tables_and_figures(server, tmp_path):
    results = report_of(four_seeds(tmp_path / "out"))
    place = log_report(results, "p", ["tag"])
    [(name, run)] = server.runs.items()
    assert place == f"{server.url}/me/p/runs/{name}"
    tables = {key: json.loads(content) for key, content in media(run, "table-file").items()}
    assert set(tables) == {"scores", "summary", "verdicts"}
    a, b = ([100.0, 200.0, 300.0, 500.0], [500.0, 500.0, 500.0, 460.0])  # of folders.four_seeds
    scores = [[row[1], row[2], row[3], row[4]] for row in tables["scores"]["data"]]
    assert scores == [
        [name, seed, value, value - 10] for name, values in (("A", a), ("B", b)) for seed, value in enumerate(values)
    ]
    assert [row[:4] for row in tables["summary"]["data"]] == [["CartPole-v1", "A", 4, 275.0], ["CartPole-v1", "B", 4, 490.0]]
    [[_, first, second, verdict]] = tables["verdicts"]["data"]
    assert (first, second) == ("A", "B") and verdict.startswith("Too few seeds to conclude")
    figures = media(run, "image-file")
    assert figures == {f"figures/{path.stem}": path.read_bytes() for path in (tmp_path / "out" / "figures").iterdir()}
    assert b"<html" in media(run, "html-file")["report"]


def test_a_comparison_that_has_grown_goes_to_the_same_run(server, tmp_path):
    one = {("a", "CartPole-v1", 0): (20.0, 50.0, 100.0), ("b", "CartPole-v1", 0): (20.0, 50.0, 200.0)}
    two = {("a", "CartPole-v1", 1): (20.0, 50.0, 300.0), ("b", "CartPole-v1", 1): (20.0, 50.0, 400.0)}
    first = log_report(report_of(write_folder(tmp_path / "out", one)), "p")
    rows = len(server.run.rows)
    assert log_report(report_of(tmp_path / "out"), "p") == first and len(server.run.rows) == rows
    assert log_report(report_of(write_folder(tmp_path / "out", one | two)), "p") == first
    assert len(server.run.rows) == rows + 1
    table = json.loads(media(server.run, "table-file")["scores"])
    assert [row[3] for row in table["data"]] == [100.0, 300.0, 200.0, 400.0]


def test_a_report_without_a_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    results = report_of(four_seeds(tmp_path / "out"))
    place = Path(log_report(results, "p"))
    assert place.parent == tmp_path / "out" / "wandb" and server.operations == []
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(place)], check=True, timeout=240)
    assert set(media(server.run, "table-file")) == {"scores", "summary", "verdicts"}
    [comparison] = [artifact for artifact in server.artifacts if artifact.type == "comparison"]
    assert comparison.files["report.md"] == (tmp_path / "out" / "report.md").read_bytes()


def test_a_report_whose_server_fails_goes_to_the_same_run_the_next_time(server, tmp_path, monkeypatch, impatient):
    results = report_of(four_seeds(tmp_path / "out"))
    log_content = wandb_report._log_content

    def server_fails(*arguments):
        server.fails = True
        log_content(*arguments)

    with monkeypatch.context() as patch:
        patch.setenv("WANDB_FINISH_TIMEOUT", "2")
        patch.setattr(wandb_report, "_log_content", server_fails)
        with pytest.warns(
            UserWarning, match=r"W&B: logging the report failed .*out; to upload it later: wandb sync --no-skip"
        ):
            assert log_report(results, "p") is None
    server.fails = False
    assert log_report(results, "p") == f"{server.url}/me/p/runs/{next(iter(server.runs))}"
    assert set(media(server.run, "table-file")) == {"scores", "summary", "verdicts"} and server.run.exit_code == 0
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert log_report(results, "p") is None


def test_a_sweep_and_its_agent(server, tmp_path):
    config = ROOT / "scripts" / "sweep.yaml"
    created = call([sys.executable, "-m", "wandb", "sweep", config], tmp_path)
    assert "wandb agent me/crashalgos/sweep0" in created.stderr, created.stderr
    [sent] = server.sweeps
    expected = yaml.safe_load(config.read_text())
    assert yaml.safe_load(sent) == expected

    # Values as W&B's search gives them: of each parameter of the file, and flags, one of them true by default.
    trial = {name: entry.get("value", entry.get("values", [0.003])[0]) for name, entry in expected["parameters"].items()}
    flags = {"compile": False, "normalize_advantage": False}
    server.trials = [trial | {"n_timesteps": 256, "eval_freq": 128, "eval_episodes": 1} | flags]
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    agent = call([sys.executable, "-m", "wandb", "agent", "--count", "1", "me/crashalgos/sweep0"], tmp_path)
    assert agent.returncode == 0, agent.stderr
    assert "trial1" in server.runs, agent.stdout + agent.stderr
    run = server.runs["trial1"]
    assert run.fields["sweep"] == "sweep0" and run.fields["groupName"] == "ppo-CartPole-v1" and run.exit_code == 0
    assert "displayName" not in run.fields  # W&B's own names for the trials of a sweep
    assert run.config["learning_rate"] == trial["learning_rate"] and run.config["gae_lambda"] == trial["gae_lambda"]
    assert any("eval/mean_reward" in row for row in run.rows)
    folder = tmp_path / "results" / "train" / "ppo-CartPole-v1-seed0-trial1"
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings["hyperparameters"]["normalize_advantage"] is False and run.config["normalize_advantage"] is False
    assert (folder / "model.zip").is_file()


def test_a_task_of_a_slurm_array(tmp_path):
    script = ROOT / "scripts" / "slurm_array.sh"
    task = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "PYTHON": sys.executable}
    arguments = ["--algo", "reinforce", *SHORT, "--no-track", "--output", tmp_path / "out"]
    result = call(["bash", script, *arguments], tmp_path, **task)
    assert result.returncode == 0, result.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["seed"] == 3 and config["group"] == "slurm-7"
