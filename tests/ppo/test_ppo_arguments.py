"""The arguments of PPO alone: which values are refused, by which type of error."""

import math

import pytest
from stable_baselines3.common.buffers import RolloutBuffer

from crashalgos import PPO
from crashalgos.common.trajectory_buffers import TrajectoryBuffer
from tests.helpers.algorithms import assert_refused
from tests.helpers.envs import scripted


def test_what_sb3_asserts_stays_an_assertion():
    assert_refused(PPO, "`batch_size` must be greater than 1", AssertionError, batch_size=1)
    assert_refused(PPO, "`n_steps \\* n_envs` must be greater than 1", AssertionError, env=scripted([[3]]), n_steps=1)
    assert_refused(PPO, "`clip_range_vf` must be positive", AssertionError, clip_range_vf=-1)
    with pytest.warns(UserWarning, match="truncated mini-batch of size 4"):
        PPO("MlpPolicy", scripted([[3], [2]]), n_steps=10, batch_size=8, device="cpu")


def test_wrong_arguments():
    for name in ("n_steps", "n_epochs"):
        assert_refused(PPO, f"`{name}` must be a whole number of at least 1, got 0", normalize_advantage=False, **{name: 0})
    assert_refused(PPO, "`clip_range` must be a number of at least 0, got -0.2", clip_range=-0.2)
    assert_refused(PPO, "`vf_coef` must be a number that is finite, got nan", vf_coef=math.nan)
    assert_refused(PPO, "`target_kl` must be a number of at least 0, got -1", target_kl=-1)


def test_infinite_bounds_are_no_bounds():
    bounds = dict(max_grad_norm=math.inf, target_kl=math.inf, clip_range=math.inf)
    PPO("MlpPolicy", scripted([[3]]), n_steps=8, batch_size=8, device="cpu", **bounds).learn(1)


def test_rollout_buffer_classes():
    class Custom(RolloutBuffer):
        pass

    assert_refused(
        PPO, "`rollout_buffer_class` must be None with `n_trajectories`", rollout_buffer_class=Custom, n_trajectories=2
    )
    assert_refused(PPO, "`rollout_buffer_class` must not grow without `n_trajectories`", rollout_buffer_class=TrajectoryBuffer)
    assert isinstance(PPO("MlpPolicy", scripted([[3]]), rollout_buffer_class=Custom, device="cpu").rollout_buffer, Custom)
    assert_refused(PPO, "`max_trajectory_steps` must be None without `n_trajectories`, got 5", max_trajectory_steps=5)
