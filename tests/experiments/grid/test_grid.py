"""A grid keeps what is finished, and refuses folders of another grid."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.grid.grid import Outcomes, run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import claimed
from crashalgos.experiments.run.runner import run
from tests.helpers.grids import make_configs
from tests.helpers.paths import HELPERS


class IdleExecutor:
    """An executor for grids without unfinished runs."""

    def run(self, configs: Sequence[RunConfig], on_progress: object) -> Outcomes:
        assert not configs
        yield from ()


def test_the_same_grid_again_executes_no_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    configs, folder = make_configs(tmp_path / "runs", (0, 3)), tmp_path / "grid"
    first = [run(config) for config in configs]
    assert run_grid(configs, IdleExecutor(), folder, {"seeds": 2}) == first
    assert "2/2 runs" in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"holds results of another configuration \(seeds was 2, is 3\)"):
        run_grid(configs, IdleExecutor(), folder, {"seeds": 3})
    run_grid(configs, IdleExecutor(), folder, {"seeds": 2, "command": "another"}, may_change=["command"])
    monkeypatch.setattr("crashalgos.experiments.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    with claimed(folder, {}, ["seeds", "command"]), pytest.raises(ValueError, match="is in use"):
        run_grid(configs, IdleExecutor(), folder, {"seeds": 2})
    other = [replace(config, eval_episodes=2) for config in configs]
    with pytest.raises(ValueError, match="eval_episodes was 1, is 2"):
        run_grid(other, IdleExecutor(), tmp_path / "other", {})


def test_unfinished_files_of_a_killed_grid_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-run").mkdir()
    (tmp_path / ".tmp-shared-1").touch()
    assert run_grid([], LocalExecutor(1), tmp_path, {"what": "it is"}) == []
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json"}
