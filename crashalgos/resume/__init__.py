"""Resuming of interrupted runs: ``ResumeCallback`` writes checkpoints, and continues a run from the last one."""

from crashalgos.resume.callbacks import CheckpointError, RestartCallback, ResumeCallback
from crashalgos.resume.renewable_vec_env import RenewableVecEnv, renew

__all__ = ["CheckpointError", "RenewableVecEnv", "RestartCallback", "ResumeCallback", "renew"]
