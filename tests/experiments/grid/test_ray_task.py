"""The node's side of a run on a Ray cluster."""

import threading
import time
from pathlib import Path

import pytest

from crashalgos.experiments.grid import ray_task
from crashalgos.experiments.grid.ray_task import Job, check_versions, run_when_unlocked
from crashalgos.experiments.run.folder import FolderInUse, claimed
from tests.helpers.grids import make_configs
from tests.helpers.paths import HELPERS


def test_all_nodes_have_the_same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: "1.0" for name in ray_task.SAME_VERSIONS} | {"wandb": "3.0"}
    monkeypatch.setattr(ray_task, "versions", lambda: here | {"wandb": "2.0", "torch": "1.0+cpu"})
    check_versions(here)
    with pytest.raises(ValueError, match=r"has crashalgos 1\.0 instead of 0\.9, numpy 1\.0 instead of 2\.0: install the same"):
        check_versions(here | {"numpy": "2.0", "crashalgos": "0.9"})


def test_a_run_waits_for_a_process_that_ray_has_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setattr("crashalgos.experiments.run.folder.LOCK_TIMEOUT_SECONDS", 0.05)
    (config,) = make_configs(tmp_path, (0,))
    seen = threading.Event()

    def hold() -> None:
        with claimed(config.folder, {}, ()):
            seen.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    seen.wait()
    assert run_when_unlocked(config, lambda done: None).final_return == 5.0
    holder.join()
    monkeypatch.setattr(ray_task, "SECONDS_TO_WAIT_FOR_LOCK", 0.1)
    with claimed(config.folder, config.as_dict(), ()), pytest.raises(FolderInUse):
        run_when_unlocked(config, lambda done: None)


def test_a_jobs_files_and_variables_are_not_printed() -> None:
    (config,) = make_configs(Path("home"), (0,))
    job = Job(0, config, True, b"the files", {}, {"WANDB_API_KEY": "a-secret"})
    assert "a-secret" not in repr(job) and "the files" not in repr(job)
