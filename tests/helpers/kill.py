"""A callback that ends a run as a kill does."""

from stable_baselines3.common.callbacks import BaseCallback


class Killed(BaseException):
    """Ends a run that no one catches: it is no ``Exception``."""


class Kill(BaseCallback):
    """Raises :class:`Killed` at a step; ``None``: never."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        # A function, because a resume restores plain attributes
        self.due = lambda: at is not None and self.num_timesteps >= at

    def _on_step(self) -> bool:
        if self.due():
            raise Killed
        return True
