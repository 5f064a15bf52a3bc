"""
Environments that know on which node they are. Importing the module registers them.

In the folder that ``RAY_ENV_TRACES`` names, each process that steps leaves a file, called after its node and itself, with a
dot for each step. Where there is a file called after the node alone, its processes stand still after ``STEPS_TO_STAND``.
"""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

STEPS_TO_STAND = 60
SECONDS_TO_STAND = 120.0


def node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"


class TracedEnv(gym.Env):
    """Episodes of 5 steps, in which the observation says which action is right."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    observation_space = spaces.Box(-1.0, 1.0, (3,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.traces, self.node = Path(os.environ["RAY_ENV_TRACES"]), node()
        self.trace = self.traces / f"{self.node}-{os.getpid()}"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        self.observation = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        return self.observation

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        with self.trace.open("a") as file:
            file.write(".")
        if (self.traces / self.node).exists() and self.trace.stat().st_size >= STEPS_TO_STAND:
            (self.traces / f"standing-{self.node}").touch()
            time.sleep(SECONDS_TO_STAND)
            raise RuntimeError("the node has not died")
        reward = float(action == int(self.observation[0] > 0))
        self.t += 1
        return self.observe(), reward, self.t == 5, False, {}


gym.register("Traced-v0", TracedEnv)
