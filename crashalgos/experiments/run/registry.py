"""Algorithms and environments by name. An algorithm's package is imported when the algorithm is asked for."""

import difflib
import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from stable_baselines3.common.base_class import BaseAlgorithm


@dataclass(frozen=True)
class Algorithm:
    """
    :param label: what figures and tables call it
    :param module: where its class is
    :param class_name: its class
    :param settings: the file of ``hyperparams/`` with its tuned settings; SB3's PPO and ours share theirs
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

# What to install for the environments of a gymnasium module.
EXTRAS = {".box2d": "box2d", ".mujoco": "envs"}


def nearest(name: str, known: Iterable[str]) -> str:
    """
    :param name: a name that is not known
    :param known: the names that are
    :return: ``"; did you mean 'x'?"``, or nothing where none is near
    """
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""


def find_algorithm(name: str) -> Algorithm:
    """
    :param name: the algorithm's name
    :return: its entry
    :raises ValueError: if there is none, naming those that there are
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}{nearest(name, ALGORITHMS)} (known: {', '.join(ALGORITHMS)})")
    return ALGORITHMS[name]


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """
    :param name: the algorithm's name
    :return: its class
    :raises ValueError: if there is none of that name
    """
    algorithm = find_algorithm(name)
    return getattr(importlib.import_module(algorithm.module), algorithm.class_name)


def check_environment(env_id: str) -> None:
    """
    Make the environment once, so that what is missing shows before any work.

    :param env_id: an id of gymnasium, or ``module:id`` for one that the module registers
    :raises ValueError: if there is none, naming the nearest, or if a package that it needs is missing, naming the extra
    """
    import gymnasium as gym

    try:
        # Gymnasium warns of a version that it then refuses, or that is refused below: once is enough.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gym.make(env_id)
            env.close()
    except gym.error.DependencyNotInstalled as error:
        entry_point = str(gym.spec(env_id).entry_point)
        extra = next((extra for module, extra in EXTRAS.items() if module in entry_point), None)
        advice = f'pip install "crashalgos[{extra}]"' if extra else str(error)
        raise ValueError(f"environment {env_id!r} needs a package that is not installed: {advice}") from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise ValueError(f"unknown environment {env_id!r}{nearest(env_id, gym.registry)}") from error
    except Exception as error:  # making one runs foreign code
        raise ValueError(f"environment {env_id!r} cannot be made: {' '.join(str(error).split())}") from error
    # Gymnasium takes the latest version where none is given. Settings and results are those of one version.
    if env.spec is not None and env.spec.id != env_id.split(":")[-1]:
        raise ValueError(f"unknown environment {env_id!r}; did you mean {env.spec.id!r}?")
