"""Metadata of a run as plain values: hyperparameters, environment, versions, git commit."""

import functools
import importlib.metadata
import inspect
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

_PACKAGES = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numpy", "scipy", "matplotlib", "wandb")
#: Longer texts and larger arrays are replaced by the name of their class, or their shape
_MAX_TEXT_LENGTH = 200
_MAX_ARRAY_SIZE = 20


def run_metadata(model: BaseAlgorithm) -> dict[str, Any]:
    """
    Describes a run: its model, environment and versions.

    The hyperparameters are at the top level, under their arguments' names.

    :param model: an SB3 model with an environment
    :return: plain values: numbers, short texts, and lists and dictionaries of these
    """
    env = model.get_env()
    return {
        "algorithm": type(model).__name__,
        **hyperparameters(model),
        "n_parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
        "env": None if env is None else describe_env(env),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def hyperparameters(model: BaseAlgorithm) -> dict[str, Any]:
    """
    The values of the constructor's arguments.

    :param model: an SB3 model
    :return: a plain value for each argument that the model keeps as an attribute
    """
    names: dict[str, None] = {}
    for cls in type(model).__mro__:
        parameters = inspect.signature(cls).parameters.values()
        names.update(dict.fromkeys(parameter.name for parameter in parameters))
        # A constructor without *args or **kwargs names all its arguments
        if not any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
            break
    values = {name: getattr(model, name) for name in names if name not in ("self", "env", "policy") and hasattr(model, name)}
    return {"policy": model.policy_class.__name__} | {
        name: to_plain(value) for name, value in values.items() if not name.startswith("_")
    }


def describe_env(env: VecEnv) -> dict[str, Any]:
    """
    Describes a training environment.

    :param env: the vectorized environment
    :return: its id (``None`` without a gymnasium spec), number of envs, wrappers (outermost first) and spaces
    """
    wrappers = []
    description: dict[str, Any] = {}
    unwrapped = env
    while isinstance(unwrapped, VecEnvWrapper):
        wrappers.append(type(unwrapped).__name__)
        if isinstance(unwrapped, VecNormalize):
            names = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
            description["vec_normalize"] = {name: to_plain(getattr(unwrapped, name)) for name in names}
        unwrapped = unwrapped.venv
    try:
        spec = unwrapped.get_attr("spec", indices=0)[0]
    except Exception:  # a VecEnv need not have gymnasium's specs
        spec = None
    wrappers.append(type(unwrapped).__name__)
    if spec is not None:
        wrappers += [wrapper.name for wrapper in reversed(spec.additional_wrappers)]
    return description | {
        "id": None if spec is None else spec.id,
        "n_envs": env.num_envs,
        "wrappers": wrappers,
        "observation_space": str(env.observation_space),
        "action_space": str(env.action_space),
    }


def versions() -> dict[str, str]:
    """
    The versions of Python and of the packages that influence a run's numbers.

    :return: each version by the package's name
    """
    import crashalgos

    found = {"python": platform.python_version(), "crashalgos": crashalgos.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # not installed, or copied without an installer
            continue
    return found


def git_commit() -> str | None:
    """
    The git commit of the working directory.

    :return: its hash, with the suffix "-dirty" if tracked files differ from it; ``None`` without git or a repository
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def to_plain(value: Any) -> Any:
    """
    Converts a value to a plain one: numbers, short texts, and lists and dictionaries of these.

    The result has no memory address in it, so it is the same in every process.

    :param value: any value
    :return: a plain value as it is; the number of a constant schedule; the name of a class or function; otherwise a short text
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist()) if value.size <= _MAX_ARRAY_SIZE else f"array of shape {value.shape}"
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, FloatSchedule):
        return to_plain(value.value_schedule)
    if isinstance(value, ConstantSchedule):
        return value.val
    if isinstance(value, th.device):
        return str(value)
    if isinstance(value, functools.partial):
        arguments = [repr(to_plain(item)) for item in value.args]
        arguments += [f"{name}={to_plain(item)!r}" for name, item in value.keywords.items()]
        return f"{to_plain(value.func)}({', '.join(arguments)})"
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    text = repr(value)
    return text if "0x" not in text and len(text) <= _MAX_TEXT_LENGTH else type(value).__qualname__
