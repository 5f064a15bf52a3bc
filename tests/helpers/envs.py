"""Envs whose episodes are known beforehand, and envs of every kind of space."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv


class ScriptedEnv(gym.Env):
    """
    Episodes of given lengths, reward 1 a step, observation (index of the env, number of the episode, t).

    :param index: the env's place in the vector
    :param lengths: the episodes' lengths; the last one repeats
    :param end: "terminated", "truncated" or "both"
    """

    observation_space = spaces.Box(-1e6, 1e6, (3,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, index: int, lengths: list[float], end: str = "terminated") -> None:
        self.index, self.lengths, self.end = index, lengths, end
        self.episode = -1
        self.resets = 0

    def _observation(self) -> np.ndarray:
        return np.array([self.index, self.episode, self.t], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.episode += 1
        self.resets += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        over = self.t >= self.lengths[min(self.episode, len(self.lengths) - 1)]
        return self._observation(), 1.0, over and self.end != "truncated", over and self.end != "terminated", {}


def scripted(lengths: list[list[float]], end: str = "terminated", **monitor: Any) -> DummyVecEnv:
    """Makes a vector of monitored ScriptedEnvs, from the lengths of each one's episodes."""
    return DummyVecEnv([lambda i=i, own=own: Monitor(ScriptedEnv(i, own, end), **monitor) for i, own in enumerate(lengths)])


class RandomLengthEnv(gym.Env):
    """Episodes whose return is their length, 1 or 20 with equal probability: mean 10.5, standard deviation 9.5."""

    observation_space = spaces.Box(-1, 1, (1,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.length = self.np_random.choice([1, 20])
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, dtype=np.float32), 1.0, self.t >= self.length, False, {}


class SpacesEnv(gym.Env):
    """Random observations of any space, episodes of 2 to 6 steps, half of them truncated."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps_left = int(self.np_random.integers(2, 7))
        self.truncates = bool(self.np_random.integers(2))
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps_left -= 1
        over = self.steps_left == 0
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, over and not self.truncates, over and self.truncates, {}


VECTOR = spaces.Box(-1, 1, (3,), dtype=np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 3), dtype=np.uint8)
OBSERVATION_SPACES = {
    "box": ("MlpPolicy", VECTOR),
    "discrete": ("MlpPolicy", spaces.Discrete(4)),
    "multi_discrete": ("MlpPolicy", spaces.MultiDiscrete([2, 3])),
    "multi_binary": ("MlpPolicy", spaces.MultiBinary(3)),
    "image": ("CnnPolicy", IMAGE),
    "dict": ("MultiInputPolicy", spaces.Dict({"vector": VECTOR, "image": IMAGE, "which": spaces.Discrete(3)})),
}
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-2, 2, (2,), dtype=np.float32),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
}


def of_spaces(observation: str, action: str, n_envs: int = 3) -> DummyVecEnv:
    """Makes a vector of monitored SpacesEnvs, from keys of ``OBSERVATION_SPACES`` and ``ACTION_SPACES``."""
    import copy

    def make() -> Monitor:
        return Monitor(SpacesEnv(copy.deepcopy(OBSERVATION_SPACES[observation][1]), copy.deepcopy(ACTION_SPACES[action])))

    return DummyVecEnv([make] * n_envs)
