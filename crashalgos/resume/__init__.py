"""Runs that survive a kill: ``ResumeCallback`` writes checkpoints, and continues from one."""

from crashalgos.resume.callbacks import CheckpointError, RestartCallback, ResumeCallback
from crashalgos.resume.renewable_vec_env import RenewableVecEnv

__all__ = ["CheckpointError", "RenewableVecEnv", "RestartCallback", "ResumeCallback"]
