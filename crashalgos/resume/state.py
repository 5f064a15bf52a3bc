"""
The parts of a checkpoint that belong to callbacks and to the logger, and the attributes of a model.

Each part is saved by a function ``…_state`` and restored by ``set_…_state``. All of it is *plain*: numbers, texts, arrays, and
containers of these. So another process can restore it into objects that it has made itself.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, JSONOutputFormat, KVWriter, Logger

_Item = TypeVar("_Item")
#: A class name and the index among the objects of this class: it identifies a callback or an output in another process
_Key = tuple[str, int]

#: Attributes of a callback that refer to the run; they are not the callback's own state
_RUN_REFERENCES = {"model", "locals", "globals", "parent"}
#: Attributes of SB3's logger that hold what is recorded and not yet written
_PENDING = ("name_to_value", "name_to_count", "name_to_excluded")


@runtime_checkable
class _Stateful(Protocol):
    """A callback with its own ``state_dict``. Of other callbacks, the plain attributes are saved."""

    def state_dict(self) -> dict[str, Any]:
        """The state to save."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that ``state_dict`` returned in another process."""


def is_plain(value: Any) -> bool:
    """
    Whether a value consists of numbers, texts and arrays, and containers of these.

    :param value: any value
    :return: True if it is plain
    """
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.ndarray))


def plain_attributes(owner: object, exclude: set[str]) -> dict[str, Any]:
    """
    The attributes of a model or a callback that are plain.

    :param owner: the model or callback
    :param exclude: names of attributes to leave out
    :return: the plain attributes by name
    """
    return {name: value for name, value in vars(owner).items() if name not in exclude and is_plain(value)}


def callbacks_state(root: BaseCallback) -> dict[_Key, dict[str, Any]]:
    """
    The state of a callback and of all callbacks inside it.

    :param root: the callback that ``learn`` uses
    :return: each callback's state
    """
    return {
        key: callback.state_dict() if isinstance(callback, _Stateful) else plain_attributes(callback, _RUN_REFERENCES)
        for key, callback in _by_class_and_index(_callbacks_in(root)).items()
    }


def set_callbacks_state(root: BaseCallback, states: dict[_Key, dict[str, Any]]) -> None:
    """
    Restores the state of a callback and of all callbacks inside it.

    A callback without a saved state keeps its own: a progress bar that the interrupted process did not have, for example.

    :param root: the callback that ``learn`` uses
    :param states: the result of :func:`callbacks_state`
    """
    for key, callback in _by_class_and_index(_callbacks_in(root)).items():
        if key not in states:
            continue
        if isinstance(callback, _Stateful):
            callback.load_state_dict(states[key])
        else:
            vars(callback).update(states[key])


def logger_state(logger: Logger) -> dict[str, Any]:
    """
    The values that are recorded and not yet written, and the content of the logger's files.

    :param logger: SB3's logger
    :return: its state
    """
    pending = {name: dict(getattr(logger, name)) for name in _PENDING}
    return pending | {"files": {key: _file_state(output) for key, output in _file_outputs(logger).items()}}


def set_logger_state(logger: Logger, state: dict[str, Any]) -> None:
    """
    Restores the logger's pending values, and writes the saved content into its files.

    :param logger: SB3's logger
    :param state: the result of :func:`logger_state`
    """
    for name in _PENDING:
        getattr(logger, name).clear()
        getattr(logger, name).update(state[name])
    for key, output in _file_outputs(logger).items():
        if key in state["files"]:
            _set_file_state(output, state["files"][key])


def _callbacks_in(callback: BaseCallback) -> Iterator[BaseCallback]:
    """The callback itself, and all callbacks inside it."""
    yield callback
    children = callback.callbacks if isinstance(callback, CallbackList) else []
    if isinstance(callback, EventCallback) and callback.callback is not None:
        children = [callback.callback]
    for child in children:
        yield from _callbacks_in(child)


def _by_class_and_index(items: Iterable[_Item]) -> dict[_Key, _Item]:
    """Each item under the name of its class and its index among the items of this class."""
    n_of_class: Counter[str] = Counter()
    found = {}
    for item in items:
        name = type(item).__qualname__
        found[name, n_of_class[name]] = item
        n_of_class[name] += 1
    return found


def _file_outputs(logger: Logger) -> dict[_Key, Any]:
    return _by_class_and_index(output for output in logger.output_formats if _writes_text_file(output))


def _writes_text_file(output: KVWriter) -> bool:
    return isinstance(output, (CSVOutputFormat, JSONOutputFormat)) or (
        isinstance(output, HumanOutputFormat) and output.own_file
    )


def _file_state(output: Any) -> dict[str, Any]:
    """The file's content, and the columns of a CSV file."""
    output.file.flush()
    with open(output.file.name, newline="", encoding=output.file.encoding) as file:
        content = file.read()
    return {"content": content, "keys": list(getattr(output, "keys", []))}


def _set_file_state(output: Any, state: dict[str, Any]) -> None:
    output.file.seek(0)
    output.file.truncate()
    output.file.write(state["content"])
    output.file.flush()
    if isinstance(output, CSVOutputFormat):
        output.keys = list(state["keys"])
