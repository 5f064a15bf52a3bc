"""A2C is PPO with one epoch over the whole rollout (https://arxiv.org/abs/2205.09123): ρ is 1, so that ∇ρ is ∇ ln π."""

from typing import Any

import pytest
import stable_baselines3 as sb3
import torch as th

from crashalgos import PPO
from tests.helpers.parity_envs import MakeEnv, gym_id, normalized, spaces

N_STEPS = 5
#: What SB3's A2C has by default. PPO's clip ranges are those that cannot bind, a minibatch is the whole rollout.
A2C_AS_PPO = dict(
    learning_rate=7e-4, n_steps=N_STEPS, n_epochs=1, gamma=0.99, gae_lambda=1.0, normalize_advantage=False, clip_range=10.0,
    clip_range_vf=None, target_kl=None, ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5,
)  # fmt: skip
RMSPROP = dict(optimizer_class=th.optim.RMSprop, optimizer_kwargs=dict(alpha=0.99, eps=1e-5, weight_decay=0))


def weights(model) -> th.Tensor:
    return th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


def train(model, n_updates: int) -> th.Tensor:
    before = weights(model).clone()
    model.learn(n_updates * N_STEPS * model.n_envs)
    assert model._n_updates == n_updates
    assert (weights(model) - before).abs().max() > 5e-3  # several learning rates away from the start
    return weights(model)


def train_a2c(make_env: MakeEnv, n_envs: int, **settings: Any) -> th.Tensor:
    return train(sb3.A2C("MlpPolicy", make_env(n_envs), seed=0, device="cpu", **settings), n_updates=20)


def train_ppo(make_env: MakeEnv, n_envs: int, **settings: Any) -> th.Tensor:
    settings = dict(A2C_AS_PPO, batch_size=N_STEPS * n_envs, policy_kwargs=dict(RMSPROP)) | settings
    return train(PPO("MlpPolicy", make_env(n_envs), seed=0, device="cpu", **settings), n_updates=20)


@pytest.mark.parametrize(
    ("make_env", "n_envs", "settings"),
    [
        (gym_id("CartPole-v1"), 4, dict()),
        (gym_id("CartPole-v1"), 1, dict(ent_coef=0.01)),
        (gym_id("Pendulum-v1"), 8, dict()),
        (spaces("box", "multi_discrete"), 3, dict(ent_coef=0.1, vf_coef=0.25)),
        (normalized(spaces("box", "box")), 3, dict(gae_lambda=0.9, normalize_advantage=True)),
    ],
    ids=["CartPole", "CartPole, 1 env, entropy", "Pendulum", "MultiDiscrete, coefficients", "VecNormalize, GAE"],
)
def test_a2c_is_a_special_case_of_ppo(make_env, n_envs, settings):
    difference = train_a2c(make_env, n_envs, **settings) - train_ppo(make_env, n_envs, **settings)
    assert difference.abs().max() < 1e-6


@pytest.mark.parametrize(
    "other",
    [
        dict(batch_size=10),
        dict(gae_lambda=0.95),
        dict(normalize_advantage=True),
        dict(vf_coef=0.4),
        dict(ent_coef=0.1),
        dict(max_grad_norm=0.4),
        dict(policy_kwargs=dict(optimizer_class=th.optim.RMSprop, optimizer_kwargs=dict(alpha=0.99, eps=1e-4))),
    ],
    ids=", ".join,
)
def test_each_setting_counts(other):
    """If one setting differs, the weights differ by far more than rounding."""
    make_env = gym_id("CartPole-v1")
    difference = train_a2c(make_env, 4) - train_ppo(make_env, 4, **other)
    assert difference.abs().max() > 1e-4
