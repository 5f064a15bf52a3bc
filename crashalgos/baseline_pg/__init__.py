"""BaselinePG: the policy gradient with a value function as its baseline."""

from crashalgos.baseline_pg.baseline_pg import BaselinePG
from crashalgos.baseline_pg.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["BaselinePG", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
