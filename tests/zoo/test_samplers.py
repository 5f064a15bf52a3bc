"""Whatever Optuna samples from the search spaces makes a model."""

import math
from typing import Any

import gymnasium as gym
import optuna
import pytest
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from torch import nn

from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.zoo.registration import NAMES
from crashalgos.zoo.samplers import hyperparameters


def trials(zoo_name: str, number: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    """Asks for random trials; gives each with what was sampled in it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask() for _ in range(number)]
    return [(trial, HYPERPARAMS_SAMPLER[zoo_name](trial, 1, 8, {})) for trial in asked]


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("zoo_name", NAMES)
def test_whatever_is_sampled_makes_a_model(zoo_name: str, env: str, recwarn: pytest.WarningsRecorder) -> None:
    made = gym.make(env)
    for trial, sampled in trials(zoo_name, 40):
        model = algorithm_class(NAMES[zoo_name])("MlpPolicy", made, **sampled)
        assert model.gamma == sampled["gamma"]
        # A study's parameters give the same arguments (`--trial-id`).
        assert HYPERPARAMS_CONVERTER[zoo_name](trial.params) == sampled


@pytest.mark.parametrize("zoo_name", ["crash_reinforce", "crash_baseline_pg"])
def test_the_spaces_are_searched_on_the_scales_that_matter(zoo_name: str) -> None:
    """
    1 − γ and the learning rate are sampled by order of magnitude.

    So the median is the geometric mean of the bounds.
    """
    sampled = [one for _, one in trials(zoo_name, 400)]
    exponents = sorted(math.log10(one["learning_rate"]) for one in sampled)
    # 400 uniform draws over 2.7 decades: the median's standard error is 2.7 / (2 √400) = 0.07
    assert -4 <= exponents[0] and exponents[-1] <= math.log10(0.05)
    assert exponents[200] == pytest.approx((-4 + math.log10(0.05)) / 2, abs=0.35)
    horizons = sorted(1 / (1 - one["gamma"]) for one in sampled)
    # h = 1 / (1 − γ) from 10 to 10,000: half of them below 316
    assert 10 <= horizons[0] * (1 + 1e-9) and horizons[-1] * (1 - 1e-9) <= 10_000
    assert 100 < horizons[200] < 1_000
    assert min(one["n_trajectories"] for one in sampled) >= 8  # as many as there are envs


def test_every_choice_of_reinforce_is_tried() -> None:
    sampled = [one for _, one in trials("crash_reinforce", 100)]
    tried = {(one["weighting"], one["baseline"]) for one in sampled}
    assert tried == {
        (weighting, baseline) for weighting in ("reward_to_go", "total_return") for baseline in (None, "mean", "leave_one_out")
    }


def test_parameters_become_arguments() -> None:
    params = {"one_minus_gamma": 0.25, "value_batch_size_pow": 6, "net_arch": "small", "activation_fn": "relu", "x": None}
    assert hyperparameters(params) == {
        "gamma": 0.75,
        "value_batch_size": 64,
        "x": None,
        "policy_kwargs": {"net_arch": [64, 64], "activation_fn": nn.ReLU},
    }


def test_a_trial_shows_what_it_means() -> None:
    for trial, sampled in trials("crash_baseline_pg", 3):
        assert trial.user_attrs == {name: sampled[name] for name in ("gamma", "gae_lambda", "value_batch_size")}
