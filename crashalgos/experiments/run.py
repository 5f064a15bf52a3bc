"""One run: one algorithm in one environment with one seed, in a folder of its own."""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from crashalgos.common.checks import check_count
from crashalgos.experiments.evaluation import Evaluation, EvaluationCallback
from crashalgos.experiments.registry import algorithm_class, check_environment
from crashalgos.experiments.settings import Settings, check_names, constructor_arguments
from crashalgos.tracking import WandbCallback

# Evaluation environments start from seeds that no training environment is likely to start from.
EVALUATION_SEED = 1_000_000
# The distance of one run's evaluation seeds from the next run's: a run takes one seed an episode.
EVALUATION_SEEDS_A_RUN = 1_000

CONFIG_FILE = "config.json"
MODEL_FILE = "model.zip"


@dataclass
class RunConfig:
    """
    All that a run depends on.

    :param algo: the algorithm's name in the registry
    :param env: the environment's id
    :param settings: what is tuned: steps, copies of the environment, hyperparameters
    :param folder: the run's own folder: ``config.json``, ``progress.csv``, ``evaluations.csv``, ``model.zip``, with
        normalisation ``vec_normalize.pkl``, and W&B's ``wandb/``
    :param seed: of the model, its environments and its evaluation
    :param n_updates: end after this many updates, if that comes before ``settings.n_timesteps``; 0: it never does
    :param eval_freq: environment steps between evaluations; 0: no evaluation
    :param eval_episodes: episodes of one evaluation
    :param threads: PyTorch's threads; 0: as many as PyTorch takes
    :param device: PyTorch's device; small networks are fastest on the CPU
    :param track: whether W&B tracks the run
    :param project: W&B's project
    :param verbose: 1 prints each update's figures
    :param progress_bar: whether to show a bar
    """

    algo: str
    env: str
    settings: Settings
    folder: Path
    seed: int = 0
    n_updates: int = 0
    eval_freq: int = 5_000
    eval_episodes: int = 10
    threads: int = 1
    device: str = "cpu"
    track: bool = True
    project: str = "crashalgos"
    verbose: int = 0
    progress_bar: bool = False

    @property
    def name(self) -> str:
        """What the run is called."""
        return f"{self.algo}-{self.env}-seed{self.seed}".replace("/", "-").replace(":", "-")

    @property
    def size(self) -> int:
        """How long the run is, in its own unit: updates where they end it, environment steps otherwise."""
        return self.n_updates or self.settings.n_timesteps

    def as_dict(self) -> dict[str, Any]:
        """:return: the same as plain data"""
        return asdict(self) | {"folder": str(self.folder)}


@dataclass
class RunResult:
    """
    What a run came to.

    :param config: the run
    :param num_timesteps: environment steps taken, the last rollout's end included
    :param seconds: wall time of the training; evaluation, and W&B's start and finish, are left out
    :param evaluations: one for each step of the grid
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
        """Mean return of the last evaluation."""
        return self.evaluations[-1].mean_return

    @property
    def steps_per_second(self) -> float:
        """Environment steps a second of the training."""
        return self.num_timesteps / self.seconds


def run(config: RunConfig, on_progress: Callable[[int], None] | None = None) -> RunResult:
    """
    Train, evaluating and tracking on the way. Whatever ends the training, the model is saved as it is then.

    :param config: the run
    :param on_progress: told now and then how much of ``config.size`` is done
    :return: what it came to
    """
    if config.threads > 0:
        th.set_num_threads(config.threads)
    claim_folder(config.folder)
    (config.folder / CONFIG_FILE).write_text(json.dumps(config.as_dict(), indent=2) + "\n", encoding="utf-8")

    model = make_model(config)
    model.set_logger(configure(str(config.folder), ["csv", "stdout"] if config.verbose else ["csv"]))
    evaluation = make_evaluation(config) if config.eval_freq > 0 else None
    clock = Clock()
    callbacks: list[BaseCallback] = [clock] if evaluation is None else [clock, evaluation]
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
        lambda: save(model, config.folder),
        lambda: model.logger.dump(model.num_timesteps),
        model.logger.close,
    ]
    if failure is not None and tracking is not None:
        endings.append(tracking.close)
    finish([*endings, lambda: close(model, evaluation)], failure)
    return RunResult(
        config,
        model.num_timesteps,
        clock.seconds - (evaluation.seconds if evaluation is not None else 0.0),
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
    Make the environment, the model and the folder once, so that a mistake shows before any work.

    :param config: a run
    :raises ValueError: for an unknown name, an impossible value, or a folder that cannot be written to or has been used
    """
    check_count("seed", config.seed, low=0)
    for name in ("n_updates", "eval_freq", "threads"):
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
    except (AssertionError, TypeError, RuntimeError) as error:
        raise ValueError(f"{config.algo} on {config.env}: {error}") from error
    except Exception as error:
        # The message of these says little without the type.
        raise ValueError(f"{config.algo} on {config.env}: {type(error).__name__}: {error}") from error
    claim_folder(config.folder)
    if config.track:
        make_tracking(config)


def untuned(configs: Iterable[RunConfig]) -> str:
    """
    :param configs: runs
    :return: in one line, which have their algorithm's defaults because nothing is tuned for the environment; empty for none
    """
    names = dict.fromkeys(f"{config.algo} on {config.env}" for config in configs if not config.settings.tuned)
    return f"class defaults (untuned): {', '.join(names)}" if names else ""


def claim_folder(folder: Path) -> None:
    """
    Make a folder for results.

    :param folder: it need not exist
    :raises ValueError: if nothing can be written there, or if results are there already
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to output folder {str(folder)!r}: {error.strerror}") from error
    if (folder / CONFIG_FILE).exists():
        raise ValueError(f"output folder {str(folder)!r} already holds results")


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
    env = make_vec_env(config.env, n_envs=n_envs, seed=seed)
    normalize = config.settings.normalize
    if normalize is False:
        return env
    arguments = {} if normalize is True else dict(normalize)
    if "gamma" in config.settings.hyperparameters:
        arguments.setdefault("gamma", config.settings.hyperparameters["gamma"])
    return VecNormalize(env, training=training, **arguments)


def make_evaluation(config: RunConfig) -> EvaluationCallback:
    """
    :param config: a run
    :return: its evaluation, with an environment of its own
    """
    seed = EVALUATION_SEED + EVALUATION_SEEDS_A_RUN * config.seed
    env = make_env(config, n_envs=config.eval_episodes, seed=seed, training=False)
    path = config.folder / "evaluations.csv"
    return EvaluationCallback(env, config.eval_freq, config.settings.n_timesteps, seed, path)


def make_tracking(config: RunConfig) -> WandbCallback:
    """
    :param config: a run
    :return: its W&B callback
    """
    # The hyperparameters, and what else the model knows, the callback finds out itself.
    names = ("algo", "env", "seed", "n_updates", "eval_freq", "eval_episodes", "threads")
    return WandbCallback(
        config.project,
        name=config.name,
        group=f"{config.algo}-{config.env}".replace("/", "-").replace(":", "-"),
        config={"run": {name: getattr(config, name) for name in names} | {"n_timesteps": config.settings.n_timesteps}},
        dir=config.folder,
    )


def save(model: BaseAlgorithm, folder: Path) -> None:
    """
    :param model: a model
    :param folder: where it goes, with the statistics of its normalisation
    """
    model.save(folder / MODEL_FILE)
    normalization = model.get_vec_normalize_env()
    if normalization is not None:
        normalization.save(str(folder / "vec_normalize.pkl"))


def close(model: BaseAlgorithm, evaluation: EvaluationCallback | None = None) -> None:
    """
    :param model: its environments are closed
    :param evaluation: and this one's
    """
    for env in (model.get_env(), evaluation.env if evaluation is not None else None):
        if env is not None:
            env.close()


class Clock(BaseCallback):
    """The training's wall time. First in the list, it leaves out W&B's start and finish, but not its part of each log call."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.start: float | None = None

    def _on_rollout_start(self) -> None:
        if self.start is None:
            self.start = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.start is not None:
            self.seconds = time.perf_counter() - self.start


class StopAfterUpdates(BaseCallback):
    """
    Ends the training at the first step after an update.

    :param n_updates: this many updates are made
    """

    def __init__(self, n_updates: int) -> None:
        super().__init__()
        self.n_updates = n_updates
        self.rollouts = 0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        # The rollouts that have ended have been learned from: a step can only follow the update.
        return self.rollouts < self.n_updates


class ReportProgress(BaseCallback):
    """
    Tells how far the training is, a few times a second.

    :param tell: is told
    :param in_updates: whether to count updates instead of environment steps
    """

    PERIOD = 0.25

    def __init__(self, tell: Callable[[int], None], in_updates: bool) -> None:
        super().__init__()
        self.tell = tell
        self.in_updates = in_updates
        self.rollouts = 0
        self.told_at = 0.0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        if time.monotonic() - self.told_at >= self.PERIOD:
            self.told_at = time.monotonic()
            self.tell(self.rollouts if self.in_updates else self.num_timesteps)
        return True
