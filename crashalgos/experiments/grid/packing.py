"""
Moves a run's folder between machines.

The home folder of a run is ``RunConfig.folder`` on the machine that started the grid. A node without access to it executes the
run in a temporary folder, which is packed there and copied back.
"""

import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

from crashalgos.common.files import is_unfinished
from crashalgos.experiments.run.config import MAY_CHANGE, RunConfig
from crashalgos.experiments.run.folder import CONFIG_FILE, LOCK_FILE, LOG_FILE, STATUS_FILE, claimed, clear, write_json

# How long copying back is retried while the disk is full.
SECONDS_TO_WAIT_FOR_DISK = 60.0
_SECONDS_BETWEEN_TRIES = 0.5


def pack(folder: Path) -> bytes:
    """
    Packs a run's folder.

    :param folder: the run's folder
    :return: a tar archive of it, without the lock, unfinished files and W&B's symbolic links
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in folder.iterdir():
            if path.name != LOCK_FILE and not is_unfinished(path):
                archive.add(path, path.name, filter=lambda member: None if member.issym() else member)
    return content.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """
    Unpacks an archive into a folder.

    :param archive: the result of :func:`pack`
    :param folder: gets the files
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extraction_filter = getattr(tarfile, "data_filter", None)  # early patches of Python 3.10 and 3.11 lack it
        files.extractall(folder)


def copy_back(archive: bytes, config: RunConfig) -> None:
    """
    Copies a run's files into its home folder.

    Every file is replaced atomically. Then the files that the run has removed are removed, and the status is written last:
    after a kill in between, the run can resume. If the run did not begin on the node, only its log is copied.

    :param archive: the packed folder
    :param config: the run with its home folder
    :raises OSError: if the disk is full
    """
    home = config.folder
    with (
        claimed(home, config.as_dict(), MAY_CHANGE),
        tempfile.TemporaryDirectory(dir=home.parent, prefix=".tmp-") as temporary,
    ):
        unpacked = Path(temporary)
        unpack(archive, unpacked)
        names = {path.relative_to(unpacked) for path in unpacked.rglob("*") if not path.is_dir()} - {Path(LOG_FILE)}
        _append_to_log(unpacked / LOG_FILE, home / LOG_FILE)
        if Path(STATUS_FILE) not in names:
            return
        write_json(home / CONFIG_FILE, config.as_dict())
        for name in names - {Path(CONFIG_FILE), Path(STATUS_FILE)}:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(unpacked / name, home / name)
        clear(home, keep={LOG_FILE, *(name.parts[0] for name in names)})
        os.replace(unpacked / STATUS_FILE, home / STATUS_FILE)


def copy_back_with_retry(archive: bytes, config: RunConfig) -> None:
    """
    Copies a run's files into its home folder, and retries while the disk is full: there is no other copy.

    :param archive: the packed folder
    :param config: the run with its home folder
    :raises OSError: if the disk is still full after ``SECONDS_TO_WAIT_FOR_DISK``
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_DISK
    while True:
        try:
            return copy_back(archive, config)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _append_to_log(new: Path, log: Path) -> None:
    """Appends a log, if it exists, to another one."""
    if new.exists():
        with log.open("ab") as file:
            file.write(new.read_bytes())
