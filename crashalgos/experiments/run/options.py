"""The arguments of an algorithm's constructor as a dataclass, so that a command line has an option for each."""

import dataclasses
import inspect
import shlex
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Union

from stable_baselines3.common.base_class import BaseAlgorithm

from crashalgos.experiments.run.settings import constructor_parameters

# What a command line can give, in the order in which its text is read: what is no number is a word.
PLAIN_TYPES: tuple[type, ...] = (types.NoneType, bool, int, float, str)


def hyperparameter_options(algorithm: type[BaseAlgorithm], tuned: Mapping[str, Any]) -> type[Any]:
    """
    Types and defaults are those of the constructor's signature, the help is its ``:param:`` lines.

    :param algorithm: an algorithm's class
    :param tuned: values that win over the signature's defaults
    :return: a dataclass, one field for each argument that a command line can give
    """
    fields = []
    for name, parameter in constructor_parameters(algorithm).items():
        default = tuned.get(name, parameter.default)
        if name == "policy_kwargs":
            option_type, default = str | None, None if default is None else as_flow_yaml(default)
        else:
            option_type = plain_type(parameter.annotation)
        if option_type is not None:
            fields.append((name, option_type, dataclasses.field(default=default)))
    docstring = inspect.getdoc(algorithm) or ""
    return dataclasses.make_dataclass("Hyperparameters", fields, kw_only=True, namespace={"__doc__": docstring})


def plain_type(annotation: Any) -> Any:
    """
    :param annotation: of a constructor's argument
    :return: the part of it that a command line can give, a schedule as text (``lin_x``); ``None`` if there is none
    """
    members = set(typing.get_args(annotation)) if is_union(annotation) else {annotation}
    if Callable[[float], float] in members:
        members.add(str)
    plain = [member for member in PLAIN_TYPES if member in members]
    if not [member for member in plain if member is not types.NoneType]:
        return None
    return Union[tuple(plain)]  # noqa: UP007 (the members are known at run time only)


def is_union(annotation: Any) -> bool:
    """
    :param annotation: a type
    :return: whether it is ``X | Y``
    """
    return typing.get_origin(annotation) in (Union, types.UnionType)


def given_hyperparameters(options: Any, algorithm: type[BaseAlgorithm], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param options: an instance of ``hyperparameter_options(algorithm, tuned)``
    :param algorithm: an algorithm's class
    :param tuned: as for the options
    :return: the tuned values and all that differs from the class's defaults, as plain data
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
    :param script: the script's path in the repository
    :param options: its command line, a dataclass
    :param names: of the options that are shown; by default all
    :param changes: values in the place of theirs
    :return: the command line as text; an option that is ``None`` or empty is left out
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


def as_flow_yaml(value: Mapping[str, Any]) -> str:
    """
    :param value: plain data
    :return: YAML in one line
    """
    import yaml

    return yaml.safe_dump(dict(value), default_flow_style=True, sort_keys=False, width=10_000).strip()


def read_flow_yaml(name: str, text: str) -> dict[str, Any]:
    """
    :param name: the option's name, for the message
    :param text: YAML in one line
    :return: its mapping
    :raises ValueError: if it is none
    """
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a mapping in YAML, such as '{{net_arch: [64, 64]}}', got {text!r}")
    return value
