from crashalgos.reinforce.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from crashalgos.reinforce.reinforce import REINFORCE

__all__ = ["REINFORCE", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
