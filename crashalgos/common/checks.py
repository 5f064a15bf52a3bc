"""
Checks of arguments. They raise a ``ValueError`` that names the argument, the value and the allowed range.

In all checks, ``name`` is the argument's name and ``value`` is its value.
"""

import math
from numbers import Integral, Real
from typing import Any


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """
    Checks that an argument is a number in [low, high].

    :param low: smallest allowed value
    :param high: largest allowed value
    :raises ValueError: if it is not; also if the value is infinite and both bounds are
    """
    unbounded = math.isinf(low) and math.isinf(high)
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not low <= float(value) <= high
        or (unbounded and math.isinf(value))
    ):
        raise ValueError(f"`{name}` must be a number {_range(low, high)}, got {value!r}")


def check_count(name: str, value: Any, low: int = 1) -> None:
    """
    Checks that an argument is a whole number of at least ``low``.

    :param low: smallest allowed value
    :raises ValueError: if it is not
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"`{name}` must be a whole number of at least {low}, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """
    Checks that an argument is one of several texts.

    :param choices: the allowed values
    :raises ValueError: if it is not
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_schedule(name: str, value: Any, low: float = -math.inf) -> None:
    """
    Checks that an argument is a schedule: a function of the progress remaining (from 1 to 0), or a constant number.

    :param value: the argument's value; the results of a function are not checked
    :param low: smallest allowed number
    :raises ValueError: if the value is neither callable nor a number of at least ``low``
    """
    if not callable(value):
        check_number(name, value, low)


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "that is finite"
    if math.isinf(high):
        return f"of at least {low:g}"
    return f"in [{low:g}, {high:g}]"
