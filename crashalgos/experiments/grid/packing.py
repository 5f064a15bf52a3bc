"""A run's folder on its way from one machine to another."""

import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

from crashalgos.common.files import is_unfinished
from crashalgos.experiments.run.folder import CONFIG_FILE, LOCK_FILE, LOG_FILE, STATUS_FILE, claimed, clear, write_json
from crashalgos.experiments.run.runner import FREE, RunConfig

# How long a folder waits for room on the disk at home, and how long between two tries.
SECONDS_FOR_THE_DISK, SECONDS_BETWEEN_TRIES = 60.0, 0.5


def pack(folder: Path) -> bytes:
    """
    :param folder: a run's
    :return: what is in it, without W&B's links to what is in it
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in folder.iterdir():
            if path.name != LOCK_FILE and not is_unfinished(path):
                archive.add(path, path.name, filter=lambda member: None if member.issym() else member)
    return content.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """
    :param files: what ``pack`` gave
    :param folder: gets it
    """
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.10 and 3.11 have it from some patch on
        archive.extractall(folder)


def bring_home(files: bytes, config: RunConfig) -> None:
    """
    Every file replaces the one at home, as a whole; what the run has removed goes afterwards, and the status comes last: a run
    that has finished is there as a whole, and one that has not can resume. Of a run that did not begin there is its log.

    :param files: of the run's folder elsewhere
    :param config: the run
    """
    folder = config.folder
    with claimed(folder, config.as_dict(), FREE), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as beside:
        unpack(files, Path(beside))
        names = {path.relative_to(beside) for path in Path(beside).rglob("*") if not path.is_dir()} - {Path(LOG_FILE)}
        append(Path(beside) / LOG_FILE, folder / LOG_FILE)
        if Path(STATUS_FILE) not in names:
            return
        write_json(folder / CONFIG_FILE, config.as_dict())
        for name in sorted(names - {Path(CONFIG_FILE)}, key=lambda name: name == Path(STATUS_FILE)):
            if name == Path(STATUS_FILE):
                clear(folder, keep={LOG_FILE, *(kept.parts[0] for kept in names)})
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(beside) / name, folder / name)


def bring_home_patiently(files: bytes, config: RunConfig) -> None:
    """
    :param files: of the run's folder elsewhere, which is gone: this is all there is of it
    :param config: the run
    :raises OSError: if there is no room for it, and none comes
    """
    deadline = time.monotonic() + SECONDS_FOR_THE_DISK
    while True:
        try:
            return bring_home(files, config)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(SECONDS_BETWEEN_TRIES)


def append(file: Path, other: Path) -> None:
    """
    :param file: need not exist
    :param other: gets its content at the end
    """
    if file.exists():
        with other.open("ab") as log:
            log.write(file.read_bytes())
