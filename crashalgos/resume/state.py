"""What a checkpoint keeps of callbacks, loggers and models: plain data that can be put back in another process."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, JSONOutputFormat, KVWriter, Logger

_Item = TypeVar("_Item")

#: Of a callback: references to the run, not its own state
_SURROUNDINGS = {"model", "locals", "globals", "parent"}


@runtime_checkable
class Stateful(Protocol):
    """A callback that says itself what it has to remember; of all others it is the plain attributes."""

    def state_dict(self) -> dict[str, Any]:
        """:return: what it has to remember"""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """:param state: what ``state_dict`` gave, in a process that is gone"""


def is_plain(value: Any) -> bool:
    """
    :param value: anything
    :return: whether it is numbers, texts and arrays, and containers of these
    """
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.ndarray))


def plain_attributes(owner: object, left_out: set[str]) -> dict[str, Any]:
    """
    :param owner: a model or a callback
    :param left_out: names
    :return: the attributes that are plain
    """
    return {name: value for name, value in vars(owner).items() if name not in left_out and is_plain(value)}


def walk(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    :param callback: the root
    :return: it, and all that it calls
    """
    yield callback
    children = callback.callbacks if isinstance(callback, CallbackList) else []
    if isinstance(callback, EventCallback) and callback.callback is not None:
        children = [callback.callback]
    for child in children:
        yield from walk(child)


def numbered(items: Iterable[_Item]) -> dict[tuple[str, int], _Item]:
    """
    :param items: callbacks, or outputs of a logger
    :return: each by the name of its class, and its number among those of the class
    """
    seen: Counter[str] = Counter()
    found = {}
    for item in items:
        name = type(item).__qualname__
        found[name, seen[name]] = item
        seen[name] += 1
    return found


def callbacks_state(root: BaseCallback) -> dict[tuple[str, int], dict[str, Any]]:
    """
    :param root: the callback of ``learn``
    :return: what each has to remember
    """
    return {
        key: callback.state_dict() if isinstance(callback, Stateful) else plain_attributes(callback, _SURROUNDINGS)
        for key, callback in numbered(walk(root)).items()
    }


def set_callbacks_state(root: BaseCallback, states: dict[tuple[str, int], dict[str, Any]]) -> None:
    """
    :param root: the callback of ``learn``
    :param states: what ``callbacks_state`` gave; a callback that was not there then, as a progress bar, keeps its own
    """
    for key, callback in numbered(walk(root)).items():
        if key not in states:
            continue
        if isinstance(callback, Stateful):
            callback.load_state_dict(states[key])
        else:
            vars(callback).update(states[key])


def logger_state(logger: Logger) -> dict[str, Any]:
    """
    :param logger: SB3's
    :return: what is recorded and not yet dumped, and the content of its files
    """
    pending = {name: dict(getattr(logger, name)) for name in ("name_to_value", "name_to_count", "name_to_excluded")}
    outputs = numbered(output for output in logger.output_formats if has_file(output))
    return pending | {"files": {key: file_state(output) for key, output in outputs.items()}}


def set_logger_state(logger: Logger, state: dict[str, Any]) -> None:
    """
    :param logger: SB3's
    :param state: what ``logger_state`` gave
    """
    for name in ("name_to_value", "name_to_count", "name_to_excluded"):
        getattr(logger, name).clear()
        getattr(logger, name).update(state[name])
    for key, output in numbered(output for output in logger.output_formats if has_file(output)).items():
        if key in state["files"]:
            set_file_state(output, state["files"][key])


def has_file(output: KVWriter) -> bool:
    """
    :param output: one of the logger's
    :return: whether it writes a text file of its own
    """
    return isinstance(output, (CSVOutputFormat, JSONOutputFormat)) or (
        isinstance(output, HumanOutputFormat) and output.own_file
    )


def file_state(output: Any) -> dict[str, Any]:
    """
    :param output: one that has a file
    :return: the file's content; of a CSV file also its columns
    """
    output.file.flush()
    with open(output.file.name, newline="", encoding=output.file.encoding) as file:
        content = file.read()
    return {"content": content, "keys": list(getattr(output, "keys", []))}


def set_file_state(output: Any, state: dict[str, Any]) -> None:
    """
    :param output: one that has a file
    :param state: what ``file_state`` gave
    """
    output.file.seek(0)
    output.file.truncate()
    output.file.write(state["content"])
    output.file.flush()
    if isinstance(output, CSVOutputFormat):
        output.keys = list(state["keys"])
