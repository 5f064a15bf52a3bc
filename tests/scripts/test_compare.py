"""The command ``scripts/compare.py``."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.paths import HELPERS, ROOT


@pytest.fixture
def compare(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compare")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ends_within(group: int, seconds: float) -> bool:
    """Tells whether all processes of a group end in time; W&B's and Ray's may end after their parent."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_comparison_end_to_end(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "out"
    variant = "small=ppo{n_steps: 16, batch_size: 64, first_seed: 5}"
    command = "--envs CartPole-v1 --seeds 1 --n-timesteps 400 --eval-freq 200 --eval-episodes 2 --checkpoint-freq 200 --jobs 2"
    arguments = ["--algos", "reinforce", variant, *command.split(), "--output", str(folder)]
    assert compare.main(arguments) == 0

    evaluations = rows(folder / "evaluations.csv")
    assert [(row["contender"], row["env"], row["seed"], row["step"], row["mode"]) for row in evaluations] == [
        (name, "CartPole-v1", seed, step, mode)
        for name, seed in (("reinforce", "0"), ("small", "5"))
        for step in ("0", "200", "400")
        for mode in ("deterministic", "stochastic")
        for _ in range(2)
    ]
    assert [row["status"] for row in rows(folder / "runs.csv")] == ["finished"] * 2
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert f"python scripts/compare.py --algos reinforce '{variant}' --envs CartPole-v1 --seeds 1 --n-timesteps 400" in report
    runs = [folder / name for name in ("reinforce-CartPole-v1-seed0", "small-CartPole-v1-seed5")]
    assert all(list(run.glob("wandb/offline-run-*/*.wandb")) and (run / "model.zip").exists() for run in runs)

    output = capfd.readouterr().out
    closing = output.splitlines()[-5:]
    assert closing[0] == f"report  {folder / 'report.html'}, {folder / 'report.md'}"
    assert closing[1] == f"figures {folder / 'figures'}" and (folder / "figures").is_dir()
    assert closing[2] == f"CSV     {folder / 'evaluations.csv'}, {folder / 'runs.csv'}"
    assert closing[3].startswith(f"W&B     2 runs in {folder}/*/wandb; to upload")
    assert closing[4].startswith(f"        the report: {folder}/wandb/offline-run-")
    assert "REINFORCE" in output and "Too few seeds to conclude" in output

    # Again: nothing is trained, and the report is the same
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/status.json")}
    assert compare.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/status.json")} == before
    assert (folder / "report.md").read_text(encoding="utf-8") == report
    capfd.readouterr()
    assert compare.main([*arguments, "--seeds", "2"]) == 2
    assert "holds results of another configuration (seeds was 1, is 2" in capfd.readouterr().err


@pytest.mark.slow
def test_a_failed_run_is_reported_and_the_others_finish(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    # Seed 1 fails (crash_env.py), seed 0 does not.
    command = "--algos reinforce --envs crash_env:Crash-v0 --seeds 2 --n-timesteps 150 --eval-freq 50 --no-track"
    arguments = [*command.split(), "--output", str(tmp_path / "out")]
    assert compare.main(arguments) == 1
    output = capfd.readouterr().out
    assert "reinforce-crash_env-Crash-v0-seed1 failed:\nTraceback" in output
    assert "RuntimeError: this seed fails" in output
    assert "to try again what failed: python scripts/compare.py --algos reinforce --envs crash_env:Crash-v0" in output
    assert [(row["seed"], row["status"]) for row in rows(tmp_path / "out" / "runs.csv")] == [
        ("0", "finished"),
        ("1", "failed"),
    ]
    assert {row["seed"] for row in rows(tmp_path / "out" / "evaluations.csv")} == {"0"}
    assert "this seed fails" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_if_all_runs_fail_there_is_no_report(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    command = "--envs crash_env:Crash-v0 --seeds 1 --n-timesteps 50 --eval-freq 50 --no-track"
    arguments = ["--algos", "a=reinforce{first_seed: 1}", *command.split(), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(compare, "check", lambda config: None)
    assert compare.main(arguments) == 1
    output = capfd.readouterr().out
    assert "no run has finished: there is nothing to report" in output
    assert [row["status"] for row in rows(tmp_path / "out" / "runs.csv")] == ["failed"]
    assert not (tmp_path / "out" / "report.md").exists()


def test_an_algorithm_that_cannot_act_in_an_environment_is_not_applicable(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    buttons = ["--envs", "crash_env:Buttons-v0", "--no-track", "--output", str(tmp_path / "none")]
    assert compare.main(["--algos", "ars", *buttons]) == 2
    assert "error: nothing to compare: ars on crash_env:Buttons-v0: The algorithm only" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()
    command = "--algos ppo ars --envs crash_env:Buttons-v0 --seeds 1 --n-timesteps 64 --eval-freq 64 --no-track"
    assert compare.main([*command.split(), "--output", str(tmp_path / "out")]) == 0
    reason = "ars on crash_env:Buttons-v0: The algorithm only supports"
    assert f"not applicable: {reason}" in capfd.readouterr().out
    assert [(row["contender"], row["status"]) for row in rows(tmp_path / "out" / "runs.csv")] == [
        ("ppo", "finished"),
        ("ars", "not applicable"),
    ]
    assert "not applicable" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_the_folder_is_named_after_what_is_compared(compare: ModuleType) -> None:
    def name(**options: object) -> str:
        config = compare._plan(compare.CompareOptions(**options))[1]
        return compare.folder_name(config["envs"], compare._digest(config))

    assert name().startswith("CartPole-v1-") and name() == name(jobs=1, track=False, project="x")
    assert name() != name(n_timesteps=60_000) and name() != name(algos=("ppo",))
    assert name(envs=("CartPole-v1", "Acrobot-v1")).startswith("CartPole-v1-and-1-more-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--algos worse=ppo{gama:_0.5}", "worse: PPO has no hyperparameter 'gama'; did you mean 'gamma'?"),
        ("--algos worse=ppo{gamma", "a variant must be NAME=ALGO{HYPERPARAMETER: VALUE, …} in YAML, got 'worse=ppo{gamma'"),
        ("--algos worse=pppo", "unknown algorithm 'pppo'; did you mean 'ppo'?"),
        ("--algos trpo=ppo", "the variant 'trpo' of ppo has the name of an algorithm: give it another"),
        ("--algos a=ppo a=trpo", "two contenders are called 'a'"),
        ("--algos a=ppo{first_seed:_-1}", "`first_seed` of a must be a whole number of at least 0, got -1"),
        ("--algos a=ppo{n_timesteps:_5}", "`n_timesteps` of a is not its own"),
        ("--checkpoint-freq -1", "`checkpoint_freq` must be a whole number of at least 0, got -1"),
        ("--envs", "nothing to compare: give at least one environment"),
        ("--algos ppo reinforc", "unknown algorithm 'reinforc'; did you mean 'reinforce'?"),
        ("--envs Cartpole-v1", "unknown environment 'Cartpole-v1'; did you mean 'CartPole-v1'?"),
        ("--seeds 0", "--seeds must be at least 1, got 0"),
        ("--jobs 0", "--jobs must be at least 1, got 0"),
        ("--eval-freq 0", "--eval-freq must be at least 1, got 0"),
        ("--n-timesteps -1", "`n_timesteps` must be a whole number of at least 1, got -1"),
        ("--algos", "nothing to compare"),
        ("--ray-address 127.0.0.1:1", "--ray-address 127.0.0.1:1 needs --executor ray"),
        ("--executor ray --ray-address nowhere", "the Ray address 'nowhere' cannot be used (Invalid address format: nowhere)"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: str, message: str, compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace(":_", ": ") for word in arguments.split()]
    assert compare.main(["--no-track", "--output", str(tmp_path / "out"), *words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"compare.py: error: {message}") and output.err.count("\n") == 1


def test_an_output_folder_that_cannot_be_written_to(
    compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert compare.main(["--output", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write to output folder" in capsys.readouterr().err


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_stops_every_run_and_keeps_their_models(executor: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = "--algos sb3-a2c sb3-ppo --envs crash_env:Slow-v0 --seeds 1 --n-timesteps 1000000 --eval-freq 1000000 --no-track"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS)]),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps Ray on loopback
    }
    options = ["--executor", executor, "--jobs", "2", "--output", str(folder)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "compare.py"), *command.split(), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A process in a shell's background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # Both have evaluated once, so both are training.
        evaluated = [folder / f"{algo}-crash_env-Slow-v0-seed0" / "evaluations.csv" for algo in ("sb3-a2c", "sb3-ppo")]
        deadline = time.monotonic() + 120
        while not all(path.exists() and path.read_text().count("\n") > 1 for path in evaluated):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        # A terminal sends Ctrl-C to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    again = errors.rpartition("interrupted; to continue: ")[2]
    assert again.startswith("python scripts/compare.py --algos sb3-a2c sb3-ppo") and "Traceback" not in errors
    assert f"--executor {executor} --jobs 2 --device cpu --output {folder} --no-track --project crashalgos" in again
    assert all((path.parent / "model.zip").exists() for path in evaluated)
    assert ends_within(process.pid, seconds=20)
