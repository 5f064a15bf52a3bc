"""A run's folder has one writer and one configuration."""

from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.run.checks import check_folder
from crashalgos.experiments.run.folder import claimed, write_json
from crashalgos.experiments.run.runner import finished, run
from tests.helpers.runs import small_config


def test_another_configuration_is_an_error_that_names_the_changes(tmp_path: Path) -> None:
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    run(config)
    other = replace(config, seed=4, settings=replace(config.settings, hyperparameters={"gamma": 0.5}))
    for do in (run, check_folder, finished):
        with pytest.raises(ValueError, match="holds results of another configuration") as caught:
            do(other)
        assert "seed was 3, is 4" in str(caught.value)
        assert "settings.hyperparameters.gamma was 0.98, is 0.5" in str(caught.value)


def test_two_processes_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=256)
    with (
        claimed(config.folder, {}, ()),
        pytest.raises(ValueError, match=r"output folder '.*' is in use: another process writes to it"),
    ):
        run(config)
    assert run(config).evaluations


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    config = small_config("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    (config.folder / "wandb").mkdir(parents=True)
    write_json(config.folder / "config.json", config.as_dict())
    for name in (".tmp-model.zip", "model.zip", "evaluations.csv", "wandb/half", "output.log"):
        (config.folder / name).write_text("half")
    run(config)
    names = {path.name for path in config.folder.iterdir()}
    assert names == {".lock", "config.json", "status.json", "progress.csv", "model.zip", "output.log"}


def test_a_folder_with_other_files_is_an_error_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    config = small_config("sb3-ppo", tmp_path, n_timesteps=256)
    for do in (check_folder, run):
        with pytest.raises(ValueError, match=r"holds something else \(thesis\): use a folder of its own"):
            do(config)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "..."
