"""
A folder of results: one process writes at a time, and its configuration never changes.

``folder`` is always the run's folder, or that of a grid.
"""

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
EVALUATIONS_FILE = "evaluations.csv"
MODEL_FILE = "model.zip"
NORMALIZATION_FILE = "vec_normalize.pkl"
CHECKPOINT_FILE = "checkpoint.pt"
BEST_FOLDER, BEST_MODEL_FILE = "best", "best_model.zip"

# A process that lost its parent needs a moment to notice it and to release the lock.
LOCK_TIMEOUT_SECONDS = 20.0


class FolderInUse(ValueError):
    """Another process writes to the folder."""


def redirect_output(folder: Path) -> None:
    """Sends what this process prints from now on to the folder's ``output.log``."""
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


@contextmanager
def claimed(folder: Path, config: Mapping[str, Any], may_change: Collection[str]) -> Iterator[None]:
    """
    Locks the folder for this process while the block runs. The lock ends with the process at the latest.

    :param folder: the folder; it is made if needed
    :param config: the configuration of its results
    :param may_change: keys of the configuration that may differ from those in the folder
    :raises FolderInUse: if another process writes there
    :raises ValueError: if it cannot be written to, or holds results of another configuration
    """
    make_folder(folder)
    try:
        with FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT_SECONDS):
            check_same_config(folder, config, may_change)
            yield
    except Timeout as error:
        raise FolderInUse(f"output folder {str(folder)!r} is in use: another process writes to it") from error


def make_folder(folder: Path) -> None:
    """
    Makes the folder and checks that files can be written there.

    :param folder: the folder; it may exist
    :raises ValueError: if nothing can be written there
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to output folder {str(folder)!r}: {error.strerror}") from error


def check_same_config(folder: Path, config: Mapping[str, Any], may_change: Collection[str]) -> None:
    """
    Checks that the folder's results, if it holds any, have the same configuration.

    :param folder: an existing folder
    :param config: the configuration
    :param may_change: keys of the configuration that may differ
    :raises ValueError: if the configuration differs (the message names what), or if the folder holds other files than results
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
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(config))
    changes = [f"{name} was {old!r}, is {new!r}" for name, old, new in _differences(before, now, may_change)]
    if changes:
        raise ValueError(
            f"output folder {str(folder)!r} holds results of another configuration ({'; '.join(changes)}): "
            "use another folder, or delete it"
        )


def _differences(before: Any, now: Any, ignore: Collection[str] = (), name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """
    Finds the values that differ between two mappings from JSON, also in nested ones.

    :param ignore: keys of the outer mapping that do not count
    :param name: path of the mappings, for a nested call
    :return: for each difference its path, such as ``settings.n_envs``, and both values
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            if key not in ignore:
                yield from _differences(before.get(key), now.get(key), (), f"{name}.{key}" if name else key)
    elif before != now:
        yield name, before, now


def clear(folder: Path, keep: Collection[str]) -> None:
    """
    Deletes the folder's content, except for its lock and configuration.

    :param folder: a folder that this process has claimed
    :param keep: names of more files to keep
    """
    for path in folder.iterdir():
        if path.name not in {LOCK_FILE, CONFIG_FILE, *keep}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """
    Writes a JSON file.

    :param path: the file
    :param content: plain data
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_status(folder: Path, status: Mapping[str, Any]) -> None:
    """
    Writes the status of a run, with the versions of the packages and the Git commit.

    :param status: ``state`` ("running", "finished", "failed" or "interrupted") and what belongs to it
    """
    write_json(folder / STATUS_FILE, {**status, "versions": versions(), "git_commit": git_commit()})


def read_status(folder: Path) -> dict[str, Any]:
    """
    Reads the status of a run.

    :return: the status; empty if the run has not started
    """
    path = folder / STATUS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
