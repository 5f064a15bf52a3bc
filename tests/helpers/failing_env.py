"""An environment that raises an error in the process of "eager", and ends the process of "floor"."""

import multiprocessing
import os
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class FailingEnv(gym.Env):
    """Has episodes of 5 steps, and fails in the speed harness's process of some participants."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    observation_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        name = multiprocessing.current_process().name
        if name == "eager":
            raise RuntimeError("this env fails")
        if name == "floor":
            os._exit(3)
        self.t += 1
        return np.zeros(1, dtype=np.float32), 1.0, self.t == 5, False, {}


gym.register("Failing-v0", FailingEnv)
