"""The W&B runs of a grid: whether they can go online, and where they are."""

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
SECONDS_TO_CONNECT = 3.0


def choose_wandb_mode() -> None:
    """
    Set ``WANDB_MODE=offline``, and say why in one line, where W&B would ask for a key, or where its server cannot be reached,
    does not answer or refuses the key: each run would find that out anew, in half a minute.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    obstacle = _obstacle()
    if obstacle:
        os.environ["WANDB_MODE"] = "offline"
        print(f"W&B: {obstacle}; what is tracked is offline")


def _obstacle() -> str:
    """:return: why nothing can go online; empty if it can"""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        url = wandb.setup().settings.base_url
        if not _reached_by_proxy(url):
            address = urlsplit(url)
            port = address.port or (80 if address.scheme == "http" else 443)
            try:
                socket.create_connection((address.hostname or "", port), timeout=SECONDS_TO_CONNECT).close()
            except OSError as error:
                return f"{url} cannot be reached ({error})"
        if not wandb.login(prompt=False, verify=True):
            return "no API key (`wandb login` makes runs online)"
    except Exception as error:
        return f"{error} (if it is the key: `wandb login --relogin`, or WANDB_API_KEY)"
    finally:
        wandb.teardown()  # it reads the environment once
    return ""


def _reached_by_proxy(url: str) -> bool:
    """
    :param url: of a server
    :return: whether requests to it go to a proxy
    """
    place = urlsplit(url)
    return place.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(place.hostname or "")


def wandb_place(outcomes: Sequence[Outcome]) -> str:
    """
    :param outcomes: what the runs came to
    :return: where their W&B runs are, and how those that are only on disk get online
    """
    folders = [folder for outcome in outcomes for folder in wandb_folders(outcome)]
    if not folders:
        return "none"
    place = folders[0].parents[2]
    pattern = f"{shlex.quote(str(place))}/*/wandb"
    urls = [outcome.wandb_url for outcome in outcomes if isinstance(outcome, RunResult) and outcome.wandb_url is not None]
    projects = {url.rpartition("/runs/")[0] for url in urls}
    page = (projects.pop() if len(projects) == 1 else "") or next(iter(urls), "")
    if any(folder.name.startswith("offline-") for folder in folders):
        online = f" ({len(urls)} online: {page})" if urls else ""
        return f"{len(folders)} runs in {pattern}{online}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    online = page or f"project {outcomes[0].config.project}"
    return f"{len(folders)} runs online, {online}; copies in {pattern}"


def wandb_folders(outcome: Outcome) -> list[Path]:
    """
    :param outcome: what a run came to
    :return: its W&B run's folder; a failed run may have left one on the disk
    """
    if isinstance(outcome, RunResult):
        return [] if outcome.wandb_folder is None else [outcome.wandb_folder]
    folder = outcome.config.folder / "wandb"
    return sorted([*folder.glob("run-*"), *folder.glob("offline-run-*")])
