"""Begins Weights & Biases runs without asking for a key, and without waiting long for a network that is down."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import wandb

# Seconds. W&B's own limits are 90 and none: without a network, a program would never end.
_TIME_LIMITS = {"init_timeout": 30, "finish_timeout": 60}


class BegunRun(NamedTuple):
    """
    The run that was begun, and the reason if it is offline against the user's wish.

    :param run: the run, online or offline
    :param error: why the run is offline although it should be online; ``None`` if its mode is the requested one
    :param no_key: whether it is offline only because there is no API key, and nobody has asked for an online run
    """

    run: "wandb.Run"
    error: Exception | None
    no_key: bool


def begin_run(mode: str | None, **options: Any) -> BegunRun:
    """
    Begins a run: online if there is an API key and the server answers in time, offline otherwise.

    :param mode: "online", "offline" or "disabled"; by default ``WANDB_MODE``, or else "online" if there is an API key
    :param options: arguments of ``wandb.init``
    :return: the run, and why it is offline
    """
    import wandb

    requested: Any = mode or os.environ.get("WANDB_MODE")
    # Several runs may share the process, so none of them may capture its console.
    settings = wandb.Settings(silent=True, console="off", finish_timeout_raises=True)
    for limit, seconds in _TIME_LIMITS.items():
        if f"WANDB_{limit.upper()}" not in os.environ:
            setattr(settings, limit, seconds)
    options |= {"reinit": "create_new", "settings": settings}
    error: Exception | None = None
    wandb.setup()
    # In silent mode W&B asks nobody for a key, but raises.
    wandb.termsetup(wandb.Settings(silent=True), None)
    try:
        run = wandb.init(mode=requested or "online", **options)
    except Exception as init_error:
        error = init_error
        run = wandb.init(mode="offline", **options)
    finally:
        wandb.termsetup(wandb.setup().settings, None)
    no_key = isinstance(error, wandb.errors.UsageError) and "API key" in str(error) and requested is None
    return BegunRun(run, error, no_key)


def log_folder(
    run: "wandb.Run",
    folder: Path,
    name: str,
    type: str,
    aliases: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """
    Logs a folder as an artifact.

    If the run is offline, or the server does not answer, the files are also saved as files of the run. If the run's folder is
    then moved, ``wandb sync`` still finds them, but looks for an artifact's files in the old place.

    :param run: the run, online or offline
    :param folder: a folder inside ``run.dir``, which must not change afterwards
    :param name: the artifact's name
    :param type: the artifact's type
    :param aliases: aliases of this version; ``None``: "latest"
    :param metadata: metadata of this version
    """
    import wandb

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    artifact = wandb.Artifact(name, type=type, metadata=dict(metadata or {}))
    for file in files:
        # By default W&B copies the file to its data folder, outside the run's own.
        artifact.add_file(str(file), str(file.relative_to(folder)), policy="immutable", skip_cache=True)
    sent = False
    try:
        run.log_artifact(artifact, aliases=None if aliases is None else list(aliases))  # if online, W&B calls the server
        sent = not run.offline
    finally:
        if not sent:
            for file in files:
                run.save(str(file), base_path=run.dir, policy="end")
