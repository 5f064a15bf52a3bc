"""
The callbacks of a run: checkpoints, evaluation, tracking, the end after some updates, and progress.

``config`` is always the run's configuration.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.evaluation import Clock, EvaluationCallback
from crashalgos.experiments.run.folder import BEST_FOLDER, BEST_MODEL_FILE, CHECKPOINT_FILE, EVALUATIONS_FILE
from crashalgos.experiments.run.model import make_env, save_model
from crashalgos.resume import RestartCallback, ResumeCallback
from crashalgos.tracking import WandbCallback

# Training seeds are unlikely to be this high, so evaluation meets other episodes than training.
_FIRST_EVALUATION_SEED = 1_000_000
# Each episode of an evaluation takes one seed.
_EVALUATION_SEEDS_PER_RUN = 1_000
_MAX_TAG_LENGTH = 64
# W&B gets these fields from the configuration. The callback finds the hyperparameters in the model.
_TRACKED_FIELDS = ("algo", "variant", "env", "seed", "n_updates", "eval_freq", "eval_episodes", "checkpoint_freq", "threads")


def make_checkpoints(config: RunConfig, model: BaseAlgorithm) -> list[BaseCallback]:
    """
    Makes the callback that restarts the environments at each checkpoint, and saves one for our algorithms.

    A peer's environments restart as well, so that equal algorithms stay equal.

    :param model: the run's model
    :return: one callback; none without checkpoints or for an off-policy peer
    """
    if config.checkpoint_freq == 0 or not isinstance(model, OnPolicyAlgorithm):
        return []
    if isinstance(model, PolicyGradientAlgorithm):
        return [ResumeCallback(config.folder / CHECKPOINT_FILE, config.checkpoint_freq)]
    return [RestartCallback(config.checkpoint_freq)]


def make_evaluation(config: RunConfig, model: BaseAlgorithm, clock: Clock) -> EvaluationCallback:
    """
    Makes the evaluation, with an environment of its own.

    :param model: the run's model
    :param clock: the run's wall time
    :return: the callback
    """
    seed = _FIRST_EVALUATION_SEED + _EVALUATION_SEEDS_PER_RUN * config.seed
    return EvaluationCallback(
        make_env(config, n_envs=config.eval_episodes, seed=seed, training=False),
        config.eval_freq,
        config.settings.n_timesteps,
        seed,
        config.folder / EVALUATIONS_FILE,
        clock,
        on_best=lambda: save_model(model, config.folder / BEST_FOLDER, BEST_MODEL_FILE),
    )


def make_tracking(config: RunConfig) -> WandbCallback:
    """Makes the W&B callback."""
    fields = {name: getattr(config, name) for name in _TRACKED_FIELDS}
    return WandbCallback(
        config.project,
        # All runs of a sweep would have the same name; without one, W&B numbers them.
        name=None if "WANDB_SWEEP_ID" in os.environ else config.name,
        group=config.wandb_group,
        job_type=config.job_type,
        tags=list(dict.fromkeys(tag[:_MAX_TAG_LENGTH] for tag in (config.contender, config.env, *config.tags))),
        config={"run": fields | {"n_timesteps": config.settings.n_timesteps}},
        dir=config.folder,
        best_model_save_path=config.folder / BEST_FOLDER,
        video_env=None if config.video_freq is None else config.env,
        video_freq=config.video_freq or 0,
    )


class StopAfterUpdates(BaseCallback):
    """
    Ends training at the first step after a number of updates.

    :param n_updates: the number of updates
    """

    def __init__(self, n_updates: int) -> None:
        super().__init__()
        self.n_updates = n_updates
        self.rollouts = 0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        # The update of each finished rollout is made: a step can only follow it.
        return self.rollouts < self.n_updates


class ReportProgress(BaseCallback):
    """
    Reports the progress of a run, a few times a second.

    :param on_progress: gets the number of environment steps, or of updates
    :param in_updates: whether to report updates instead of environment steps
    """

    #: Seconds between reports
    PERIOD = 0.25

    def __init__(self, on_progress: Callable[[int], None], in_updates: bool) -> None:
        super().__init__()
        self.on_progress = on_progress
        self.in_updates = in_updates
        self.rollouts = 0
        self._last_report = 0.0

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        if time.monotonic() - self._last_report >= self.PERIOD:
            self._last_report = time.monotonic()
            self.on_progress(self.rollouts if self.in_updates else self.num_timesteps)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Gives what a checkpoint keeps; the time of the last report belongs to the process."""
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restores the number of rollouts.

        :param state: from ``state_dict``
        """
        self.rollouts = state["rollouts"]
