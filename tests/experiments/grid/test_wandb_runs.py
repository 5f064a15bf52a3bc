"""Where a grid's W&B runs are."""

from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.grid.grid import RunFailure
from crashalgos.experiments.grid.wandb_runs import describe_wandb_runs
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.runner import RunResult
from crashalgos.experiments.run.settings import Settings

CONFIGS = [RunConfig("ppo", "CartPole-v1", Settings(), Path("out") / str(seed), seed=seed) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("folders", "place"),
    [
        ([None, None], "none"),
        (["run-1-a", "run-1-b"], "2 runs online, project crashalgos; copies in out/*/wandb"),
        (
            ["offline-run-1-a", "offline-run-1-b"],
            "2 runs in out/*/wandb; to upload those made offline: wandb sync out/*/wandb/offline-run-*",
        ),
    ],
)
def test_where_the_wandb_runs_are(folders: list[str | None], place: str) -> None:
    results = [
        RunResult(config, 1, 1.0, [], None if folder is None else config.folder / "wandb" / folder)
        for config, folder in zip(CONFIGS, folders, strict=True)
    ]
    assert describe_wandb_runs(results) == place


@pytest.mark.parametrize(
    ("urls", "page"),
    [
        (["https://host/me/project/runs/a", "https://host/me/project/runs/b"], "https://host/me/project"),
        (["https://host/me/project/runs/a", "https://host/you/project/runs/b"], "https://host/me/project/runs/a"),
        (["https://host/me/project/runs/a", None], "https://host/me/project"),
    ],
)
def test_where_the_wandb_runs_are_online(urls: list[str | None], page: str) -> None:
    results = [
        RunResult(config, 1, 1.0, [], config.folder / "wandb" / "run-1", url)
        for config, url in zip(CONFIGS, urls, strict=True)
    ]
    assert describe_wandb_runs(results) == f"2 runs online, {page}; copies in out/*/wandb"


def test_a_failed_runs_wandb_folder_counts_and_paths_are_quoted(tmp_path: Path) -> None:
    config = replace(CONFIGS[0], folder=tmp_path / "my out" / "0")
    failure = RunFailure(config, "ValueError: no luck")
    assert describe_wandb_runs([failure]) == "none"
    (config.folder / "wandb" / "offline-run-1-a").mkdir(parents=True)
    (config.folder / "wandb" / "latest-run").symlink_to("offline-run-1-a")
    pattern = f"'{tmp_path / 'my out'}'/*/wandb"
    expected = f"1 runs in {pattern}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    assert describe_wandb_runs([failure]) == expected
