"""Nothing is lost on the way through RL Zoo: settings, seeds and weights are the same."""

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch as th
import yaml
from rl_zoo3 import ALGOS
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import SimpleLinearSchedule
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import crashalgos
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.model import close_envs, make_model
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.settings import constructor_parameters, load_settings, read_yaml
from crashalgos.zoo import register, settings_file
from crashalgos.zoo.registration import NAMES

Zoo = Callable[..., int]
TUNED = [(zoo_name, env) for zoo_name in NAMES for env in read_yaml(settings_file(zoo_name))]
QUICK = "--num-threads 1 --seed 3 --verbose 0"


def weights(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    return model.policy.state_dict()


def assert_same(one: dict[str, th.Tensor], other: dict[str, th.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(th.equal(one[name], other[name]) for name in one)


def test_the_zoos_own_algorithms_stay() -> None:
    register()
    assert ALGOS["ppo"] is stable_baselines3.PPO
    ours = {name: algorithm for name, algorithm in ALGOS.items() if algorithm.__module__.startswith("crashalgos.")}
    assert ours == {
        "crash_reinforce": crashalgos.REINFORCE,
        "crash_baseline_pg": crashalgos.BaselinePG,
        "crash_ppo": crashalgos.PPO,
    }


def test_an_unknown_name_has_no_settings() -> None:
    with pytest.raises(ValueError, match="`zoo_name` must be one of crash_reinforce, crash_baseline_pg, crash_ppo, got 'ppo'"):
        settings_file("ppo")


def comparable(model: BaseAlgorithm, name: str) -> Any:
    """Gives a hyperparameter; of a schedule, the values at the start, on the way and at the end."""
    value = getattr(model, name) if hasattr(model, name) else getattr(model, f"_{name}")
    if callable(value) and not isinstance(value, type):
        # The two write a linear schedule differently, which makes the last bit of its values.
        return [round(value(progress), 15) for progress in (1.0, 0.6, 0.0)]
    return [value] * 3 if isinstance(value, float) else value


@pytest.mark.parametrize(("zoo_name", "env"), TUNED)
def test_the_zoo_reads_the_tuned_settings_as_we_do(zoo_name: str, env: str, tmp_path: Path) -> None:
    """A file that only one of the two readers understands would fail here."""
    manager = ExperimentManager(
        argparse.Namespace(),
        zoo_name,
        env,
        log_folder=str(tmp_path),
        eval_freq=-1,
        seed=7,
        verbose=0,
        device="cpu",
        config=str(settings_file(zoo_name)),
    )
    prepared = manager.setup_experiment()
    assert prepared is not None
    theirs = prepared[0]
    settings = load_settings(NAMES[zoo_name], env)
    ours = make_model(RunConfig(NAMES[zoo_name], env, settings, Path(), seed=7))
    with contextlib.ExitStack() as ending:
        ending.callback(close_envs, theirs)
        ending.callback(close_envs, ours)
        assert manager.n_timesteps == settings.n_timesteps
        for name in constructor_parameters(type(ours)):
            assert comparable(theirs, name) == comparable(ours, name), name
        assert_same(weights(theirs), weights(ours))
        mine, its = ours.get_env(), theirs.get_env()
        assert mine is not None and its is not None and mine.num_envs == its.num_envs
        assert isinstance(its, VecNormalize) == isinstance(mine, VecNormalize) == bool(settings.normalize)
        if isinstance(mine, VecNormalize) and isinstance(its, VecNormalize):
            scaling = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
            assert [getattr(its, name) for name in scaling] == [getattr(mine, name) for name in scaling]
        # The env's seeds, too.
        assert np.array_equal(mine.reset(), its.reset())


@pytest.mark.parametrize("zoo_name", NAMES)
def test_trained_by_the_zoo_is_trained_without_it(zoo_name: str, zoo: Zoo, tmp_path: Path) -> None:
    """The weights are those of a direct run with the same settings and seed, also when it is continued (`-i`)."""
    algorithm, settings = algorithm_class(NAMES[zoo_name]), load_settings(NAMES[zoo_name], "CartPole-v1")
    arguments = {
        name: SimpleLinearSchedule(value.removeprefix("lin_")) if str(value).startswith("lin_") else value
        for name, value in settings.hyperparameters.items()
    }

    def env() -> VecEnv:
        return make_vec_env("CartPole-v1", n_envs=settings.n_envs, seed=3)

    direct = algorithm(settings.policy, env(), seed=3, **arguments).learn(1024)
    assert zoo(f"train --algo {zoo_name} -n 1024 --eval-freq 400 --eval-episodes 1 {QUICK}") == 0
    agent = tmp_path / "logs" / zoo_name / "CartPole-v1_1" / "CartPole-v1.zip"
    trained = algorithm.load(agent)
    assert trained.num_timesteps == direct.num_timesteps >= 1024
    assert_same(weights(trained), weights(direct))

    written = yaml.load((agent.parent / "CartPole-v1" / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    assert dict(written) == read_yaml(settings_file(zoo_name))["CartPole-v1"]

    direct = algorithm.load(agent, env=env(), seed=3, **arguments).learn(2048)
    assert zoo(f"train --algo {zoo_name} -n 2048 --eval-freq -1 -i {agent} {QUICK}") == 0
    continued = algorithm.load(agent.parents[1] / "CartPole-v1_2" / "CartPole-v1.zip")
    assert_same(weights(continued), weights(direct))
    assert not all(th.equal(tensor, weights(trained)[name]) for name, tensor in weights(continued).items())


def test_crash_ppo_is_the_zoos_ppo(zoo: Zoo, tmp_path: Path) -> None:
    """With their default settings, both give the same weights and the same optimizer, to the last bit."""
    for name in ("ppo", "crash_ppo"):
        assert zoo(f"train --algo {name} -n 512 --eval-freq -1 {QUICK}") == 0
    theirs = stable_baselines3.PPO.load(tmp_path / "logs/ppo/CartPole-v1_1/CartPole-v1.zip")
    ours = crashalgos.PPO.load(tmp_path / "logs/crash_ppo/CartPole-v1_1/CartPole-v1.zip")
    assert_same(weights(ours), weights(theirs))
    moments = [
        [value for state in model.policy.optimizer.state_dict()["state"].values() for value in state.values()]
        for model in (ours, theirs)
    ]
    assert len(moments[0]) == len(moments[1]) > 0
    assert all(th.equal(one, other) for one, other in zip(*moments, strict=True))
