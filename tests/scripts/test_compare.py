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

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "tests" / "experiments"


@pytest.fixture
def compare(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compare")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def dies(group: int, seconds: float) -> bool:
    """Whether a process group has no one left before the time is over: the last helper ends after its parent."""
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
    command = "--algos reinforce ppo --envs CartPole-v1 --seeds 1 --n-timesteps 400 --eval-freq 200 --eval-episodes 2 --jobs 2"
    assert compare.main([*command.split(), "--output", str(folder)]) == 0

    evaluations = rows(folder / "evaluations.csv")
    assert [(row["algorithm"], row["env"], row["seed"], row["step"]) for row in evaluations] == [
        (algo, "CartPole-v1", "0", step) for algo in ("reinforce", "ppo") for step in ("0", "200", "400")
    ]
    assert [row["status"] for row in rows(folder / "runs.csv")] == ["finished"] * 2
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "python scripts/compare.py --algos reinforce ppo --envs CartPole-v1 --seeds 1 --n-timesteps 400" in report
    runs = [folder / f"{algo}-CartPole-v1-seed0" for algo in ("reinforce", "ppo")]
    assert all(list(run.glob("wandb/offline-run-*/*.wandb")) and (run / "model.zip").exists() for run in runs)

    output = capfd.readouterr().out
    closing = output.splitlines()[-4:]
    assert closing[0] == f"figure  {folder / 'learning_curves.png'}" and (folder / "learning_curves.png").exists()
    assert closing[1] == f"CSV     {folder / 'evaluations.csv'}, {folder / 'runs.csv'}"
    assert closing[2] == f"report  {folder / 'report.md'}"
    assert closing[3].startswith(f"W&B     2 runs in {folder}/*/wandb; to upload")
    assert "REINFORCE" in output


def test_a_failed_run_is_reported_and_the_others_finish(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ENVIRONMENTS)
    # Seed 1 fails (crash_env.py), seed 0 does not.
    command = "--algos reinforce --envs crash_env:Crash-v0 --seeds 2 --n-timesteps 150 --eval-freq 50 --no-track"
    assert compare.main([*command.split(), "--output", str(tmp_path / "out")]) == 1
    output = capfd.readouterr().out
    assert "reinforce-crash_env-Crash-v0-seed1 failed:\nTraceback" in output
    assert "RuntimeError: this seed fails" in output
    assert [(row["seed"], row["status"]) for row in rows(tmp_path / "out" / "runs.csv")] == [
        ("0", "finished"),
        ("1", "failed"),
    ]
    assert {row["seed"] for row in rows(tmp_path / "out" / "evaluations.csv")} == {"0"}
    assert "this seed fails" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--algos ppo reinforc", "unknown algorithm 'reinforc'; did you mean 'reinforce'?"),
        ("--envs Cartpole-v1", "unknown environment 'Cartpole-v1'; did you mean 'CartPole-v1'?"),
        ("--seeds 0", "--seeds must be at least 1, got 0"),
        ("--jobs 0", "--jobs must be at least 1, got 0"),
        ("--eval-freq 0", "--eval-freq must be at least 1, got 0"),
        ("--n-timesteps -1", "`n_timesteps` must be a whole number of at least 1, got -1"),
        ("--algos", "nothing to compare"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: str, message: str, compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(["--no-track", "--output", str(tmp_path / "out"), *arguments.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"compare.py: error: {message}") and output.err.count("\n") == 1


def test_an_output_folder_that_cannot_be_written_to(
    compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert compare.main(["--output", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write to output folder" in capsys.readouterr().err


def test_ctrl_c_stops_every_run_and_keeps_their_models(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = "--algos sb3-a2c sb3-ppo --envs crash_env:Slow-v0 --seeds 1 --n-timesteps 1000000 --eval-freq 1000000 --no-track"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ENVIRONMENTS)])}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "compare.py"), *command.split(), "--jobs", "2", "--output", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What runs in a shell's background inherits that Ctrl-C is ignored; what a person starts does not
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # Both have evaluated once, so both are training.
        evaluated = [folder / f"{algo}-crash_env-Slow-v0-seed0" / "evaluations.csv" for algo in ("sb3-a2c", "sb3-ppo")]
        deadline = time.monotonic() + 120
        while not all(path.exists() and path.read_text().count("\n") > 1 for path in evaluated):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert f"interrupted; the runs so far are in {folder}" in errors and "Traceback" not in errors
    assert all((path.parent / "model.zip").exists() for path in evaluated)
    assert dies(process.pid, seconds=20)
