"""REINFORCE: the policy gradient with whole trajectories."""

from crashalgos.reinforce.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from crashalgos.reinforce.reinforce import REINFORCE

__all__ = ["REINFORCE", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
