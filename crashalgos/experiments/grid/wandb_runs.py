"""The W&B runs of a grid: whether they can be online, and where they are."""

import os
import shlex
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from crashalgos.experiments.grid.grid import Outcome
from crashalgos.experiments.run.runner import RunResult

# How long W&B's server may take to answer.
_SECONDS_TO_CONNECT = 3.0


def choose_wandb_mode() -> None:
    """
    Sets ``WANDB_MODE=offline`` if W&B's runs cannot be online, and prints the reason in one line.

    Reasons are a missing or refused API key and a server that does not answer. Without this check, each run would wait half a
    minute for the same error.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    reason = _why_offline()
    if reason:
        os.environ["WANDB_MODE"] = "offline"
        print(f"W&B: {reason}; what is tracked is offline")


def _why_offline() -> str:
    """Returns why W&B's runs cannot be online; an empty text if they can."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        url = wandb.setup().settings.base_url
        if not _uses_proxy(url):
            address = urlsplit(url)
            port = address.port or (80 if address.scheme == "http" else 443)
            try:
                socket.create_connection((address.hostname or "", port), timeout=_SECONDS_TO_CONNECT).close()
            except OSError as error:
                return f"{url} cannot be reached ({error})"
        if not wandb.login(prompt=False, verify=True):
            return "no API key (`wandb login` makes runs online)"
    except Exception as error:
        return f"{error} (if it is the key: `wandb login --relogin`, or WANDB_API_KEY)"
    finally:
        wandb.teardown()  # the next setup reads the environment again
    return ""


def _uses_proxy(url: str) -> bool:
    """Tells whether requests to a URL go through a proxy."""
    address = urlsplit(url)
    return address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(address.hostname or "")


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
