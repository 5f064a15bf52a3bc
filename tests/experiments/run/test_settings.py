"""Tuned settings in RL Zoo's format."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.model import close_envs, make_model
from crashalgos.experiments.run.registry import ALGORITHMS
from crashalgos.experiments.run.settings import (
    HYPERPARAMS,
    Settings,
    constructor_arguments,
    load_settings,
    parse_settings,
    read_yaml,
)

TUNED = [(algo, env) for algo, entry in ALGORITHMS.items() for env in read_yaml(HYPERPARAMS / f"{entry.settings}.yml")]
LABS = [(algo, env) for algo, entries in read_yaml(HYPERPARAMS / "labs.yml").items() for env in entries]


def test_every_file_belongs_to_an_algorithm() -> None:
    files = {path.stem for path in HYPERPARAMS.glob("*.yml")}
    assert files == {entry.settings for entry in ALGORITHMS.values()} | {"labs"}


@pytest.mark.parametrize(("algo", "env"), TUNED)
def test_tuned_settings_make_a_model(algo: str, env: str) -> None:
    settings = load_settings(algo, env)
    assert settings.n_timesteps >= 50_000
    close_envs(make_model(RunConfig(algo, env, settings, Path())))


@pytest.mark.parametrize(("algo", "env"), LABS)
def test_labs_make_a_model_of_20_trajectories(algo: str, env: str) -> None:
    settings = parse_settings(algo, read_yaml(HYPERPARAMS / "labs.yml")[algo][env], "labs.yml")
    assert settings.hyperparameters["n_trajectories"] == 20
    close_envs(make_model(RunConfig(algo, env, settings, Path())))


def test_our_ppo_and_sb3s_have_the_same_settings() -> None:
    assert load_settings("ppo", "CartPole-v1") == load_settings("sb3-ppo", "CartPole-v1")


def test_zoo_format_is_read() -> None:
    settings = load_settings("ppo", "CartPole-v1")
    assert (settings.n_envs, settings.n_timesteps, settings.policy, settings.normalize) == (8, 100_000, "MlpPolicy", False)
    assert settings.hyperparameters["learning_rate"] == "lin_0.001"
    assert load_settings("ppo", "Acrobot-v1").normalize is True


def test_an_environment_without_an_entry_has_the_defaults() -> None:
    assert load_settings("ppo", "MountainCar-v0") == Settings(tuned=False)
    assert load_settings("ppo", "CartPole-v1").tuned


def test_an_unknown_key_is_named_with_its_place_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"x\.yml: PPO has no hyperparameter 'learning_rat'; did you mean 'learning_rate'\?"):
        parse_settings("sb3-ppo", {"learning_rat": 1e-3}, "x.yml")


def test_a_linear_schedule_falls_from_its_number_to_zero() -> None:
    schedule = constructor_arguments({"learning_rate": "lin_0.004"})["learning_rate"]
    assert [schedule(1.0), schedule(0.25), schedule(0.0)] == pytest.approx([0.004, 0.001, 0.0])


def test_an_activation_is_named() -> None:
    arguments = constructor_arguments({"policy_kwargs": {"net_arch": [32], "activation_fn": "relu"}})
    assert arguments["policy_kwargs"] == {"net_arch": [32], "activation_fn": nn.ReLU}


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"learning_rate": "lin_fast"}, "`learning_rate` must be a number or lin_<number>, got 'lin_fast'"),
        ({"policy_kwargs": "dict(net_arch=[64])"}, "`policy_kwargs` must be a mapping"),
        ({"policy_kwargs": {"activation_fn": "nn.ReLU"}}, "`activation_fn` must be one of tanh, relu, got 'nn.ReLU'"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(hyperparameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        constructor_arguments(hyperparameters)
    assert str(caught.value).startswith(message)
