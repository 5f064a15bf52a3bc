"""Experiment tracking with Weights & Biases. ``wandb`` itself is imported when training starts."""

from crashalgos.tracking.wandb_callback import WandbCallback

__all__ = ["WandbCallback"]
