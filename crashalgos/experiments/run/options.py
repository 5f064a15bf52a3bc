"""Options of a command line, made from the arguments of an algorithm's constructor; and a command line as text."""

import dataclasses
import inspect
import shlex
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Union

from stable_baselines3.common.base_class import BaseAlgorithm

from crashalgos.experiments.run.settings import constructor_parameters

# The types that a command line can give, in the order in which its text is read: a number before a word.
_PLAIN_TYPES: tuple[type, ...] = (types.NoneType, bool, int, float, str)


def hyperparameter_options(algorithm: type[BaseAlgorithm], tuned: Mapping[str, Any]) -> type[Any]:
    """
    Makes a dataclass with an option for each hyperparameter that a command line can give.

    Types and defaults come from the constructor's signature, the help from its ``:param:`` lines.

    :param algorithm: the algorithm's class
    :param tuned: values that replace the signature's defaults
    :return: the dataclass
    """
    fields = []
    for name, parameter in constructor_parameters(algorithm).items():
        default = tuned.get(name, parameter.default)
        if name == "policy_kwargs":
            option_type, default = str | None, None if default is None else _as_flow_yaml(default)
        else:
            option_type = plain_type(parameter.annotation)
        if option_type is not None:
            fields.append((name, option_type, dataclasses.field(default=default)))
    docstring = inspect.getdoc(algorithm) or ""
    return dataclasses.make_dataclass("Hyperparameters", fields, kw_only=True, namespace={"__doc__": docstring})


def plain_type(annotation: Any) -> Any:
    """
    Finds the part of a type that a command line can give. A schedule is given as text (``lin_x``).

    :param annotation: the type of a constructor's argument
    :return: the type of the option; ``None`` if a command line can give no part of it
    """
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    members = set(typing.get_args(annotation)) if is_union else {annotation}
    if Callable[[float], float] in members:
        members.add(str)
    plain = [member for member in _PLAIN_TYPES if member in members]
    if not [member for member in plain if member is not types.NoneType]:
        return None
    return Union[tuple(plain)]  # noqa: UP007 (the members are known at run time only)


def given_hyperparameters(options: Any, algorithm: type[BaseAlgorithm], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """
    Gives the hyperparameters that differ from the class's defaults, and all tuned ones.

    :param options: an instance of ``hyperparameter_options(algorithm, tuned)``
    :param algorithm: the algorithm's class
    :param tuned: the tuned values
    :return: the hyperparameters as plain data
    :raises ValueError: if a mapping cannot be read
    """
    parameters = constructor_parameters(algorithm)
    given = dict(tuned)
    for name, value in dataclasses.asdict(options).items():
        if name == "policy_kwargs" and value is not None:
            value = read_flow_yaml(name, value)
        if name in tuned or value != parameters[name].default:
            given[name] = value
    return given


def command(script: str, options: Any, names: Collection[str] | None = None, **changes: Any) -> str:
    """
    Writes the command line that gives these options.

    :param script: the script's path in the repository
    :param options: the script's options, a dataclass
    :param names: names of the options to write; by default all
    :param changes: values that replace those of the options
    :return: the command line; an option that is ``None`` or empty is left out
    """
    words = ["python", script]
    for name, value in {**vars(options), **changes}.items():
        flag = name.replace("_", "-")
        if value is None or value == () or (names is not None and name not in names):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def _as_flow_yaml(value: Mapping[str, Any]) -> str:
    """Writes plain data as YAML in one line."""
    import yaml

    return yaml.safe_dump(dict(value), default_flow_style=True, sort_keys=False, width=10_000).strip()


def read_flow_yaml(name: str, text: str) -> dict[str, Any]:
    """
    Reads a mapping from YAML in one line.

    :param name: the option's name, for the message
    :param text: the YAML
    :return: the mapping
    :raises ValueError: if it is no mapping
    """
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a mapping in YAML, such as '{{net_arch: [64, 64]}}', got {text!r}")
    return value
