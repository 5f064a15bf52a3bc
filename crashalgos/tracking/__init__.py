"""Experiment tracking: the Weights & Biases callback. ``wandb`` itself is imported when a training starts."""

from crashalgos.tracking.wandb_callback import WandbCallback

__all__ = ["WandbCallback"]
