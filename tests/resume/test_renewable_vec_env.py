"""Envs that are made anew at a checkpoint behave like new ones."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from crashalgos.resume import RenewableVecEnv
from tests.helpers.resuming import assert_equal

STANDARD_ENVS = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "BipedalWalker-v3",
    "BipedalWalkerHardcore-v3",
    "FrozenLake-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "Blackjack-v1",
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
]


@pytest.mark.parametrize("env_id", STANDARD_ENVS)
def test_envs_that_restart_are_like_new_ones(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the working directory
    used, new = (make_vec_env(env_id, 1, seed=seed, vec_env_cls=RenewableVecEnv) for seed in (1, 2))
    used.action_space.seed(0)
    actions = [np.array([used.action_space.sample()]) for _ in range(150)]
    used.reset()
    for action in actions[::-1][:67]:
        used.step(action)
    used.unwrapped.renew()  # type: ignore[attr-defined]
    for env in (used, new):
        env.seed(77)
    assert_equal(used.reset(), new.reset())
    for action in actions:
        assert_equal(used.step(action)[:3], new.step(action)[:3])


def test_why_envs_are_renewed() -> None:
    # If this fails, BipedalWalker's reset forgets its past, and `RenewableVecEnv` has no reason any more
    used, new = (make_vec_env("BipedalWalker-v3", 1, seed=seed) for seed in (1, 2))
    assert type(used) is DummyVecEnv
    used.action_space.seed(0)
    actions = [np.array([used.action_space.sample()]) for _ in range(700)]
    used.reset()
    for action in actions[::-1][:137]:
        used.step(action)
    for env in (used, new):
        env.seed(77)
        env.reset()
    assert any(not np.array_equal(used.step(action)[0], new.step(action)[0]) for action in actions)
