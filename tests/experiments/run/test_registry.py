"""Algorithms and environments by name."""

import subprocess
import sys

import gymnasium as gym
import pytest
import sb3_contrib
import stable_baselines3

import crashalgos
from crashalgos.experiments.run.registry import ALGORITHMS, algorithm_class, check_environment


def test_each_name_is_its_class() -> None:
    assert {name: algorithm_class(name) for name in ALGORITHMS} == {
        "reinforce": crashalgos.REINFORCE,
        "baseline-pg": crashalgos.BaselinePG,
        "ppo": crashalgos.PPO,
        "sb3-ppo": stable_baselines3.PPO,
        "sb3-a2c": stable_baselines3.A2C,
        "trpo": sb3_contrib.TRPO,
        "ars": sb3_contrib.ARS,
    }


def test_the_error_of_an_unknown_algorithm_suggests_the_nearest_and_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown algorithm 'reinforc'; did you mean 'reinforce'\? \(known: reinforce, "):
        algorithm_class("reinforc")
    with pytest.raises(ValueError, match=r"unknown algorithm 'xyz' \(known: "):
        algorithm_class("xyz")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("cartpole-v1", "unknown environment 'cartpole-v1'; did you mean 'CartPole-v1'?"),
        ("LunarLander-v2", "unknown environment 'LunarLander-v2'; did you mean 'LunarLander-v3'?"),
        ("Nothing/AtAll", "unknown environment 'Nothing/AtAll'"),
        ("no_such_module:X-v0", "environment 'no_such_module:X-v0' cannot be made"),
        # Gymnasium raises ImportError and ValueError for these.
        ("HalfCheetah-v3", "environment 'HalfCheetah-v3' cannot be made: The mujoco v2 and v3"),
        ("GymV21Environment-v0", "environment 'GymV21Environment-v0' cannot be made: "),
        ("a:b:c", "environment 'a:b:c' cannot be made: "),
    ],
)
def test_the_error_of_an_unknown_environment_suggests_the_nearest(env_id: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_environment(env_id)
    assert str(caught.value).startswith(message)


def test_the_error_of_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(env_id: str) -> gym.Env:
        raise gym.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gym, "make", make)
    with pytest.raises(ValueError, match=r'needs a package that is not installed: pip install "crashalgos\[box2d\]"'):
        check_environment("LunarLander-v3")


def test_an_algorithm_imports_only_its_own_package() -> None:
    code = (
        "import sys; from crashalgos.experiments.run.registry import algorithm_class; algorithm_class('sb3-ppo')\n"
        "print([name for name in ('sb3_contrib', 'wandb', 'matplotlib.pyplot', 'yaml') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip().endswith("[]")
