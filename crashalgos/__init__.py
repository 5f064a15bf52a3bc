"""The policy-gradient ladder of a course as Stable-Baselines3 algorithms: REINFORCE, BaselinePG, PPO."""

from crashalgos.baseline_pg import BaselinePG
from crashalgos.ppo import PPO
from crashalgos.reinforce import REINFORCE

__version__ = "0.1.0"

__all__ = ["PPO", "REINFORCE", "BaselinePG", "__version__"]
