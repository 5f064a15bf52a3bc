"""The random state of a model can be saved and restored."""

import random

import numpy as np
import pytest
import stable_baselines3
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from crashalgos import PPO, REINFORCE
from crashalgos.common.random_state import preserved_random_state, random_state, set_random_state


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(th.rand(1)), float(th.randn(1))]


@pytest.mark.parametrize(
    "make", [lambda: REINFORCE("MlpPolicy", "CartPole-v1"), lambda: stable_baselines3.DQN("MlpPolicy", "CartPole-v1")]
)
def test_a_block_leaves_no_trace(make) -> None:
    model: BaseAlgorithm = make()
    before = random_state(model)
    expected = draws()
    set_random_state(model, before)
    for module in list(model.policy.modules())[::2]:
        module.training = not module.training
    modes = [module.training for module in model.policy.modules()]
    with pytest.raises(RuntimeError), preserved_random_state(model):
        draws()
        np.random.seed(0)
        model.policy.set_training_mode(False)
        raise RuntimeError
    assert draws() == expected
    assert [module.training for module in model.policy.modules()] == modes


def test_the_noise_that_gsde_has_drawn_is_part_of_it() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", use_sde=True, seed=0)
    model.policy.reset_noise(4)
    distribution = model.policy.action_dist
    one, many = distribution.exploration_mat.clone(), distribution.exploration_matrices.clone()
    with preserved_random_state(model):
        model.policy.reset_noise(2)
        assert not th.equal(distribution.exploration_mat, one)
    assert th.equal(distribution.exploration_mat, one) and th.equal(distribution.exploration_matrices, many)
