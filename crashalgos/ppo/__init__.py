from crashalgos.ppo.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from crashalgos.ppo.ppo import PPO

__all__ = ["PPO", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
