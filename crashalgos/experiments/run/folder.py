"""A folder of results: one writer at a time, one configuration for good."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crashalgos.common.files import is_unfinished, write_text
from crashalgos.common.metadata import git_commit, versions

CONFIG_FILE = "config.json"
STATUS_FILE = "status.json"
LOCK_FILE = ".lock"
LOG_FILE = "output.log"

# A process that lost its parent needs a moment to notice.
SECONDS_TO_LET_GO = 20.0


class FolderInUse(ValueError):
    """Another process writes there."""


def redirect_output(folder: Path) -> None:
    """
    :param folder: of a run: from now on what this process prints goes to its ``output.log``
    """
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


@contextmanager
def claimed(folder: Path, config: Mapping[str, Any], free: Collection[str]) -> Iterator[None]:
    """
    While the block runs, the folder is this process's; it goes with the process.

    :param folder: it need not exist
    :param config: what its results are of
    :param free: keys of it that may differ from one time to the next
    :raises FolderInUse: if another process writes there
    :raises ValueError: if it cannot be written to, or holds results of another configuration
    """
    make_folder(folder)
    try:
        with FileLock(folder / LOCK_FILE, timeout=SECONDS_TO_LET_GO):
            check_same(folder, config, free)
            yield
    except Timeout as error:
        raise FolderInUse(f"output folder {str(folder)!r} is in use: another process writes to it") from error


def make_folder(folder: Path) -> None:
    """
    :param folder: it need not exist
    :raises ValueError: if nothing can be written there
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to output folder {str(folder)!r}: {error.strerror}") from error


def check_same(folder: Path, config: Mapping[str, Any], free: Collection[str]) -> None:
    """
    :param folder: may hold results, and nothing else
    :param config: what they should be of
    :param free: keys of it that may differ
    :raises ValueError: if they are of something else, naming what, or if there are files that are no results
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        own = (LOCK_FILE, LOG_FILE)
        foreign = sorted(file.name for file in folder.iterdir() if file.name not in own and not is_unfinished(file))
        if foreign:
            raise ValueError(
                f"output folder {str(folder)!r} holds something else ({', '.join(foreign[:3])}): use a folder of its own"
            )
        return
    then, now = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(config))
    changes = [f"{name} was {old!r}, is {new!r}" for name, old, new in differences(then, now, free)]
    if changes:
        raise ValueError(
            f"output folder {str(folder)!r} holds results of another configuration ({'; '.join(changes)}): "
            "use another folder, or delete it"
        )


def differences(then: Any, now: Any, free: Collection[str] = (), name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """
    :param then: data as JSON gives it
    :param now: the same
    :param free: keys at the top that do not count
    :param name: what the data are called
    :return: name and both values of all that differs
    """
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            if key not in free:
                yield from differences(then.get(key), now.get(key), (), f"{name}.{key}" if name else key)
    elif then != now:
        yield name, then, now


def clear(folder: Path, keep: Collection[str]) -> None:
    """
    :param folder: this process's
    :param keep: names of what stays, besides lock and configuration
    """
    for path in folder.iterdir():
        if path.name not in {LOCK_FILE, CONFIG_FILE, *keep}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """
    :param path: the file
    :param content: plain data
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_status(folder: Path, status: Mapping[str, Any]) -> None:
    """
    :param folder: of a run
    :param status: how it stands; what it ran with is added
    """
    write_json(folder / STATUS_FILE, {**status, "versions": versions(), "git_commit": git_commit()})


def read_status(folder: Path) -> dict[str, Any]:
    """
    :param folder: of a run
    :return: how it stands; empty if it has not begun
    """
    path = folder / STATUS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
