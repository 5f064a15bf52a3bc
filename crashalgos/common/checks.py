"""Checks of arguments: each raises a ``ValueError`` that names the argument, the value and the allowed range."""

import math
from numbers import Integral, Real
from typing import Any


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """
    :param name: the argument's name, for the message
    :param value: what was passed
    :param low: smallest allowed value
    :param high: largest allowed value
    :raises ValueError: if ``value`` is no finite number in [low, high]
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or not low <= float(value) <= high:
        raise ValueError(f"`{name}` must be a number {_range(low, high)}, got {value!r}")


def check_count(name: str, value: Any, low: int = 1) -> None:
    """
    :param name: the argument's name, for the message
    :param value: what was passed
    :param low: smallest allowed value
    :raises ValueError: if ``value`` is no whole number of at least ``low``
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"`{name}` must be a whole number of at least {low}, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """
    :param name: the argument's name, for the message
    :param value: what was passed
    :param choices: the allowed values
    :raises ValueError: if ``value`` is none of them
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_schedule(name: str, value: Any, low: float = -math.inf) -> None:
    """
    :param name: the argument's name, for the message
    :param value: a number, or a function of the progress remaining (from 1 to 0); of a function nothing more is checked
    :param low: smallest allowed number
    :raises ValueError: if ``value`` is neither a finite number of at least ``low`` nor callable
    """
    if not callable(value):
        check_number(name, value, low)


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "that is finite"
    if math.isinf(high):
        return f"of at least {low:g}"
    return f"in [{low:g}, {high:g}]"
