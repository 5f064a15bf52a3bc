"""A run on SB3's SubprocVecEnv equals one on DummyVecEnv."""

from contextlib import suppress
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor, VecNormalize

from crashalgos import BaselinePG
from crashalgos.resume import ResumeCallback
from tests.helpers.kill import Kill, Killed
from tests.helpers.trace import differences, learned
from tests.helpers.training import LIMIT, N_ENVS, cartpole, train


def pendulum() -> gym.Env:
    return gym.make("Pendulum-v1", max_episode_steps=LIMIT)


def in_processes(makers: list) -> VecEnv:
    return SubprocVecEnv(makers, start_method="fork")


@pytest.mark.parametrize("variant", ["ppo_steps", "baseline_pg", "reinforce"])
def test_a_run_is_one_on_dummy_vec_env_to_the_last_bit(variant):
    makers = [lambda: Monitor(cartpole())] * N_ENVS
    found, expected = (train(variant, make(makers)) for make in (in_processes, DummyVecEnv))
    assert differences(expected, found) == []
    assert max(length for _, length in expected["episodes"]) == LIMIT


def test_rewards_of_float64():
    """Rewards come as the env gives them, where DummyVecEnv rounds them; learning uses float32 in both."""
    found, expected = (train("baseline_pg", make([pendulum] * N_ENVS)) for make in (in_processes, DummyVecEnv))
    weights = [{name: value for name, value in one.items() if name.startswith("weights/")} for one in (expected, found)]
    assert differences(*weights) == []


def test_vec_normalize_tells_them_apart():
    """VecNormalize divides before anything is rounded. If this fails, the docs are wrong."""

    def around(env: VecEnv) -> VecEnv:
        return VecNormalize(VecMonitor(env), gamma=0.9)

    found, expected = (
        train("ppo_steps", around(make([pendulum] * N_ENVS)), total_timesteps=192) for make in (in_processes, DummyVecEnv)
    )
    assert "weights/value_net.weight" in differences(expected, found)


def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path):
    def learn(name: str, kill_at: int | None = None) -> Any:
        env = in_processes([lambda: Monitor(cartpole())] * N_ENVS)
        model = BaselinePG("MlpPolicy", env, n_trajectories=3, seed=3, device="cpu")
        with suppress(Killed):
            model.learn(400, callback=[ResumeCallback(tmp_path / name, 150), Kill(kill_at)])
        env.close()
        return model

    undisturbed = learn("undisturbed")
    learn("killed", 250)
    assert differences(learned(undisturbed), learned(learn("killed"))) == []
