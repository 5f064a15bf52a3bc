"""Begin a Weights & Biases run without ever asking for a key or waiting for a network that is not there."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import wandb

# Seconds. W&B's own limits are 90 and none: a program that is done would wait for a network that does not come back.
_TIME_LIMITS = {"init_timeout": 30, "finish_timeout": 60}


class BegunRun(NamedTuple):
    """
    :param run: the run, online or offline
    :param error: why it is not online, although it was to be; ``None`` if it is as it was to be
    :param no_key: whether that is for want of an API key alone, with nobody having asked for a run online
    """

    run: "wandb.Run"
    error: Exception | None
    no_key: bool


def begin_run(mode: str | None, **options: Any) -> BegunRun:
    """
    Begin a run: online where there is an API key, offline otherwise, or where the server gives no answer in time.

    :param mode: "online", "offline" or "disabled"; by default ``WANDB_MODE``, or else whether there is an API key
    :param options: arguments of ``wandb.init``
    :return: the run, and why it is not online
    """
    import wandb

    requested: Any = mode or os.environ.get("WANDB_MODE")
    # Several runs may share the process: none may capture its whole console.
    settings = wandb.Settings(silent=True, console="off", finish_timeout_raises=True)
    for limit, seconds in _TIME_LIMITS.items():
        if f"WANDB_{limit.upper()}" not in os.environ:
            setattr(settings, limit, seconds)
    options |= {"reinit": "create_new", "settings": settings}
    error: Exception | None = None
    wandb.setup()
    # Silent is also W&B's word for "there is no one to ask": without a key it then raises instead of prompting.
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
    Log a folder as an artifact. Where the server is not there now, it is logged as files of the run, too: ``wandb sync`` looks
    for an artifact's files where they are now, and for the run's files where the run is then.

    :param run: the run, online or offline
    :param folder: in the run's own folder ``run.dir``; it has to stay as it is
    :param name: the artifact's
    :param type: the artifact's
    :param aliases: of this version, besides "latest" if ``None``
    :param metadata: of this version
    """
    import wandb

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    artifact = wandb.Artifact(name, type=type, metadata=dict(metadata or {}))
    for file in files:
        # "immutable" keeps the payload where it is: the default is a copy in W&B's data folder, outside the run's own
        artifact.add_file(str(file), str(file.relative_to(folder)), policy="immutable", skip_cache=True)
    there = False
    try:
        run.log_artifact(artifact, aliases=None if aliases is None else list(aliases))  # online, W&B asks the server about it
        there = not run.offline
    finally:
        if not there:
            for file in files:
                run.save(str(file), base_path=run.dir, policy="end")
