"""What is recorded of a run: its arguments, its env, the versions."""

import functools
import json
import subprocess

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TransformReward
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import crashalgos
from crashalgos.common.metadata import git_commit, hyperparameters, run_metadata, to_plain


class Opaque:
    pass


def schedule(progress):
    return progress


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        ((1, [2.0, "a"]), [1, [2.0, "a"]]),
        ({"net_arch": {"pi": [8]}, "activation_fn": th.nn.Tanh}, {"net_arch": {"pi": [8]}, "activation_fn": "Tanh"}),
        (th.device("cpu"), "cpu"),
        (FloatSchedule(0.25), 0.25),
        (ConstantSchedule(0.25), 0.25),
        (FloatSchedule(LinearSchedule(1.0, 0.5, 0.1)), "LinearSchedule(start=1.0, end=0.5, end_fraction=0.1)"),
        (FloatSchedule(schedule), "schedule"),
        (functools.partial(schedule, progress=2), "schedule(progress=2)"),
        (Opaque(), "Opaque"),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        (np.zeros((100, 2)), "array of shape (100, 2)"),
    ],
)
def test_plain(value, expected):
    converted = to_plain(value)
    assert converted == expected and type(converted) is type(expected)


def test_hyperparameters_are_the_constructors_arguments():
    model = PPO("MlpPolicy", "CartPole-v1", learning_rate=1e-3, n_steps=16, batch_size=8, clip_range=0.1, seed=3)
    found = hyperparameters(model)
    assert found["learning_rate"] == 1e-3 and found["n_steps"] == 16 and found["clip_range"] == 0.1 and found["seed"] == 3
    assert found["policy"] == "ActorCriticPolicy" and found["clip_range_vf"] is None
    assert not {"self", "env", "_init_setup_model", "num_timesteps", "lr_schedule", "rollout_buffer"} & set(found)


def test_hyperparameters_of_a_subclass_that_passes_arguments_on():
    class Mine(PPO):
        def __init__(self, policy, env, bonus=2, **kwargs):
            self.bonus = bonus
            super().__init__(policy, env, **kwargs)

    found = hyperparameters(Mine("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=8))
    assert found["bonus"] == 2 and found["n_steps"] == 16 and "kwargs" not in found


def test_run_metadata():
    def make():
        return TransformReward(gym.make("CartPole-v1"), lambda reward: 2 * reward)

    env = VecNormalize(VecFrameStack(DummyVecEnv([make, make]), 2), gamma=0.9)
    config = run_metadata(PPO("MlpPolicy", env, n_steps=16, batch_size=8, policy_kwargs={"net_arch": [4]}))
    assert config["algorithm"] == "PPO"
    # Two networks 8 → 4 (36 parameters each), the logits 4 → 2 (10) and the value 4 → 1 (5)
    assert config["n_parameters"] == 36 + 36 + 10 + 5
    assert config["env"]["id"] == "CartPole-v1" and config["env"]["n_envs"] == 2
    assert config["env"]["wrappers"] == ["VecNormalize", "VecFrameStack", "DummyVecEnv", "TransformReward"]
    assert config["env"]["vec_normalize"]["gamma"] == 0.9
    assert config["env"]["action_space"] == "Discrete(2)" and "(8,)" in config["env"]["observation_space"]
    assert config["versions"]["crashalgos"] == crashalgos.__version__
    assert config["versions"]["torch"] == th.__version__.split("+")[0] or config["versions"]["torch"] == th.__version__
    assert {"python", "stable-baselines3", "gymnasium", "numpy", "wandb"} <= set(config["versions"])
    assert "0x" not in json.dumps(config)


def test_environment_without_a_spec():
    class Bare(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    config = run_metadata(PPO("MlpPolicy", DummyVecEnv([Bare]), n_steps=16, batch_size=8))
    assert config["env"]["id"] is None and config["env"]["wrappers"] == ["DummyVecEnv"]


def test_off_policy_algorithm():
    config = run_metadata(DQN("MlpPolicy", make_vec_env("CartPole-v1"), buffer_size=100))
    assert config["buffer_size"] == 100 and "0x" not in json.dumps(config)


def test_git_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    listed = subprocess.run(["git", "log", "--format=%H"], capture_output=True, text=True, check=True)
    assert git_commit() == listed.stdout.strip() and len(git_commit()) == 40
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None
