"""Evaluation on a fixed grid of environment steps, the same for every algorithm."""

import copy
import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from crashalgos.common.trajectories import ENDLESS_TRAJECTORY_STEPS


@dataclass(frozen=True)
class Evaluation:
    """
    :param step: the grid's step
    :param num_timesteps: the steps that the training had taken, at least ``step``
    :param returns: each episode's return, raw rewards
    :param lengths: each episode's length
    """

    step: int
    num_timesteps: int
    returns: list[float]
    lengths: list[int]

    @property
    def mean_return(self) -> float:
        """The episodes' mean return."""
        return float(np.mean(self.returns))


class EvaluationCallback(BaseCallback):
    """
    Evaluates the deterministic policy at 0, ``freq``, 2 ``freq``, … and ``total_timesteps`` environment steps.

    At a step of the grid the policy is the one that has learned from the rollouts that ended before that step (not yet from
    one that ends exactly there); the rollout that goes past the last one changes the model, but no evaluation. Each evaluation
    starts the environment from the same seed, draws nothing from the training's random streams, and goes straight to the
    logger's outputs, so that what the training has recorded waits for its own dump.

    :param env: one environment an episode, wrapped like the training's, in normalisation too
    :param freq: distance of the grid's steps
    :param total_timesteps: the grid's last step
    :param seed: the environment's seed at each evaluation
    :param path: the CSV file that gets one row an episode, as soon as it is known
    """

    def __init__(self, env: VecEnv, freq: int, total_timesteps: int, seed: int, path: Path) -> None:
        super().__init__()
        self.env = env
        self.seed = seed
        self.path = path
        self.evaluations: list[Evaluation] = []
        self.seconds = 0.0
        self._grid = [*range(0, total_timesteps, freq), total_timesteps]

    def _on_training_start(self) -> None:
        self._write([("step", "num_timesteps", "episode", "return", "length")], mode="w")

    def _on_rollout_start(self) -> None:
        # Not in _on_training_start: trackers that come later in the list are not there yet.
        self._evaluate_when_due()

    def _on_step(self) -> bool:
        self._evaluate_when_due()
        return True

    def _evaluate_when_due(self) -> None:
        while len(self.evaluations) < len(self._grid) and self.num_timesteps >= self._grid[len(self.evaluations)]:
            start = time.perf_counter()
            self._evaluate(self._grid[len(self.evaluations)])
            self.seconds += time.perf_counter() - start

    def _evaluate(self, step: int) -> None:
        normalization, frozen = self.model.get_vec_normalize_env(), unwrap_vec_normalize(self.env)
        if normalization is not None and frozen is not None:
            frozen.obs_rms = copy.deepcopy(normalization.obs_rms)
        self.env.seed(self.seed)
        returns, lengths = evaluate_policy(
            self.model,
            self.env,
            n_eval_episodes=self.env.num_envs,
            return_episode_rewards=True,
            callback=refuse_endless_episodes,
        )
        assert isinstance(returns, list) and isinstance(lengths, list)
        self.evaluations.append(Evaluation(step, self.num_timesteps, returns, lengths))
        self._write([(step, self.num_timesteps, i, returns[i], lengths[i]) for i in range(len(returns))], mode="a")

        direct = Logger(folder=None, output_formats=self.logger.output_formats)
        direct.record("eval/mean_reward", float(np.mean(returns)))
        direct.record("eval/mean_ep_length", float(np.mean(lengths)))
        direct.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        direct.dump(self.num_timesteps)

    def _write(self, rows: list[tuple], mode: str) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def refuse_endless_episodes(locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
    """
    ``evaluate_policy`` calls it after each step of each env that has episodes left to play.

    :param locals_: the local variables of ``evaluate_policy``
    :param globals_: its global ones
    :raises RuntimeError: if the episode has not ended after ``ENDLESS_TRAJECTORY_STEPS`` steps
    """
    if not locals_["done"] and locals_["current_lengths"][locals_["i"]] >= ENDLESS_TRAJECTORY_STEPS:
        raise RuntimeError(
            f"An evaluation episode has not ended after {ENDLESS_TRAJECTORY_STEPS} steps (ENDLESS_TRAJECTORY_STEPS): "
            "give the env a time limit (max_episode_steps, or the wrapper TimeLimit), or turn evaluation off (eval_freq 0)"
        )
