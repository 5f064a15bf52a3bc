"""The Zoo's commands with each algorithm, from the first run to the film."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch as th
import yaml

import crashalgos
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.zoo import __main__ as command_line
from crashalgos.zoo import register, settings_file
from tests.helpers.wandb_server import WandbServer

Zoo = Callable[..., int]
ROOT = Path(crashalgos.__file__).parents[1]
QUICK = "--num-threads 1 --seed 3 --verbose 0"


def weights_of(algorithm: type[Any], agent: Path) -> list[th.Tensor]:
    return list(algorithm.load(agent).policy.state_dict().values())


def test_train_with_subproc_tracked_and_without_a_key(zoo: Zoo, tmp_path: Path, read_run: Any) -> None:
    """Nothing asks for a key, and envs in processes of their own give the same weights."""
    training = f"train --algo crash_reinforce -n 300 --eval-freq -1 {QUICK} -params n_envs:2 n_trajectories:4"
    command = [sys.executable, "-m", "crashalgos.zoo", *training.split(), "--vec-env", "subproc", "--track", "-tags", "a"]
    with socket.create_server(("127.0.0.1", 0)) as reachable:
        url = f"http://127.0.0.1:{reachable.getsockname()[1]}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_BASE_URL": url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("W&B: ")]
    assert said == ["W&B: no API key (`wandb login` makes runs online); what is tracked is offline"]

    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    tracked = read_run(folder)
    assert tracked.header["project"] == "sb3" and "a" in tracked.header["tags"]
    assert tracked.config["algo"] == "crash_reinforce"
    assert tracked.config["command"].endswith(" ".join(["crashalgos.zoo", *command[3:]]))
    steps = [step for step, _ in tracked.series("rollout/trajectory_return_mean")]
    assert len(steps) >= 2 and steps == sorted(steps)

    assert zoo(training) == 0
    runs = [tmp_path / "logs" / "crash_reinforce" / f"CartPole-v1_{number}" / "CartPole-v1.zip" for number in (1, 2)]
    subproc, dummy = (weights_of(crashalgos.REINFORCE, agent) for agent in runs)
    assert all(th.equal(one, other) for one, other in zip(subproc, dummy, strict=True))


@pytest.mark.slow
def test_tracked_on_a_server(server: WandbServer) -> None:
    training = f"train --algo crash_reinforce -n 300 --eval-freq -1 {QUICK} -params n_envs:2 n_trajectories:4"
    command = [sys.executable, "-m", "crashalgos.zoo", *training.split(), "--track", "-tags", "a"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert server.run.exit_code == 0 and server.run.fields["tags"][0] == "a" and server.run.fields["project"] == "sb3"
    returns = [row["rollout/trajectory_return_mean"] for row in server.run.rows if "rollout/trajectory_return_mean" in row]
    assert len(returns) >= 2


def test_normalised_from_training_to_film(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], read_run: Any) -> None:
    """Settings, checkpoints and statistics of a VecNormalize are found again; WandbCallback is one of the callbacks."""
    settings = "n_envs:2 n_steps:64 callback:[{'crashalgos.tracking.WandbCallback':{'project':'acrobot'}}]"
    names = "--algo crash_ppo --env Acrobot-v1"
    training = f"train {names} -n 256 --eval-freq 128 --eval-episodes 1 --save-freq 128 {QUICK}"
    assert zoo(training, "--env-kwargs", "max_episode_steps:30", "-params", *settings.split()) == 0
    folder = tmp_path / "logs" / "crash_ppo" / "Acrobot-v1_1"
    assert (folder / "Acrobot-v1" / "vecnormalize.pkl").exists()

    # --track has neither the figures of the last update nor this one. Four epochs an update; the first update's figures are
    # written at the second evaluation.
    tracked = read_run(next((tmp_path / "wandb").glob("offline-run-*")))
    assert tracked.series("train/n_updates") == [(256, 4), (256, 8)]
    assert len(tracked.series("eval/mean_reward")) == 2

    capsys.readouterr()
    for what in ("", "--load-best", "--load-checkpoint 256", "--stochastic --n-envs 1"):
        assert zoo(f"enjoy {names} -n 61 --no-render {what}") == 0
        # 61 steps are two episodes of 30, and one step; a reward of -1 a step, or of 0 at the end
        output = capsys.readouterr().out
        assert "Loading running average" in output and "2 Episodes" in output

    agent = folder / "Acrobot-v1.zip"
    assert zoo(f"train {names} -n 128 --eval-freq -1 -i {agent} {QUICK}", "-params", "n_envs:1", "n_steps:64") == 0
    assert "Loading saved VecNormalize stats" in capsys.readouterr().out

    assert zoo(f"record_video {names} -n 10 --exp-id 1 --no-render") == 0
    assert len(list((folder / "videos").glob("*.mp4"))) == 1


@pytest.mark.parametrize("zoo_name", ["crash_reinforce", "crash_baseline_pg"])
def test_optimise_and_train_with_the_trial(zoo_name: str, zoo: Zoo, tmp_path: Path) -> None:
    search = "-optimize --n-trials 2 --n-startup-trials 2 --n-evaluations 1 --eval-episodes 1 --no-optim-plots"
    study = "--storage study.log --study-name cartpole"
    assert zoo(f"train --algo {zoo_name} -n 100 {search} {study} {QUICK}", "-params", "n_envs:1") == 0
    found = optuna.load_study(
        study_name="cartpole",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("study.log")),
    )
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 2
    (report,) = (tmp_path / "logs" / zoo_name).glob("report_*.csv")
    assert len(pd.read_csv(report)) == 2

    trial = found.trials[1]
    arguments = f"train --algo {zoo_name} -n 100 --eval-freq -1 --trial-id 1 {study} {QUICK}"
    assert zoo(arguments, "-params", "n_envs:1") == 0
    agent = max((tmp_path / "logs" / zoo_name).glob("*/CartPole-v1.zip"))
    model = algorithm_class(command_line.NAMES[zoo_name]).load(agent)
    assert model.gamma == trial.user_attrs["gamma"] == 1 - trial.params["one_minus_gamma"]
    assert model.policy_kwargs["activation_fn"].__name__.lower() == trial.params["activation_fn"]
    assert zoo(f"enjoy --algo {zoo_name} -n 10 --no-render") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "a command is missing (known: train, enjoy, record_video)"),
        ("trian --algo ppo", "unknown command 'trian'; did you mean 'train'? (known: train, enjoy, record_video)"),
        (
            "train --algo crash_ppo --env CartPole-v7",
            "nothing is tuned for crash_ppo on 'CartPole-v7'; did you mean 'CartPole-v1'?",
        ),
        (
            "train --env MountainCar-v0 --algo=crash_ppo",
            "nothing is tuned for crash_ppo on 'MountainCar-v0' (tuned: CartPole-v1, ",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: str, message: str, zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"python -m crashalgos.zoo: error: {message}") and output.err.count("\n") == 1


def test_the_advice_for_an_env_without_settings_works(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo("train --algo crash_reinforce --env MountainCar-v0") == 2
    (tmp_path / "mine.yml").write_text(capsys.readouterr().err.split("'")[3])
    assert yaml.safe_load((tmp_path / "mine.yml").read_text())["MountainCar-v0"]["n_timesteps"] == 100_000
    options = f"--conf-file mine.yml -n 10 --eval-freq -1 {QUICK} -params n_trajectories:1"
    assert zoo(f"train --algo crash_reinforce --env MountainCar-v0 {options}") == 0
    assert list((tmp_path / "logs" / "crash_reinforce" / "MountainCar-v0_1").glob("*.zip"))


def test_without_the_extra(zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    assert zoo("train --algo crash_ppo") == 2
    message = 'python -m crashalgos.zoo: error: rl_zoo3 is not installed: pip install "crashalgos[zoo]"\n'
    assert capsys.readouterr().err == message


def test_help(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo("--help") == 0
    assert "record_video" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        zoo("train --help")
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: python -m crashalgos.zoo train ") and "crash_baseline_pg" in output


def test_from_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rl_zoo3.train import train

    register()
    words = f"train --algo crash_ppo --conf-file {settings_file('crash_ppo')} -n 256 --eval-freq -1 {QUICK}"
    monkeypatch.setattr(sys, "argv", words.split())
    train()
    del sys.modules["rl_zoo3.train"]  # it runs as a program, too, and would warn
    assert crashalgos.PPO.load(tmp_path / "logs/crash_ppo/CartPole-v1_1/CartPole-v1.zip").num_timesteps == 256
