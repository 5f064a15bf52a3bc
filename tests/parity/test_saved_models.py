"""Models saved before the modules were moved (version 0.1.0 of November 2026) load, and train on."""

import io
import zipfile

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.paths import ROOT
from tests.helpers.trace import identical

SAVED = ROOT / "tests" / "parity" / "saved"
#: File, class, and arguments with which the model was made; all had ``net_arch=[4]`` and two envs of CartPole-v1
MODELS = [
    ("ppo_n_steps", PPO, dict(n_trajectories=None, n_steps=16, batch_size=16, n_epochs=2)),
    ("ppo_n_trajectories", PPO, dict(n_trajectories=3, max_trajectory_steps=50, batch_size=16, n_epochs=2)),
    ("reinforce", REINFORCE, dict(n_trajectories=3, baseline="leave_one_out")),
    ("baseline_pg", BaselinePG, dict(n_trajectories=3, gae_lambda=1.0)),
]


@pytest.mark.parametrize(("name", "algorithm", "arguments"), MODELS)
def test_a_saved_model_loads_and_trains_on(name, algorithm, arguments):
    # The saved schedule ends at 0
    model = algorithm.load(SAVED / name, env=make_vec_env("CartPole-v1", 2), device="cpu", learning_rate=0.01)
    for argument, value in arguments.items():
        assert getattr(model, argument) == value
    with zipfile.ZipFile(SAVED / name) as archive:
        weights = th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        moments = th.load(io.BytesIO(archive.read("policy.optimizer.pth")), weights_only=True)
    assert identical(dict(model.policy.state_dict()), dict(weights))
    assert identical(model.policy.optimizer.state_dict()["state"], moments["state"])
    steps, updates = model.num_timesteps, model._n_updates
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps >= steps + 64 and model._n_updates > updates
    assert not identical(dict(model.policy.state_dict()), dict(weights))
