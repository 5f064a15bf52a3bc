"""Our algorithms in RL Zoo (https://github.com/DLR-RM/rl-baselines3-zoo): ``python -m crashalgos.zoo``."""

from crashalgos.zoo.registration import register, settings_file

__all__ = ["register", "settings_file"]
