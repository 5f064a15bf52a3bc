"""Tuned settings in RL Zoo's format: one YAML file an algorithm, in it one mapping an environment."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from crashalgos.experiments.run.registry import algorithm_class, find_algorithm, nearest

HYPERPARAMS = Path(__file__).parents[1] / "hyperparams"

# Arguments of constructors that a run sets itself.
SET_BY_RUN = frozenset({"self", "policy", "env", "seed", "verbose", "device", "tensorboard_log", "_init_setup_model"})


@dataclass
class Settings:
    """
    What is tuned for an algorithm in an environment. All of it is plain data, as it stands in YAML.

    :param n_timesteps: how many environment steps to train for
    :param n_envs: how many copies of the environment run side by side
    :param policy: the policy's name
    :param normalize: whether VecNormalize scales observations and rewards, or its arguments
    :param hyperparameters: arguments of the algorithm's constructor; ``lin_x`` is a schedule that falls from x to 0
    :param tuned: whether they come from a file; if not, what is not given is the class's default
    """

    n_timesteps: int = 100_000
    n_envs: int = 1
    policy: str = "MlpPolicy"
    normalize: bool | dict[str, Any] = False
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    tuned: bool = False

    def as_entry(self) -> dict[str, Any]:
        """:return: one environment's mapping, in RL Zoo's format"""
        entry: dict[str, Any] = {"n_envs": self.n_envs, "n_timesteps": self.n_timesteps, "policy": self.policy}
        if self.normalize:
            entry["normalize"] = self.normalize
        return entry | self.hyperparameters


def load_settings(algo: str, env_id: str) -> Settings:
    """
    :param algo: the algorithm's name
    :param env_id: the environment's id
    :return: the tuned settings, or the class's defaults where the environment is not in the algorithm's file
    :raises ValueError: for an unknown algorithm or a mistake in the file
    """
    path = HYPERPARAMS / f"{find_algorithm(algo).settings}.yml"
    entry = read_yaml(path).get(env_id)
    return Settings() if entry is None else parse_settings(algo, entry, f"{path.name}: {env_id}")


def read_yaml(path: Path) -> dict[str, Any]:
    """
    :param path: a YAML file
    :return: its mapping
    :raises ValueError: if there is none
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
    :param algo: the algorithm's name
    :param entry: one environment's mapping, in RL Zoo's format
    :param where: where it stands, for messages
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
        check_names(algorithm_class(algo), hyperparameters)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return settings


def merged(algo: str, settings: Settings, overrides: Mapping[str, Any], where: str) -> Settings:
    """
    :param algo: the algorithm's name
    :param settings: its settings
    :param overrides: what differs, in RL Zoo's format
    :param where: where it stands, for messages
    :return: settings with what differs
    :raises ValueError: if a key is no argument of the algorithm's constructor
    """
    return replace(parse_settings(algo, settings.as_entry() | dict(overrides), where), tuned=settings.tuned)


def constructor_parameters(algorithm: type[BaseAlgorithm]) -> dict[str, inspect.Parameter]:
    """
    :param algorithm: an algorithm's class
    :return: the arguments of its constructor that are hyperparameters, by name, in order
    """
    parameters = inspect.signature(algorithm.__init__).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in SET_BY_RUN}


def check_names(algorithm: type[BaseAlgorithm], hyperparameters: Mapping[str, Any]) -> None:
    """
    :param algorithm: an algorithm's class
    :param hyperparameters: arguments for its constructor
    :raises ValueError: if it has no argument of one of these names
    """
    known = constructor_parameters(algorithm)
    for name in hyperparameters:
        if name not in known:
            raise ValueError(f"{algorithm.__name__} has no hyperparameter {name!r}{nearest(name, known)}")


def constructor_arguments(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    Plain data → what the constructor takes: ``lin_x`` becomes a schedule, the name of an activation its class.

    :param hyperparameters: as in YAML
    :return: keyword arguments
    :raises ValueError: for a schedule or an activation that cannot be read
    """
    arguments = {
        name: linear_schedule(name, value) if isinstance(value, str) and value.startswith("lin_") else value
        for name, value in hyperparameters.items()
    }
    if arguments.get("policy_kwargs") is not None:
        arguments["policy_kwargs"] = policy_arguments(arguments["policy_kwargs"])
    return arguments


def linear_schedule(name: str, text: str) -> LinearSchedule:
    """
    :param name: the hyperparameter's name, for the message
    :param text: ``lin_x``
    :return: the schedule that falls linearly from x to 0
    :raises ValueError: if x is no number
    """
    try:
        start = float(text.removeprefix("lin_"))
    except ValueError as error:
        raise ValueError(f"`{name}` must be a number or lin_<number>, got {text!r}") from error
    return LinearSchedule(start, 0.0, 1.0)


def policy_arguments(policy_kwargs: Any) -> dict[str, Any]:
    """
    :param policy_kwargs: arguments of the policy's constructor, ``activation_fn`` by name
    :return: the same with the activation's class
    :raises ValueError: if it is no mapping, or for an unknown activation
    """
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
