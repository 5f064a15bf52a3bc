"""Evaluation on a fixed grid of steps leaves training as it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos.experiments.run import evaluation
from crashalgos.experiments.run.evaluation import Evaluation, EvaluationCallback
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.runner import run
from crashalgos.experiments.run.settings import constructor_arguments, load_settings
from tests.helpers.runs import equal_parameters, read_rows, saved_parameters, small_config


@pytest.mark.parametrize(
    ("algo", "env"),
    [
        ("reinforce", "CartPole-v1"),
        ("baseline-pg", "CartPole-v1"),
        ("ppo", "CartPole-v1"),
        ("sb3-ppo", "CartPole-v1"),
        ("trpo", "CartPole-v1"),
        ("ars", "CartPole-v1"),
        # With gSDE, normalisation and policy_kwargs
        ("sb3-a2c", "Pendulum-v1"),
    ],
)
def test_evaluation_does_not_change_training(algo: str, env: str, tmp_path: Path) -> None:
    config = small_config(algo, tmp_path / "run", env)
    run(config)

    venv = make_vec_env(env, n_envs=config.settings.n_envs, seed=3)
    if config.settings.normalize:
        venv = VecNormalize(venv, gamma=config.settings.hyperparameters["gamma"])
    model: BaseAlgorithm = algorithm_class(algo)(
        config.settings.policy, venv, seed=3, **constructor_arguments(config.settings.hyperparameters)
    )
    model.learn(600)
    expected, actual = model.policy.state_dict(), saved_parameters(config)
    assert expected.keys() == actual.keys()
    assert all(th.equal(expected[name], actual[name]) for name in expected)


def test_the_policy_of_a_step_has_not_learned_from_later_steps(tmp_path: Path) -> None:
    # A rollout is 8 × 32 = 256 steps: at 256 its update is not made yet, at 264 it is.
    settings = load_settings("sb3-ppo", "CartPole-v1")
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=512, eval_freq=256, eval_episodes=10)
    first, stochastic_first, at_256, stochastic_at_256, at_512, _ = (e.returns for e in run(config).evaluations)
    assert settings.n_envs * settings.hyperparameters["n_steps"] == 256
    # The same policy plays the same episodes and draws the same actions.
    assert first == at_256 != at_512
    assert stochastic_first == stochastic_at_256 != first


def test_evaluation_normalizes_observations_as_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[float, float, bool]] = []

    def evaluate(model: BaseAlgorithm, env: VecNormalize, **kwargs: Any) -> tuple[list[float], list[int]]:
        training = model.get_vec_normalize_env()
        assert training is not None and training.obs_rms is not env.obs_rms
        counts.append((training.obs_rms.count, env.obs_rms.count, env.training))
        return [0.0], [1]

    monkeypatch.setattr(evaluation, "evaluate_policy", evaluate)
    config = small_config("sb3-a2c", tmp_path / "run", "Acrobot-v1", n_timesteps=400)
    run(config)
    # 16 envs: reset, then 13 and 25 steps each, in two modes. Running statistics start from a count of 1e-4.
    assert counts == [(n + 1e-4, n + 1e-4, False) for n in (16, 16 + 13 * 16, 16 + 25 * 16) for _ in range(2)]


def test_evaluation_does_not_change_the_rows_that_training_logs(tmp_path: Path) -> None:
    with_evaluation, without = (
        small_config("sb3-ppo", tmp_path / "with"),
        small_config("sb3-ppo", tmp_path / "without", eval_freq=0),
    )
    run(with_evaluation)
    run(without)
    assert not (without.folder / "evaluations.csv").exists()
    own = [row for row in read_rows(with_evaluation.folder / "progress.csv") if not row["eval/mean_reward"]]
    plain = read_rows(without.folder / "progress.csv")
    # 3 rollouts of 256 steps; the last update's figures have their own row.
    assert len(own) == len(plain) == 4
    assert [row["train/n_updates"] for row in plain] == ["", "20", "40", "60"]
    for mine, other in zip(own, plain, strict=True):
        assert {name: mine[name] for name in other if not name.startswith("time/")} == {
            name: value for name, value in other.items() if not name.startswith("time/")
        }


def test_an_episode_that_never_ends_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ENDLESS_TRAJECTORY_STEPS", 5)
    message = r"An evaluation episode has not ended after 5 steps .*: give the env a time limit \(.*TimeLimit"
    with pytest.raises(RuntimeError, match=message):
        run(small_config("sb3-ppo", tmp_path / "run"))
    # The last step allowed may be the 5th.
    monkeypatch.setitem(gym.registry, "Short-v1", replace(gym.spec("CartPole-v1"), id="Short-v1", max_episode_steps=5))
    config = small_config("sb3-ppo", tmp_path / "short", "Short-v1", n_timesteps=8, eval_freq=8)
    config.settings.hyperparameters["n_steps"] = 8
    config.settings.hyperparameters["batch_size"] = 8
    assert run(config).evaluations[0].lengths == [5, 5]


def test_the_best_model_is_saved_with_its_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Deterministic returns at 0, 64, …: the one at 128 is the best, and the later equal one does not replace it.
    returns = iter([10.0, 9.0, 30.0, 30.0, 20.0])
    kept = {}

    def play(callback: EvaluationCallback, step: int, mode: str) -> Evaluation:
        value = next(returns) if mode == "deterministic" else 100.0
        if mode == "deterministic":
            kept[step] = {name: tensor.clone() for name, tensor in callback.model.policy.state_dict().items()}
            kept[step]["mean of the observations"] = th.tensor(callback.model.get_env().obs_rms.mean)
        return Evaluation(step, step, 0.0, mode, [value], [1])

    monkeypatch.setattr(EvaluationCallback, "_play", play)
    config = small_config("ppo", tmp_path / "run", n_timesteps=256, eval_freq=64)
    config.settings.normalize = True
    config.settings.hyperparameters |= {"n_steps": 8, "batch_size": 64}  # 64 steps a rollout
    run(config)
    best = algorithm_class("ppo").load(config.folder / "best" / "best_model.zip")
    found = best.policy.state_dict() | {
        "mean of the observations": th.tensor(
            VecNormalize.load(str(config.folder / "best" / "vec_normalize.pkl"), make_vec_env("CartPole-v1")).obs_rms.mean
        )
    }
    assert equal_parameters(found, kept[128]) and not equal_parameters(found, kept[64])
