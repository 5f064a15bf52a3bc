"""Where the W&B runs of a grid are."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from crashalgos.experiments.grid.grid import Outcome
from crashalgos.experiments.run.runner import RunResult


def describe_wandb_runs(outcomes: Sequence[Outcome]) -> str:
    """
    Says in one line where the W&B runs of a grid are, and how to upload those that are offline.

    :param outcomes: the outcomes of all runs
    :return: the line; ``"none"`` if no run was tracked
    """
    folders = [folder for outcome in outcomes for folder in _wandb_folders(outcome)]
    if not folders:
        return "none"
    pattern = f"{shlex.quote(str(folders[0].parents[2]))}/*/wandb"
    urls = [outcome.wandb_url for outcome in outcomes if isinstance(outcome, RunResult) and outcome.wandb_url is not None]
    projects = {url.rpartition("/runs/")[0] for url in urls}
    page = (projects.pop() if len(projects) == 1 else "") or next(iter(urls), "")
    if any(folder.name.startswith("offline-") for folder in folders):
        online = f" ({len(urls)} online: {page})" if urls else ""
        return f"{len(folders)} runs in {pattern}{online}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    online = page or f"project {outcomes[0].config.project}"
    return f"{len(folders)} runs online, {online}; copies in {pattern}"


def _wandb_folders(outcome: Outcome) -> list[Path]:
    """Lists the folders of a run's W&B runs; a failed run may have left some on the disk."""
    if isinstance(outcome, RunResult):
        return [] if outcome.wandb_folder is None else [outcome.wandb_folder]
    folder = outcome.config.folder / "wandb"
    return sorted([*folder.glob("run-*"), *folder.glob("offline-run-*")])
