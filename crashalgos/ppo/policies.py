"""The names of PPO's policies, which are SB3's."""

from stable_baselines3.ppo.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
