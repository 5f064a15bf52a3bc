"""A run's folder is copied back completely, whatever its home folder holds."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.grid import packing
from crashalgos.experiments.grid.packing import copy_back, copy_back_with_retry, pack, unpack
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import CHECKPOINT_FILE, LOG_FILE, STATUS_FILE, write_json
from crashalgos.experiments.run.runner import finished, run
from tests.helpers.grids import make_configs
from tests.helpers.paths import HELPERS


def test_a_finished_run_is_copied_back_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    (config,) = make_configs(tmp_path / "home", (0,))
    result = run(replace(config, folder=tmp_path / "elsewhere"))
    offline_run = tmp_path / "elsewhere" / "wandb" / "offline-run-1"
    offline_run.mkdir(parents=True)
    (offline_run / "run.wandb").touch()
    (tmp_path / "elsewhere" / "wandb" / "latest-run").symlink_to("offline-run-1")
    (tmp_path / "elsewhere" / LOG_FILE).write_text("second\n")
    files = pack(tmp_path / "elsewhere")
    # The home folder keeps the files of an earlier attempt until the new ones are there, and its log forever
    config.folder.mkdir(parents=True)
    (config.folder / CHECKPOINT_FILE).touch()
    (config.folder / LOG_FILE).write_text("first\n")
    write_json(config.folder / "config.json", config.as_dict())

    replace_file, moved = os.replace, []

    def killed_before_the_status(source: Path, target: Path) -> None:
        if Path(target) == config.folder / STATUS_FILE:
            raise KeyboardInterrupt
        moved.append(Path(target).name)
        replace_file(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed_before_the_status)
        copy_back(files, config)
    assert {"model.zip", "evaluations.csv", "run.wandb"} <= set(moved)
    assert finished(config) is None
    copy_back(files, config)
    assert (config.folder / LOG_FILE).read_text() == "first\nsecond\nsecond\n"
    assert finished(config) == replace(result, config=config)
    assert not (config.folder / CHECKPOINT_FILE).exists()
    assert [path.name for path in tmp_path.joinpath("home").iterdir()] == ["0"]


def test_a_run_that_did_not_begin_changes_only_the_log(tmp_path: Path) -> None:
    (config,) = make_configs(tmp_path / "home", (0,))
    config.folder.mkdir(parents=True)
    write_json(config.folder / "config.json", config.as_dict())
    for name in (CHECKPOINT_FILE, "model.zip"):
        (config.folder / name).write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / LOG_FILE).write_text("another version")
    copy_back(pack(tmp_path / "elsewhere"), config)
    assert [(config.folder / name).read_text() for name in (CHECKPOINT_FILE, "model.zip")] == ["mine"] * 2
    assert (config.folder / LOG_FILE).read_text() == "another version"


def test_an_archive_has_neither_lock_nor_unfinished_files(tmp_path: Path) -> None:
    for name in ("a/model.zip", "a/wandb/run-1/files/x.json", "a/.lock", "a/.tmp-model.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    unpack(pack(tmp_path / "a"), tmp_path / "b")
    found = {str(path.relative_to(tmp_path / "b")): path.read_text() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert found == {"model.zip": "a/model.zip", "wandb/run-1/files/x.json": "a/wandb/run-1/files/x.json"}


def test_copying_back_waits_for_space_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config,) = make_configs(tmp_path, (0,))
    tried: list[bytes] = []

    def full_twice(files: bytes, config: RunConfig) -> None:
        tried.append(files)
        if len(tried) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packing, "copy_back", full_twice)
    monkeypatch.setattr(packing, "_SECONDS_BETWEEN_TRIES", 0.01)
    copy_back_with_retry(b"files", config)
    assert tried == [b"files"] * 3
    tried.clear()
    monkeypatch.setattr(packing, "SECONDS_TO_WAIT_FOR_DISK", -1.0)
    with pytest.raises(OSError, match="No space left"):
        copy_back_with_retry(b"files", config)
