"""
Writing of files that exist completely or not at all.

``path`` is always the file that is written.
"""

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
    Replaces a file in one step, with the content that the block writes to a temporary file.

    A reader sees the old file or the new one, also if the program is killed. Only one program may write a file at a time.

    :return: the temporary file's path, in the same folder; if the block raises, the old file stays
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
    Replaces a text file in one step.

    :param text: its new content
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    Replaces a CSV file in one step.

    :param header: names of the columns
    :param rows: the values, row by row
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def is_unfinished(path: Path) -> bool:
    """
    Whether a file is a temporary one of :func:`replacing`.

    :return: True if a program is writing it, or was killed while it wrote it
    """
    return path.name.startswith(_PREFIX)


def remove_unfinished(folder: Path) -> None:
    """
    Removes the temporary files that killed programs have left in a folder.

    :param folder: the folder
    """
    for path in folder.glob(f"{_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
