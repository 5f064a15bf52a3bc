"""
Algorithms and environments by name.

An algorithm's package is imported when ``algorithm_class`` asks for it.
"""

import difflib
import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from stable_baselines3.common.base_class import BaseAlgorithm


@dataclass(frozen=True)
class Algorithm:
    """
    An algorithm's entry in the registry.

    :param label: its name in figures and tables
    :param module: the module of its class
    :param class_name: the name of its class
    :param settings: the file of ``hyperparams/`` with its tuned settings; SB3's PPO and ours share one
    """

    label: str
    module: str
    class_name: str
    settings: str


ALGORITHMS = {
    "reinforce": Algorithm("REINFORCE", "crashalgos", "REINFORCE", "reinforce"),
    "baseline-pg": Algorithm("BaselinePG", "crashalgos", "BaselinePG", "baseline-pg"),
    "ppo": Algorithm("PPO", "crashalgos", "PPO", "ppo"),
    "sb3-ppo": Algorithm("PPO (SB3)", "stable_baselines3", "PPO", "ppo"),
    "sb3-a2c": Algorithm("A2C (SB3)", "stable_baselines3", "A2C", "a2c"),
    "trpo": Algorithm("TRPO (SB3-Contrib)", "sb3_contrib", "TRPO", "trpo"),
    "ars": Algorithm("ARS (SB3-Contrib)", "sb3_contrib", "ARS", "ars"),
}

# The extra of crashalgos that installs the environments of a gymnasium module.
_EXTRAS = {".box2d": "box2d", ".mujoco": "envs"}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Suggests the nearest known name, for an error's message.

    :param name: an unknown name
    :param known: the known names
    :return: ``"; did you mean 'x'?"``; empty if no name is near
    """
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""


def find_algorithm(name: str) -> Algorithm:
    """
    Finds an algorithm's entry in the registry.

    :param name: the algorithm's name
    :return: its entry
    :raises ValueError: for an unknown name (the message lists the known ones)
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}{did_you_mean(name, ALGORITHMS)} (known: {', '.join(ALGORITHMS)})")
    return ALGORITHMS[name]


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """
    Imports an algorithm's class.

    :param name: the algorithm's name
    :return: its class
    :raises ValueError: for an unknown name
    """
    algorithm = find_algorithm(name)
    return getattr(importlib.import_module(algorithm.module), algorithm.class_name)


def check_environment(env_id: str) -> None:
    """
    Makes the environment once, so that a mistake shows before any work.

    :param env_id: an id of gymnasium, or ``module:id`` for one that the module registers
    :raises ValueError: for an unknown id (the message suggests one), for a missing package (the message says how to install
        it), or if the environment cannot be made
    """
    import gymnasium as gym

    try:
        # Gymnasium warns of a version that it, or the check below, then refuses: one message is enough.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gym.make(env_id)
            env.close()
    except gym.error.DependencyNotInstalled as error:
        entry_point = str(gym.spec(env_id).entry_point)
        extra = next((extra for module, extra in _EXTRAS.items() if module in entry_point), None)
        advice = f'pip install "crashalgos[{extra}]"' if extra else str(error)
        raise ValueError(f"environment {env_id!r} needs a package that is not installed: {advice}") from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise ValueError(f"unknown environment {env_id!r}{did_you_mean(env_id, gym.registry)}") from error
    except Exception as error:  # making an environment runs foreign code
        raise ValueError(f"environment {env_id!r} cannot be made: {' '.join(str(error).split())}") from error
    # Without a version gymnasium takes the latest one, but settings and results belong to one version.
    if env.spec is not None and env.spec.id != env_id.split(":")[-1]:
        raise ValueError(f"unknown environment {env_id!r}; did you mean {env.spec.id!r}?")
