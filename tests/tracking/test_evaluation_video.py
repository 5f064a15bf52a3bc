"""Videos of evaluation episodes."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from moviepy import VideoFileClip
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from crashalgos.tracking import evaluation_video
from crashalgos.tracking.evaluation_video import record_episode, wrap_like


class Corridor(gym.Env):
    """An episode of 7 steps whose observation is the constant 3, as a vector, an image, or both."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 8}  # moviepy adds up 1 / fps: exact for 8
    length = 7

    def __init__(self, kind):
        self.render_mode = "rgb_array"
        vector, image = spaces.Box(0, 10, (2,)), spaces.Box(0, 255, (40, 40, 1), np.uint8)
        self.observation_space = {"vector": vector, "image": image, "dict": spaces.Dict(vector=vector, image=image)}[kind]
        self.action_space = spaces.Discrete(2)

    def observe(self):
        three = [
            np.full(s.shape, 3, s.dtype) for s in getattr(self.observation_space, "values", lambda: [self.observation_space])()
        ]
        if isinstance(self.observation_space, spaces.Dict):
            return dict(zip(self.observation_space, three, strict=True))
        return three[0]

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, self.t == self.length, False, {}

    def render(self):
        return np.full((64, 64, 3), 10 * (self.t % 20), np.uint8)


def n_frames(path):
    with VideoFileClip(str(path)) as clip:
        return round(clip.duration * clip.fps)


@pytest.mark.parametrize(("kind", "policy"), [("vector", "MlpPolicy"), ("image", "CnnPolicy"), ("dict", "MultiInputPolicy")])
def test_records_one_episode_of_any_observation(kind, policy, tmp_path):
    env = VecFrameStack(DummyVecEnv([lambda: Corridor(kind)] * 2), n_stack=3)
    model = A2C(policy, env, n_steps=4)
    path = record_episode(model, lambda: Corridor(kind), tmp_path / "videos")
    assert path.parent == tmp_path / "videos" and path.suffix == ".mp4"
    assert n_frames(path) == 8  # the first observation and 7 steps


def test_endless_episode_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_video, "MAX_STEPS", 5)
    monkeypatch.setattr(Corridor, "length", 10**9)
    model = A2C("MlpPolicy", DummyVecEnv([lambda: Corridor("vector")]))
    assert n_frames(record_episode(model, lambda: Corridor("vector"), tmp_path / "videos")) == 6


def test_id_of_an_environment(tmp_path):
    model = A2C("MlpPolicy", "CartPole-v1")
    assert n_frames(record_episode(model, "CartPole-v1", tmp_path / "videos")) > 1


def test_observations_are_normalised_with_the_frozen_statistics_of_training():
    training_env = VecNormalize(make_vec_env(lambda: Corridor("vector"), n_envs=2))
    training_env.reset()
    training_env.obs_rms.mean, training_env.obs_rms.var = np.array([1.0, 2.0]), np.array([4.0, 0.25])
    count = training_env.obs_rms.count
    wrapped = wrap_like(training_env, DummyVecEnv([lambda: Corridor("vector")]))
    # (3 - 1) / 2 = 1 and (3 - 2) / 0.5 = 2; epsilon moves them by less than 1e-6
    np.testing.assert_allclose(wrapped.reset(), [[1.0, 2.0]], atol=1e-6)
    observation, *_ = wrapped.step(np.array([0]))
    np.testing.assert_allclose(observation, [[1.0, 2.0]], atol=1e-6)
    assert training_env.obs_rms.count == count and training_env.training


def test_dict_frame_stack_keeps_its_channel_orders():
    def make():
        return DummyVecEnv([lambda: Corridor("dict")])

    training_env = VecFrameStack(make(), 3, channels_order={"vector": "first", "image": "last"})
    wrapped = wrap_like(training_env, make())
    assert wrapped.observation_space == training_env.observation_space
    assert wrapped.observation_space["vector"].shape == (6,) and wrapped.observation_space["image"].shape == (40, 40, 3)
