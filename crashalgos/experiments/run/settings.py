"""
Tuned settings in RL Zoo's format: one YAML file per algorithm, with one mapping per environment.

``algo`` is always an algorithm's name in the registry.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from crashalgos.experiments.run.registry import algorithm_class, did_you_mean, find_algorithm

HYPERPARAMS = Path(__file__).parents[1] / "hyperparams"

# Arguments of constructors that a run sets itself.
_SET_BY_RUN = frozenset({"self", "policy", "env", "seed", "verbose", "device", "tensorboard_log", "_init_setup_model"})


@dataclass
class Settings:
    """
    The settings of an algorithm in an environment, as plain data from YAML.

    :param n_timesteps: environment steps of training
    :param n_envs: copies of the environment
    :param policy: the policy's name
    :param normalize: whether VecNormalize scales observations and rewards; or the arguments of VecNormalize
    :param hyperparameters: arguments of the algorithm's constructor; ``lin_x`` is a schedule that falls from x to 0
    :param tuned: whether the settings come from a file; if not, they are the class's defaults
    """

    n_timesteps: int = 100_000
    n_envs: int = 1
    policy: str = "MlpPolicy"
    normalize: bool | dict[str, Any] = False
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    tuned: bool = False

    def as_entry(self) -> dict[str, Any]:
        """Gives the settings in RL Zoo's format."""
        entry: dict[str, Any] = {"n_envs": self.n_envs, "n_timesteps": self.n_timesteps, "policy": self.policy}
        if self.normalize:
            entry["normalize"] = self.normalize
        return entry | self.hyperparameters


def load_settings(algo: str, env_id: str) -> Settings:
    """
    Loads the tuned settings of an algorithm in an environment.

    :param env_id: the environment's id
    :return: the tuned settings; the class's defaults if the algorithm's file has no entry for the environment
    :raises ValueError: for an unknown algorithm or a mistake in the file
    """
    path = HYPERPARAMS / f"{find_algorithm(algo).settings}.yml"
    entry = read_yaml(path).get(env_id)
    return Settings() if entry is None else parse_settings(algo, entry, f"{path.name}: {env_id}")


def read_yaml(path: Path) -> dict[str, Any]:
    """
    Reads a YAML file that holds a mapping.

    :param path: the file
    :return: its mapping
    :raises ValueError: if it is no YAML or no mapping
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} has no mapping at its top")
    return content


def parse_settings(algo: str, entry: Mapping[str, Any], where: str) -> Settings:
    """
    Reads one environment's entry of a settings file.

    :param entry: one environment's mapping, in RL Zoo's format
    :param where: the entry's place, for messages
    :return: the settings
    :raises ValueError: if a key is no argument of the algorithm's constructor
    """
    hyperparameters = dict(entry)
    settings = Settings(tuned=True)
    settings.n_timesteps = int(hyperparameters.pop("n_timesteps", settings.n_timesteps))
    settings.n_envs = int(hyperparameters.pop("n_envs", settings.n_envs))
    settings.policy = hyperparameters.pop("policy", settings.policy)
    settings.normalize = hyperparameters.pop("normalize", settings.normalize)
    settings.hyperparameters = hyperparameters
    try:
        check_hyperparameter_names(algorithm_class(algo), hyperparameters)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return settings


def merged(algo: str, settings: Settings, overrides: Mapping[str, Any], where: str) -> Settings:
    """
    Replaces some of the settings.

    :param settings: its settings
    :param overrides: the new values, in RL Zoo's format
    :param where: the place of the new values, for messages
    :return: the new settings
    :raises ValueError: if a key is no argument of the algorithm's constructor
    """
    return replace(parse_settings(algo, settings.as_entry() | dict(overrides), where), tuned=settings.tuned)


def constructor_parameters(algorithm: type[BaseAlgorithm]) -> dict[str, inspect.Parameter]:
    """
    Finds the hyperparameters among the arguments of an algorithm's constructor.

    :param algorithm: the algorithm's class
    :return: the arguments by name, in the constructor's order
    """
    parameters = inspect.signature(algorithm.__init__).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in _SET_BY_RUN}


def check_hyperparameter_names(algorithm: type[BaseAlgorithm], hyperparameters: Mapping[str, Any]) -> None:
    """
    Checks that an algorithm has each of the hyperparameters.

    :param algorithm: the algorithm's class
    :param hyperparameters: arguments for its constructor
    :raises ValueError: for an unknown name (the message suggests one)
    """
    known = constructor_parameters(algorithm)
    for name in hyperparameters:
        if name not in known:
            raise ValueError(f"{algorithm.__name__} has no hyperparameter {name!r}{did_you_mean(name, known)}")


def constructor_arguments(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    Makes the constructor's arguments from plain data: ``lin_x`` becomes a schedule, an activation's name its class.

    :param hyperparameters: as in YAML
    :return: keyword arguments
    :raises ValueError: for a schedule or an activation that cannot be read
    """
    arguments = {
        name: _linear_schedule(name, value) if isinstance(value, str) and value.startswith("lin_") else value
        for name, value in hyperparameters.items()
    }
    if arguments.get("policy_kwargs") is not None:
        arguments["policy_kwargs"] = _policy_arguments(arguments["policy_kwargs"])
    return arguments


def _linear_schedule(name: str, text: str) -> LinearSchedule:
    """Reads ``lin_x``, the schedule that falls linearly from x to 0."""
    try:
        start = float(text.removeprefix("lin_"))
    except ValueError as error:
        raise ValueError(f"`{name}` must be a number or lin_<number>, got {text!r}") from error
    return LinearSchedule(start, 0.0, 1.0)


def _policy_arguments(policy_kwargs: Any) -> dict[str, Any]:
    """Replaces the name of an activation by its class."""
    from torch import nn

    activations = {"tanh": nn.Tanh, "relu": nn.ReLU}
    if not isinstance(policy_kwargs, Mapping):
        raise ValueError(f"`policy_kwargs` must be a mapping, got {policy_kwargs!r}")
    arguments = dict(policy_kwargs)
    if "activation_fn" in arguments:
        name = arguments["activation_fn"]
        if name not in activations:
            raise ValueError(f"`activation_fn` must be one of {', '.join(activations)}, got {name!r}")
        arguments["activation_fn"] = activations[name]
    return arguments
