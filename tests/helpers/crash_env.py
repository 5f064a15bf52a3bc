"""An environment that fails for some seeds. Importing the module registers it."""

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FAILING_SEED, KILLED_SEED = 1, 2


def died_before() -> bool:
    """Tells whether the process that was to die once has died; a file remembers it."""
    name = os.environ.get("CRASH_ENV_DIES_ONCE")
    if name is None:
        return False
    died = Path(name).exists()
    Path(name).touch()
    return died


class CrashEnv(gym.Env):
    """
    Episodes of 5 steps with reward 1, if the seed is not one that fails.

    :param seconds: how long a step takes
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed == FAILING_SEED:
            raise RuntimeError("this seed fails")
        if seed == KILLED_SEED and not died_before():
            os.kill(os.getpid(), signal.SIGKILL)
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        self.t += 1
        return np.zeros(1, dtype=np.float32), 1.0, self.t == 5, False, {}


class ButtonsEnv(CrashEnv):
    """The same env with three buttons, each pressed or not."""

    action_space = spaces.MultiBinary(3)  # type: ignore[assignment]


gym.register("Crash-v0", CrashEnv)
gym.register("Buttons-v0", ButtonsEnv)
gym.register("Slow-v0", CrashEnv, kwargs={"seconds": 0.05})
