"""Callbacks of a run: where it ends, and how far it is."""

import time
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class StopAfterUpdates(BaseCallback):
    """
    Ends the training at the first step after an update.

    :param n_updates: this many updates are made
    """

    def __init__(self, n_updates: int) -> None:
        super().__init__()
        self.n_updates = n_updates
        self.rollouts = 0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        # The rollouts that have ended have been learned from: a step can only follow the update.
        return self.rollouts < self.n_updates


class ReportProgress(BaseCallback):
    """
    Tells how far the training is, a few times a second.

    :param tell: is told
    :param in_updates: whether to count updates instead of environment steps
    """

    PERIOD = 0.25

    def __init__(self, tell: Callable[[int], None], in_updates: bool) -> None:
        super().__init__()
        self.tell = tell
        self.in_updates = in_updates
        self.rollouts = 0
        self.told_at = 0.0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        if time.monotonic() - self.told_at >= self.PERIOD:
            self.told_at = time.monotonic()
            self.tell(self.rollouts if self.in_updates else self.num_timesteps)
        return True

    def state_dict(self) -> dict[str, Any]:
        """:return: how many rollouts there were; when it told is this process's affair"""
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """:param state: what ``state_dict`` gave"""
        self.rollouts = state["rollouts"]
