"""The command line of scripts/train.py."""

import errno
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import claimed
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.settings import constructor_parameters, load_settings
from tests.helpers.paths import ROOT

Load = Callable[[str], ModuleType]


@pytest.fixture
def train(load_script: Load) -> ModuleType:
    return load_script("train")


def config(train: ModuleType, *arguments: str) -> Any:
    """Reads the configuration from a command line."""
    return train.read_arguments(list(arguments))


def test_one_run(train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "--algo reinforce --env CartPole-v1 --seed 5 --n-timesteps 300 --n-trajectories 4 --baseline leave_one_out"
    options = f"--horizon 20 --eval-freq 150 --eval-episodes 2 --verbose 0 --no-track --output {tmp_path / 'run'}"
    assert train.main([*command.split(), *options.split()]) == 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    files = {"config.json", "status.json", "progress.csv", "evaluations.csv", "model.zip", "best"}
    assert names == files | {".lock"}
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["algo"], written["seed"], written["settings"]["n_timesteps"]) == ("reinforce", 5, 300)
    hyperparameters = written["settings"]["hyperparameters"]
    # h = 20: γ = 1 − 1/20
    assert hyperparameters["gamma"] == 0.95
    assert hyperparameters["n_trajectories"] == 4 and hyperparameters["baseline"] == "leave_one_out"
    output = capsys.readouterr().out
    assert "return of the last evaluation: " in output and f"everything is in {tmp_path / 'run'}" in output


def test_defaults_are_the_tuned_settings(train: ModuleType) -> None:
    for algo in ("ppo", "reinforce", "ars"):
        assert config(train, "--algo", algo).settings == load_settings(algo, "CartPole-v1")
    # The arguments of VecNormalize stay, unless --no-normalize is given.
    assert config(train, "--algo", "ars", "--env", "Acrobot-v1").settings == load_settings("ars", "Acrobot-v1")
    assert config(train, "--algo", "ars", "--env", "Acrobot-v1", "--no-normalize").settings.normalize is False


def test_options_are_typed(train: ModuleType) -> None:
    options = "--learning-rate lin_3e-4 --clip-range 0.1 --n-steps 16 --target-kl 0.02 --no-normalize-advantage"
    given = config(train, *options.split(), "--policy-kwargs", "{net_arch: [16, 16], activation_fn: relu}")
    hyperparameters = given.settings.hyperparameters
    assert hyperparameters["learning_rate"] == "lin_3e-4"
    assert hyperparameters["clip_range"] == 0.1
    assert hyperparameters["n_steps"] == 16 and isinstance(hyperparameters["n_steps"], int)
    assert hyperparameters["target_kl"] == 0.02
    assert hyperparameters["normalize_advantage"] is False
    assert hyperparameters["policy_kwargs"] == {"net_arch": [16, 16], "activation_fn": "relu"}
    assert config(train, "--algo", "reinforce", "--baseline", "10").settings.hyperparameters["baseline"] == 10.0
    # The class's default may be left out.
    assert config(train, "--algo", "reinforce", "--baseline", "None").settings.hyperparameters.get("baseline") is None


def test_flags_as_the_agent_of_a_sweep_writes_them(train: ModuleType) -> None:
    off = config(train, "--algo=baseline-pg", "--fit_value_first=False", "--normalize-advantage=false", "--track=False")
    on = config(train, "--algo=baseline-pg", "--fit_value_first=True", "--normalize-advantage=true", "--compile=True")
    assert not off.track and on.track
    hyperparameters = [{**load_defaults(one.algo), **one.settings.hyperparameters} for one in (off, on)]
    assert [one["fit_value_first"] for one in hyperparameters] == [False, True]
    assert [one["normalize_advantage"] for one in hyperparameters] == [False, True]
    assert [one["compile"] for one in hyperparameters] == [False, True]
    assert config(train, "--project=True").project == "True"  # no flag


def load_defaults(algo: str) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in constructor_parameters(algorithm_class(algo)).items()}


@pytest.mark.parametrize(("horizon", "gamma"), [("1", 0.0), ("2", 0.5), ("100", 0.99), ("inf", 1.0)])
def test_horizon_gives_gamma(train: ModuleType, horizon: str, gamma: float) -> None:
    assert math.isclose(config(train, "--horizon", horizon).settings.hyperparameters["gamma"], gamma)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--algo reinforc", "unknown algorithm 'reinforc'; did you mean 'reinforce'?"),
        ("--env CartPole", "unknown environment 'CartPole'; did you mean 'CartPole-v1'?"),
        ("--env CartPole-v9", "unknown environment 'CartPole-v9'; did you mean 'CartPole-v1'?"),
        ("--horizon 0.5", "`horizon` must be a number of at least 1, got 0.5"),
        ("--horizon nan", "`horizon` must be a number of at least 1, got nan"),
        ("--horizon 10 --gamma 0.9", "--gamma and --horizon say the same thing twice"),
        ("--horizon 10 --gamma=0.9", "--gamma and --horizon say the same thing twice"),
        ("--algo ars --horizon 10", "ars has no discount factor"),
        ("--gamma 1.5", "`gamma` must be a number in [0, 1], got 1.5"),
        ("--learning-rate quick", "ppo on CartPole-v1: `learning_rate` must be a number or a function, got 'quick'"),
        ("--learning-rate lin_quick", "`learning_rate` must be a number or lin_<number>, got 'lin_quick'"),
        ("--n-timesteps 0", "`n_timesteps` must be a whole number of at least 1, got 0"),
        ("--n-envs 0", "`n_envs` must be a whole number of at least 1, got 0"),
        ("--policy Nope", "Policy Nope unknown"),
        ("--policy MultiInputPolicy", "ppo on CartPole-v1: "),
        ("--algo trpo --batch-size 0", "trpo on CartPole-v1: ZeroDivisionError: "),
        ("--device abacus", "ppo on CartPole-v1: "),
        ("--env HalfCheetah-v3", "environment 'HalfCheetah-v3' cannot be made: "),
        ("--env GymV21Environment-v0", "environment 'GymV21Environment-v0' cannot be made: "),
        ("--env a:b:c", "environment 'a:b:c' cannot be made: "),
        ("--policy-kwargs [1]", "`policy_kwargs` must be a mapping in YAML"),
        ("--batch-size 0", "ppo on CartPole-v1: `batch_size` must be greater than 1, got 0"),
        ("--algo reinforce --n-trajectories 0", "`n_trajectories` must be a whole number of at least 1, got 0"),
        ("--algo reinforce --weighting reward", "`weighting` must be one of 'reward_to_go', 'total_return', got 'reward'"),
        ("--algo reinforce --baseline median", "`baseline` must be"),
        ("--algo reinforce --use-sde", "`use_sde` must be False"),
        ("--project a/b --track", "project='a/b' must have"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: str, message: str, train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: Any
) -> None:
    def started(config: Any) -> None:
        raise AssertionError("the run started")

    train.run = started
    assert train.main(["--no-track", "--output", str(tmp_path / "run"), *arguments.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"train.py: error: {message}") and output.err.count("\n") == 1


def test_an_output_folder_that_cannot_be_written_to(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    assert train.main(["--output", str(folder)]) == 2
    assert capsys.readouterr().err == f"train.py: error: cannot write to output folder '{folder}': Not a directory\n"


@pytest.mark.parametrize("arguments", ["--n-steps many", "--no-such-option 3", "--algo"])
def test_an_unknown_option_is_an_error(arguments: str, train: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        train.main(arguments.split())
    assert exit_.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


def test_help_has_every_option_of_the_algorithm(train: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        train.main(["--algo", "baseline-pg", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    options = [field.name.replace("_", "-") for field in fields(RunConfig)]
    without = {"settings", "folder", "variant", "n-updates"}
    assert {option for option in options if f"--{option}" not in text} == without
    for option in ("--algo", "--env", "--seed", "--horizon", "--output", "--value-learning-rate", "--fit-value-first"):
        assert option in text
    assert "Discount factor" in text
    words = " ".join(text.replace("│", " ").split())
    assert "lin_<number>" in words and "{net_arch: [64, 64], activation_fn: relu}" in words
    assert "A callable baseline is for Python only." in words


def test_the_same_command_reads_a_finished_run(train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--n-timesteps 64 --n-steps 8 --batch-size 64 --eval-freq 64 --eval-episodes 1 --no-track --no-progress-bar"
    arguments = [*options.split(), "--output", str(tmp_path / "run")]
    assert train.main(arguments) == 0
    first, before = capsys.readouterr().out, (tmp_path / "run" / "status.json").stat().st_mtime_ns
    assert train.main(arguments) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "run" / "status.json").stat().st_mtime_ns == before
    assert train.main([*arguments, "--gamma", "0.5", "--checkpoint-freq", "0"]) == 2
    error = capsys.readouterr().err
    assert "settings.hyperparameters.gamma was 0.98, is 0.5" in error and "checkpoint_freq was 25000, is 0" in error


def test_a_folder_in_use_is_exit_status_2(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    with claimed(tmp_path, {}, ()):
        assert train.main(["--no-track", "--output", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"train.py: error: output folder {str(tmp_path)!r} is in use: another process writes to it\n"
    )


def test_a_full_disk_is_one_line(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(config: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "run", full)
    assert train.main(["--no-track", "--output", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.startswith(
        "train.py: error: [Errno 28] No space left on device before there was a model; to"
    )


@pytest.mark.parametrize(("saved", "resumes"), [(True, True), (True, False), (False, False)])
def test_an_interrupted_run_names_only_files_that_exist(
    saved: bool, resumes: bool, train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: Any) -> None:
        if saved:
            (config.folder / "model.zip").touch()
        if resumes:
            (config.folder / "checkpoint.pt").touch()
        raise KeyboardInterrupt

    train.run = interrupted
    folder = tmp_path / "run"
    assert train.main(["--no-track", "--env", "MountainCar-v0", "--output", str(folder)]) == 130
    output = capsys.readouterr()
    end = f"; the model as it was then is in {folder}" if saved else " before there was a model"
    how = "continue from the last checkpoint" if resumes else "start again, in the place of this one"
    again = f"python scripts/train.py --no-track --env MountainCar-v0 --output {folder}"
    assert output.err == f"interrupted{end}; to {how}: {again}\n"
    assert output.out == "class defaults (untuned): ppo on MountainCar-v0\n"


def test_sigterm_saves_the_model_and_ends_as_that_signal_does(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = "--algo reinforce --env CartPole-v1 --n-timesteps 10000000 --eval-freq 1000 --eval-episodes 1 --no-track"
    command = [
        sys.executable,
        str(ROOT / "scripts" / "train.py"),
        *options.split(),
        "--no-progress-bar",
        "--output",
        str(folder),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (folder / "best" / "best_model.zip").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGTERM, error
    assert (folder / "model.zip").exists() and f"interrupted; the model as it was then is in {folder}" in error
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
