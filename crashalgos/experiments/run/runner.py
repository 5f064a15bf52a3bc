"""One run: one algorithm in one environment with one seed, in a folder of its own, from which it resumes."""

import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from crashalgos.common.checks import check_count
from crashalgos.common.files import remove_unfinished, replacing
from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.experiments.run.callbacks import ReportProgress, StopAfterUpdates
from crashalgos.experiments.run.evaluation import Clock, Evaluation, EvaluationCallback, read_evaluations
from crashalgos.experiments.run.folder import (
    CONFIG_FILE,
    LOG_FILE,
    check_same,
    claimed,
    clear,
    make_folder,
    read_status,
    write_json,
    write_status,
)
from crashalgos.experiments.run.registry import algorithm_class, check_environment
from crashalgos.experiments.run.settings import Settings, check_names, constructor_arguments
from crashalgos.resume import RenewableVecEnv, RestartCallback, ResumeCallback
from crashalgos.tracking import WandbCallback

# Evaluation environments start from seeds that no training environment is likely to start from.
EVALUATION_SEED = 1_000_000
# The distance of one run's evaluation seeds from the next run's: a run takes one seed an episode.
EVALUATION_SEEDS_A_RUN = 1_000

EVALUATIONS_FILE = "evaluations.csv"
MODEL_FILE = "model.zip"
BEST_FOLDER, BEST_MODEL_FILE = "best", "best_model.zip"
NORMALIZATION_FILE = "vec_normalize.pkl"
CHECKPOINT_FILE = "checkpoint.pt"

# What a run's results do not depend on.
FREE = {"folder", "track", "project", "group", "job_type", "tags", "video_freq", "verbose", "progress_bar"}


class NotApplicable(ValueError):
    """The algorithm cannot act in the environment's action space."""


@dataclass
class RunConfig:
    """
    All that a run depends on.

    :param algo: the algorithm's name in the registry
    :param env: the environment's id
    :param settings: what is tuned: steps, copies of the environment, hyperparameters
    :param folder: the run's own folder: ``config.json``, ``status.json``, ``progress.csv``, ``evaluations.csv``,
        ``model.zip``, with normalisation ``vec_normalize.pkl``, W&B's ``wandb/``; in ``best/`` the best evaluation's model;
        until it has finished ``checkpoint.pt``
    :param variant: what the algorithm with these settings is called; by default as the algorithm
    :param seed: of the model, its environments and its evaluation
    :param n_updates: end after this many updates, if that comes before ``settings.n_timesteps``; 0: it never does
    :param eval_freq: environment steps between evaluations; 0: no evaluation
    :param eval_episodes: episodes of one evaluation
    :param checkpoint_freq: environment steps between checkpoints, where the environments start afresh; 0: none
    :param threads: PyTorch's threads; 0: as many as PyTorch takes
    :param device: PyTorch's device; small networks are fastest on the CPU
    :param track: whether W&B tracks the run
    :param project: W&B's project
    :param group: W&B's group; by default one for the algorithm in the environment, whatever the seed
    :param job_type: W&B's job type
    :param tags: W&B's tags, besides algorithm and environment
    :param video_freq: environment steps between filmed episodes, with one at the end besides; 0: only that one; ``None``: none
    :param verbose: 1 prints each update's figures
    :param progress_bar: whether to show a bar
    """

    algo: str
    env: str
    settings: Settings
    folder: Path
    variant: str = ""
    seed: int = 0
    n_updates: int = 0
    eval_freq: int = 5_000
    eval_episodes: int = 10
    checkpoint_freq: int = 25_000
    threads: int = 1
    device: str = "cpu"
    track: bool = True
    project: str = "crashalgos"
    group: str = ""
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    video_freq: int | None = None
    verbose: int = 0
    progress_bar: bool = False

    @property
    def contender(self) -> str:
        """What the algorithm with these settings is called."""
        return self.variant or self.algo

    @property
    def name(self) -> str:
        """What the run is called."""
        return f"{self.contender}-{self.env}-seed{self.seed}".replace("/", "-").replace(":", "-")

    @property
    def size(self) -> int:
        """How long the run is, in its own unit: updates where they end it, environment steps otherwise."""
        return self.n_updates or self.settings.n_timesteps

    def as_dict(self) -> dict[str, Any]:
        """:return: the same as plain data"""
        return asdict(self) | {"folder": str(self.folder), "tags": list(self.tags)}


@dataclass
class RunResult:
    """
    What a run came to.

    :param config: the run
    :param num_timesteps: environment steps taken, the last rollout's end included
    :param seconds: wall time of the training; evaluation, and W&B's start and finish, are left out, filming is not
    :param evaluations: one for each step of the grid and each mode
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
    Train, evaluating and tracking on the way. A run that has finished is read from its folder; one that was interrupted, or
    killed, resumes from its last checkpoint (peers start again from zero), and ends as if it had not been. Whatever ends the
    training, the model is saved as it is then.

    :param config: the run
    :param on_progress: told now and then how much of ``config.size`` is done
    :return: what it came to
    :raises ValueError: if the folder is of a run with another configuration, naming what differs, or in use
    """
    with claimed(config.folder, config.as_dict(), FREE):
        if (result := finished(config)) is not None:
            return result
        prepare(config)
        try:
            result = train(config, on_progress)
        except BaseException as error:
            state = "failed" if isinstance(error, Exception) else "interrupted"
            reason = "".join(traceback.format_exception_only(error)).strip()
            with suppress(OSError):  # on a full disk; what happened first is what counts
                write_status(config.folder, {"state": state, "reason": reason})
            raise
        write_status(
            config.folder,
            {
                "state": "finished",
                "num_timesteps": result.num_timesteps,
                "seconds": result.seconds,
                "wandb_folder": None if result.wandb_folder is None else os.path.relpath(result.wandb_folder, config.folder),
                "wandb_url": result.wandb_url,
            },
        )
        (config.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return result


def finished(config: RunConfig) -> RunResult | None:
    """
    :param config: a run
    :return: what it came to, read from its folder; ``None`` if it has not finished
    :raises ValueError: if the folder is of a run with another configuration, naming what differs
    """
    if not config.folder.exists():
        return None
    check_same(config.folder, config.as_dict(), FREE)
    status = read_status(config.folder)
    if status.get("state") != "finished":
        return None
    evaluations = read_evaluations(config.folder / EVALUATIONS_FILE) if config.eval_freq > 0 else []
    wandb_folder = None if status["wandb_folder"] is None else config.folder / status["wandb_folder"]
    return RunResult(config, status["num_timesteps"], status["seconds"], evaluations, wandb_folder, status["wandb_url"])


def prepare(config: RunConfig) -> None:
    """
    :param config: a run; what an earlier attempt left is removed, except for its checkpoint and what belongs to it
    """
    for folder in (config.folder, config.folder / BEST_FOLDER):
        remove_unfinished(folder)
    if not (config.folder / CHECKPOINT_FILE).exists():
        clear(config.folder, keep={LOG_FILE})
    write_json(config.folder / CONFIG_FILE, config.as_dict())
    write_status(config.folder, {"state": "running"})


def train(config: RunConfig, on_progress: Callable[[int], None] | None) -> RunResult:
    """
    :param config: a run; its folder is prepared
    :param on_progress: told now and then how much of ``config.size`` is done
    :return: what it came to
    """
    if config.threads > 0:
        th.set_num_threads(config.threads)
    model = make_model(config)
    model.set_logger(configure(str(config.folder), ["csv", "stdout"] if config.verbose else ["csv"]))
    clock = Clock()
    evaluation = make_evaluation(config, model, clock) if config.eval_freq > 0 else None
    # The checkpoint before all that act at the start of a rollout: they are to find the state restored.
    callbacks: list[BaseCallback] = [clock, *make_checkpoints(config, model)]
    if evaluation is not None:
        callbacks.append(evaluation)
    if config.n_updates > 0:
        callbacks.append(StopAfterUpdates(config.n_updates))
    if on_progress is not None:
        callbacks.append(ReportProgress(on_progress, in_updates=config.n_updates > 0))
    tracking = make_tracking(config) if config.track else None
    if tracking is not None:
        # The last one: at the end it sends what the others have logged.
        callbacks.append(tracking)

    failure: BaseException | None = None
    try:
        model.learn(config.settings.n_timesteps, callback=callbacks, progress_bar=config.progress_bar)
    except BaseException as error:
        failure = error
    # The model first: on a full disk the logger fails again. SB3 leaves the last update's figures in the logger.
    endings: list[Callable[[], object]] = [
        lambda: save(model, config.folder, MODEL_FILE),
        lambda: model.logger.dump(model.num_timesteps),
        model.logger.close,
    ]
    if failure is not None and tracking is not None:
        endings.append(tracking.close)
    finish([*endings, lambda: close(model, evaluation)], failure)
    return RunResult(
        config,
        model.num_timesteps,
        clock.seconds,
        evaluation.evaluations if evaluation is not None else [],
        tracking.run_dir if tracking is not None else None,
        tracking.run_url if tracking is not None else None,
    )


def finish(endings: Iterable[Callable[[], object]], failure: BaseException | None) -> None:
    """
    Do all of it, whatever fails of it.

    :param endings: what is to be done
    :param failure: what went wrong before
    :raises BaseException: what went wrong first; a warning tells what went wrong after it
    """
    for ending in endings:
        try:
            ending()
        except Exception as error:
            if failure is None:
                failure = error
            else:
                warnings.warn(f"after {type(failure).__name__}: {type(error).__name__}: {error}", stacklevel=2)
    if failure is not None:
        raise failure


def check(config: RunConfig) -> None:
    """
    Make the environment and the model once, so that a mistake shows before any work.

    :param config: a run
    :raises NotApplicable: if the algorithm cannot act in the environment
    :raises ValueError: for an unknown name or an impossible value
    """
    check_count("seed", config.seed, low=0)
    for name in ("n_updates", "eval_freq", "checkpoint_freq", "threads"):
        check_count(name, getattr(config, name), low=0)
    check_count("eval_episodes", config.eval_episodes)
    check_count("n_timesteps", config.settings.n_timesteps)
    check_count("n_envs", config.settings.n_envs)
    check_names(algorithm_class(config.algo), config.settings.hyperparameters)
    check_environment(config.env)
    try:
        close(make_model(replace(config, verbose=0)))
    except ValueError:
        raise
    except AssertionError as error:
        kind = NotApplicable if str(error).startswith("The algorithm only supports") else ValueError
        raise kind(f"{config.contender} on {config.env}: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{config.contender} on {config.env}: {error}") from error
    except Exception as error:
        # The message of these says little without the type.
        raise ValueError(f"{config.contender} on {config.env}: {type(error).__name__}: {error}") from error
    if config.video_freq is not None and not config.track:
        raise ValueError(f"`video_freq` must be None for a run that W&B does not track, got {config.video_freq!r}")
    if config.track:
        try:
            with tempfile.TemporaryDirectory() as elsewhere:
                make_tracking(replace(config, folder=Path(elsewhere)))
        except ImportError as error:  # of what films
            raise ValueError(str(error)) from error


def check_folder(config: RunConfig) -> None:
    """
    Make the folder, so that a mistake shows before any work.

    :param config: a run
    :raises ValueError: if nothing can be written there, or if it holds something else
    """
    make_folder(config.folder)
    check_same(config.folder, config.as_dict(), FREE)


def untuned(configs: Iterable[RunConfig]) -> str:
    """
    :param configs: runs
    :return: in one line, which have their algorithm's defaults because nothing is tuned for the environment; empty for none
    """
    names = dict.fromkeys(f"{config.contender} on {config.env}" for config in configs if not config.settings.tuned)
    return f"class defaults (untuned): {', '.join(names)}" if names else ""


def make_model(config: RunConfig) -> BaseAlgorithm:
    """
    :param config: a run
    :return: the untrained model with its environment
    """
    settings = config.settings
    env = make_env(config, n_envs=settings.n_envs, seed=config.seed, training=True)
    arguments = constructor_arguments(settings.hyperparameters)
    try:
        return algorithm_class(config.algo)(
            settings.policy,
            env,
            seed=config.seed,
            verbose=config.verbose,
            device=config.device,
            **arguments,
        )
    except BaseException:
        env.close()
        raise


def make_env(config: RunConfig, n_envs: int, seed: int, training: bool) -> VecEnv:
    """
    :param config: a run
    :param n_envs: copies of the environment
    :param seed: the first one's seed
    :param training: whether normalisation learns
    :return: the environment, monitored, and normalised if the settings say so
    """
    env = make_vec_env(config.env, n_envs=n_envs, seed=seed, vec_env_cls=RenewableVecEnv)
    normalize = config.settings.normalize
    if normalize is False:
        return env
    arguments = {} if normalize is True else dict(normalize)
    if "gamma" in config.settings.hyperparameters:
        arguments.setdefault("gamma", config.settings.hyperparameters["gamma"])
    return VecNormalize(env, training=training, **arguments)


def make_checkpoints(config: RunConfig, model: BaseAlgorithm) -> list[BaseCallback]:
    """
    :param config: a run
    :param model: its model
    :return: what restarts its environments, also a peer's, so that equal algorithms stay equal; ours can resume there
    """
    if config.checkpoint_freq == 0 or not isinstance(model, OnPolicyAlgorithm):
        return []
    if isinstance(model, PolicyGradientAlgorithm):
        return [ResumeCallback(config.folder / CHECKPOINT_FILE, config.checkpoint_freq)]
    return [RestartCallback(config.checkpoint_freq)]


def make_evaluation(config: RunConfig, model: BaseAlgorithm, clock: Clock) -> EvaluationCallback:
    """
    :param config: a run
    :param model: its model
    :param clock: its training's wall time
    :return: its evaluation, with an environment of its own
    """
    seed = EVALUATION_SEED + EVALUATION_SEEDS_A_RUN * config.seed
    env = make_env(config, n_envs=config.eval_episodes, seed=seed, training=False)
    path = config.folder / EVALUATIONS_FILE
    best = config.folder / BEST_FOLDER
    return EvaluationCallback(
        env, config.eval_freq, config.settings.n_timesteps, seed, path, clock, lambda: save(model, best, BEST_MODEL_FILE)
    )


def make_tracking(config: RunConfig) -> WandbCallback:
    """
    :param config: a run
    :return: its W&B callback
    """
    # The hyperparameters, and what else the model knows, the callback finds out itself.
    names = ("algo", "variant", "env", "seed", "n_updates", "eval_freq", "eval_episodes", "checkpoint_freq", "threads")
    return WandbCallback(
        config.project,
        # In a sweep all would be called the same; W&B numbers them.
        name=None if "WANDB_SWEEP_ID" in os.environ else config.name,
        group=config.group or f"{config.contender}-{config.env}".replace("/", "-").replace(":", "-"),
        job_type=config.job_type,
        tags=list(dict.fromkeys(tag[:64] for tag in (config.contender, config.env, *config.tags))),
        config={"run": {name: getattr(config, name) for name in names} | {"n_timesteps": config.settings.n_timesteps}},
        dir=config.folder,
        best_model_save_path=config.folder / BEST_FOLDER,
        video_env=None if config.video_freq is None else config.env,
        video_freq=config.video_freq or 0,
    )


def save(model: BaseAlgorithm, folder: Path, name: str) -> None:
    """
    :param model: a model
    :param folder: where it goes, with the statistics of its normalisation
    :param name: what it is called there
    """
    folder.mkdir(exist_ok=True)
    with replacing(folder / name) as temporary:
        model.save(temporary)
    normalization = model.get_vec_normalize_env()
    if normalization is not None:
        with replacing(folder / NORMALIZATION_FILE) as temporary:
            normalization.save(str(temporary))


def close(model: BaseAlgorithm, evaluation: EvaluationCallback | None = None) -> None:
    """
    :param model: its environments are closed
    :param evaluation: and this one's
    """
    for env in (model.get_env(), evaluation.env if evaluation is not None else None):
        if env is not None:
            env.close()
