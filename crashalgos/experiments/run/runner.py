"""
Runs one configuration, or resumes it, or reads its result.

``config`` is always the run's configuration.
"""

import os
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from crashalgos.common.files import remove_unfinished
from crashalgos.experiments.run.callbacks import (
    ReportProgress,
    StopAfterUpdates,
    make_checkpoints,
    make_evaluation,
    make_tracking,
)
from crashalgos.experiments.run.config import MAY_CHANGE, RunConfig
from crashalgos.experiments.run.evaluation import Clock, Evaluation, read_evaluations
from crashalgos.experiments.run.folder import (
    BEST_FOLDER,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    EVALUATIONS_FILE,
    LOG_FILE,
    MODEL_FILE,
    check_same_config,
    claimed,
    clear,
    read_status,
    write_json,
    write_status,
)
from crashalgos.experiments.run.model import close_envs, make_model, save_model


@dataclass
class RunResult:
    """
    The result of a finished run.

    :param config: the run's configuration
    :param num_timesteps: environment steps taken, until the end of the last rollout
    :param seconds: wall time of training, filming included; evaluation and W&B's start and finish are not
    :param evaluations: one for each evaluation step and each mode
    :param wandb_folder: the W&B run's folder; ``None`` if it was not tracked
    :param wandb_url: the W&B run's page; ``None`` if it is not online
    """

    config: RunConfig
    num_timesteps: int
    seconds: float
    evaluations: list[Evaluation]
    wandb_folder: Path | None
    wandb_url: str | None = None

    @property
    def final_return(self) -> float:
        """Mean return of the last deterministic evaluation."""
        return next(e.mean_return for e in reversed(self.evaluations) if e.mode == "deterministic")


def run(config: RunConfig, on_progress: Callable[[int], None] | None = None) -> RunResult:
    """
    Trains the model of a configuration, with evaluation and tracking.

    A finished run is read from its folder. An interrupted run resumes from its last checkpoint, and its results are those of a
    run that was not interrupted; peers have no checkpoint and start again. Whatever ends training, the model is saved.

    :param on_progress: gets now and then how much of ``config.size`` is done
    :return: the run's result
    :raises ValueError: if the folder is in use, or holds a run with another configuration (the message names what differs)
    """
    with claimed(config.folder, config.as_dict(), MAY_CHANGE):
        if (result := finished(config)) is not None:
            return result
        _prepare_folder(config)
        try:
            result = _train(config, on_progress)
        except BaseException as error:
            # A full disk may be the error itself: it must not be hidden by a second one.
            with suppress(OSError):
                _write_failure(config, error)
            raise
        _write_result(result)
        (config.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return result


def finished(config: RunConfig) -> RunResult | None:
    """
    Reads the result of a finished run from its folder.

    :return: the run's result; ``None`` if the run has not finished
    :raises ValueError: if the folder holds a run with another configuration (the message names what differs)
    """
    if not config.folder.exists():
        return None
    check_same_config(config.folder, config.as_dict(), MAY_CHANGE)
    status = read_status(config.folder)
    if status.get("state") != "finished":
        return None
    evaluations = read_evaluations(config.folder / EVALUATIONS_FILE) if config.eval_freq > 0 else []
    wandb_folder = None if status["wandb_folder"] is None else config.folder / status["wandb_folder"]
    return RunResult(config, status["num_timesteps"], status["seconds"], evaluations, wandb_folder, status["wandb_url"])


def _prepare_folder(config: RunConfig) -> None:
    """Removes what an interrupted run left, except for its checkpoint and the files that belong to it."""
    for folder in (config.folder, config.folder / BEST_FOLDER):
        remove_unfinished(folder)
    if not (config.folder / CHECKPOINT_FILE).exists():
        clear(config.folder, keep={LOG_FILE})
    write_json(config.folder / CONFIG_FILE, config.as_dict())
    write_status(config.folder, {"state": "running"})


def _write_failure(config: RunConfig, error: BaseException) -> None:
    state = "failed" if isinstance(error, Exception) else "interrupted"
    reason = "".join(traceback.format_exception_only(error)).strip()
    write_status(config.folder, {"state": state, "reason": reason})


def _write_result(result: RunResult) -> None:
    folder, wandb_folder = result.config.folder, result.wandb_folder
    status = {
        "state": "finished",
        "num_timesteps": result.num_timesteps,
        "seconds": result.seconds,
        "wandb_folder": None if wandb_folder is None else os.path.relpath(wandb_folder, folder),
        "wandb_url": result.wandb_url,
    }
    write_status(folder, status)


def _train(config: RunConfig, on_progress: Callable[[int], None] | None) -> RunResult:
    """Trains the model in a prepared folder."""
    if config.threads > 0:
        th.set_num_threads(config.threads)
    model = make_model(config)
    model.set_logger(configure(str(config.folder), ["csv", "stdout"] if config.verbose else ["csv"]))
    clock = Clock()
    evaluation = make_evaluation(config, model, clock) if config.eval_freq > 0 else None
    tracking = make_tracking(config) if config.track else None
    # Checkpoints come before all that act at a rollout's start, which must find the restored state.
    callbacks: list[BaseCallback] = [clock, *make_checkpoints(config, model)]
    if evaluation is not None:
        callbacks.append(evaluation)
    if config.n_updates > 0:
        callbacks.append(StopAfterUpdates(config.n_updates))
    if on_progress is not None:
        callbacks.append(ReportProgress(on_progress, in_updates=config.n_updates > 0))
    if tracking is not None:
        # Tracking comes last: at the end it sends what the others have logged.
        callbacks.append(tracking)

    failure: BaseException | None = None
    try:
        model.learn(config.settings.n_timesteps, callback=callbacks, progress_bar=config.progress_bar)
    except BaseException as error:
        failure = error
    # The model comes first: on a full disk the logger fails again. SB3 leaves the last update's figures in the logger.
    steps: list[Callable[[], object]] = [
        lambda: save_model(model, config.folder, MODEL_FILE),
        lambda: model.logger.dump(model.num_timesteps),
        model.logger.close,
    ]
    if failure is not None and tracking is not None:
        steps.append(tracking.close)
    steps.append(lambda: close_envs(model))
    if evaluation is not None:
        steps.append(evaluation.env.close)
    _do_all(steps, failure)
    return RunResult(
        config,
        model.num_timesteps,
        clock.seconds,
        evaluation.evaluations if evaluation is not None else [],
        tracking.run_dir if tracking is not None else None,
        tracking.run_url if tracking is not None else None,
    )


def _do_all(steps: Iterable[Callable[[], object]], failure: BaseException | None) -> None:
    """
    Takes every step, also after one has failed.

    :param steps: functions to call in this order
    :param failure: an error from before
    :raises BaseException: the first error; each later one becomes a warning
    """
    for step in steps:
        try:
            step()
        except Exception as error:
            if failure is None:
                failure = error
            else:
                warnings.warn(f"after {type(failure).__name__}: {type(error).__name__}: {error}", stacklevel=2)
    if failure is not None:
        raise failure
