"""
Checks of what comes in: those of arguments raise a ``ValueError`` that names the argument, the value and the allowed range.
"""

import copy
import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch as th


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """
    :param name: the argument's name, for the message
    :param value: what was passed
    :param low: smallest allowed value
    :param high: largest allowed value
    :raises ValueError: if ``value`` is no number in [low, high], or is infinite where neither bound is finite
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
    :raises ValueError: if ``value`` is neither callable nor such a number, as :func:`check_number` says
    """
    if not callable(value):
        check_number(name, value, low)


def not_finite(name: str, array: Any, rows: str | None = None) -> list[str]:
    """
    :param name: what it is called in the description
    :param array: an array or a tensor, or a dict of such; ``None``: nothing is wrong
    :param rows: what the first index counts; ``None``: not said
    :return: for each array that holds NaN or ±∞ where the first one is, and how many there are; empty if all is finite
    """
    if array is None:
        return []
    if isinstance(array, dict):
        return [found for key, value in array.items() for found in not_finite(f"{name}[{key!r}]", value, rows)]
    values = array.detach().cpu().numpy() if isinstance(array, th.Tensor) else np.asarray(array)
    places = np.argwhere(~np.isfinite(values))
    if len(places) == 0:
        return []
    first = tuple(places[0].tolist())
    where = f" ({rows} {first[0]})" if rows else ""
    more = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return [f"{name}{list(first) if first else ''} is {values[first]}{where}{more}"]


def copy_containers(value: Any) -> Any:
    """
    :param value: anything; in ``policy_kwargs``, dicts and lists of arguments
    :return: a copy of it down to the last dict and list; what they contain is the same
    """
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: copy_containers(each) for key, each in value.items()})
        return copied
    if isinstance(value, list):
        return [copy_containers(each) for each in value]
    return value


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "that is finite"
    if math.isinf(high):
        return f"of at least {low:g}"
    return f"in [{low:g}, {high:g}]"
