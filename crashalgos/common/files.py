"""Files that are there whole or not at all."""

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PREFIX = ".tmp-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file so that whoever looks, and whatever is killed, sees the old one or the new one. There is one writer at a time.

    :param path: the file
    :return: a path beside it; what the block leaves there takes the file's place, unless the block raises
    """
    temporary = path.with_name(_PREFIX + path.name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """
    :param path: the file
    :param text: what it holds, as a whole
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    :param path: the file
    :param header: its columns
    :param rows: its rows
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def is_unfinished(path: Path) -> bool:
    """
    :param path: a file
    :return: whether it is what a process has not finished writing
    """
    return path.name.startswith(_PREFIX)


def remove_unfinished(folder: Path) -> None:
    """
    :param folder: a killed process may have left something unfinished in it
    """
    for path in folder.glob(f"{_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
