"""Every algorithm refuses wrong arguments; the message names the argument, the value and the range."""

import math

import numpy as np
import pytest

from crashalgos import BaselinePG
from tests.helpers.algorithms import ALGORITHMS, assert_refused, each_actor_critic, each_algorithm
from tests.helpers.envs import scripted


@each_algorithm
@pytest.mark.parametrize("gamma", [-0.01, 1.01, math.nan, "0.9", None])
def test_gamma(algorithm, gamma):
    assert_refused(algorithm, r"`gamma` must be a number in \[0, 1\], got", gamma=gamma)


@each_algorithm
@pytest.mark.parametrize("n_trajectories", [0, -1, 2.5, 2.0, math.nan, "20", True])
def test_n_trajectories(algorithm, n_trajectories):
    assert_refused(algorithm, "`n_trajectories` must be a whole number of at least 1, got", n_trajectories=n_trajectories)


@each_algorithm
def test_common_arguments(algorithm):
    many = dict(n_trajectories=5)
    assert_refused(
        algorithm, "`max_trajectory_steps` must be a whole number of at least 1, got 0", max_trajectory_steps=0, **many
    )
    assert_refused(algorithm, "`max_grad_norm` must be a number of at least 0, got -1", max_grad_norm=-1, **many)
    assert_refused(algorithm, "`learning_rate` must be a number of at least 0, got -0.1", learning_rate=-0.1, **many)
    assert_refused(algorithm, "`ent_coef` must be a number that is finite, got inf", ent_coef=math.inf, **many)
    assert_refused(algorithm, "Policy NoPolicy unknown", policy="NoPolicy")


@each_actor_critic
@pytest.mark.parametrize("gae_lambda", [-0.1, 1.1])
def test_gae_lambda(algorithm, gae_lambda):
    assert_refused(algorithm, r"`gae_lambda` must be a number in \[0, 1\]", gae_lambda=gae_lambda)


@each_algorithm
def test_a_load_with_wrong_arguments_is_refused(algorithm, tmp_path):
    algorithm("MlpPolicy", scripted([[3]]), n_trajectories=2, device="cpu").save(tmp_path / "model")
    with pytest.raises(ValueError, match="`n_trajectories`"):
        algorithm.load(tmp_path / "model", n_trajectories=0)
    with pytest.raises(ValueError, match="`gamma`"):
        algorithm.load(tmp_path / "model", gamma=2)


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), 1])
def test_numpy_numbers_are_numbers(number):
    for algorithm in ALGORITHMS:
        kwargs = dict(value_learning_rate=number) if algorithm is BaselinePG else {}
        algorithm("MlpPolicy", scripted([[3]]), n_trajectories=np.int64(2), ent_coef=number, device="cpu", **kwargs).learn(1)
