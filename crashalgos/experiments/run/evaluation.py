"""Evaluation at fixed environment steps, the same for every algorithm."""

import copy
import csv
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from crashalgos.common.files import write_csv
from crashalgos.common.random_state import preserved_random_state
from crashalgos.common.trajectory_sampler import ENDLESS_TRAJECTORY_STEPS
from crashalgos.resume import renew

MODES = ("deterministic", "stochastic")
_COLUMNS = ("step", "num_timesteps", "seconds", "mode", "episode", "return", "length")


@dataclass(frozen=True)
class Evaluation:
    """
    One evaluation: some episodes of the current policy in one mode.

    :param step: the environment step at which it was due
    :param num_timesteps: the environment steps that training had taken, at least ``step``
    :param seconds: the wall time of training until then
    :param mode: "deterministic" for the mode of the action distribution, "stochastic" for actions drawn from it
    :param returns: each episode's return, from raw rewards
    :param lengths: each episode's length in steps
    """

    step: int
    num_timesteps: int
    seconds: float
    mode: str
    returns: list[float]
    lengths: list[int]

    @property
    def mean_return(self) -> float:
        """The episodes' mean return."""
        return float(np.mean(self.returns))


class Clock(BaseCallback):
    """
    Measures the wall time of training.

    As the first callback it leaves out W&B's start and finish, but not W&B's part of each log call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = 0.0
        self._start: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time of training so far, in seconds; of a killed process the time until its last checkpoint."""
        return self._before + (0.0 if self._start is None else time.perf_counter() - self._start)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while the block runs."""
        self._before, self._start = self.seconds, None
        yield
        self._start = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self._start is None:
            self._start = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._before, self._start = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """Gives what a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restores the time.

        :param state: from ``state_dict``
        """
        self._before = state["seconds"]
        if self._start is not None:
            self._start = time.perf_counter()


class EvaluationCallback(BaseCallback):
    """
    Evaluates the policy in both modes at 0, ``freq``, 2 ``freq``, … and ``total_timesteps`` environment steps.

    - The policy of a step has learned from the rollouts that ended before this step, not from one that ends exactly there.
    - Each evaluation starts its environment and its random numbers from the same seed. It leaves the random streams of
      training and the policy's mode unchanged.
    - Its figures go straight to the logger's outputs. What training has recorded waits for its own dump.

    :param env: one copy of the environment per episode, with the same wrappers as in training, VecNormalize included
    :param freq: environment steps between evaluations
    :param total_timesteps: the step of the last evaluation
    :param seed: seed of the environment and of the random numbers, at each evaluation
    :param path: the CSV file; it gets one row per episode, after each evaluation
    :param clock: the wall time of training; it is paused during evaluations
    :param on_best: called after an evaluation whose deterministic mean return is the highest so far
    """

    def __init__(
        self,
        env: VecEnv,
        freq: int,
        total_timesteps: int,
        seed: int,
        path: Path,
        clock: Clock,
        on_best: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.env = env
        self.seed = seed
        self.path = path
        self.clock = clock
        self.on_best = on_best
        self.evaluations: list[Evaluation] = []
        self._steps = [*range(0, total_timesteps, freq), total_timesteps]

    def _on_training_start(self) -> None:
        self._write()

    def _on_rollout_start(self) -> None:
        # Not in _on_training_start: trackers later in the list have not started yet.
        self._evaluate_when_due()

    def _on_step(self) -> bool:
        self._evaluate_when_due()
        return True

    def _evaluate_when_due(self) -> None:
        while (n_done := len(self.evaluations) // len(MODES)) < len(self._steps) and self.num_timesteps >= self._steps[n_done]:
            with self.clock.paused(), preserved_random_state(self.model):
                self._evaluate(self._steps[n_done])

    def _evaluate(self, step: int) -> None:
        training, evaluation = self.model.get_vec_normalize_env(), unwrap_vec_normalize(self.env)
        if training is not None and evaluation is not None:
            evaluation.obs_rms = copy.deepcopy(training.obs_rms)
        best = max((e.mean_return for e in self.evaluations if e.mode == "deterministic"), default=-math.inf)
        # The file is written after both modes: it never holds half an evaluation.
        self.evaluations += [self._play(step, mode) for mode in MODES]
        self._write()

        deterministic, stochastic = self.evaluations[-2:]
        if deterministic.mean_return > best:
            self.on_best()
        direct = Logger(folder=None, output_formats=self.logger.output_formats)
        direct.record("eval/mean_reward", deterministic.mean_return)
        direct.record("eval/mean_ep_length", float(np.mean(deterministic.lengths)))
        direct.record("eval/mean_reward_stochastic", stochastic.mean_return)
        direct.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        direct.dump(self.num_timesteps)

    def _play(self, step: int, mode: str) -> Evaluation:
        renew(self.env)  # new environments: old ones may keep something from earlier evaluations of this process
        self.env.seed(self.seed)
        set_random_seed(self.seed)
        if isinstance(self.model.policy, ActorCriticPolicy) and self.model.policy.use_sde:
            self.model.policy.reset_noise(self.env.num_envs)
        returns, lengths = evaluate_policy(
            self.model,
            self.env,
            n_eval_episodes=self.env.num_envs,
            deterministic=mode == "deterministic",
            return_episode_rewards=True,
            callback=_refuse_endless_episodes,
        )
        assert isinstance(returns, list) and isinstance(lengths, list)
        return Evaluation(step, self.num_timesteps, self.clock.seconds, mode, returns, lengths)

    def _write(self) -> None:
        rows = [
            (evaluation.step, evaluation.num_timesteps, evaluation.seconds, evaluation.mode, episode, *outcome)
            for evaluation in self.evaluations
            for episode, outcome in enumerate(zip(evaluation.returns, evaluation.lengths, strict=True))
        ]
        write_csv(self.path, _COLUMNS, rows)

    def state_dict(self) -> dict[str, Any]:
        """Gives what a checkpoint keeps."""
        return {"evaluations": [asdict(evaluation) for evaluation in self.evaluations]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restores the evaluations and their file.

        :param state: from ``state_dict``
        """
        self.evaluations = [Evaluation(**evaluation) for evaluation in state["evaluations"]]
        self._write()


def _refuse_endless_episodes(locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
    """Raises an error for a too long episode; ``evaluate_policy`` calls it after each step, with its own variables."""
    if not locals_["done"] and locals_["current_lengths"][locals_["i"]] >= ENDLESS_TRAJECTORY_STEPS:
        raise RuntimeError(
            f"An evaluation episode has not ended after {ENDLESS_TRAJECTORY_STEPS} steps (ENDLESS_TRAJECTORY_STEPS): "
            "give the env a time limit (max_episode_steps, or the wrapper TimeLimit), or turn evaluation off (eval_freq 0)"
        )


def read_evaluations(path: Path) -> list[Evaluation]:
    """
    Reads the CSV file of an ``EvaluationCallback``.

    :param path: the file
    :return: its evaluations
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups = itertools.groupby(rows, key=lambda row: (row["step"], row["num_timesteps"], row["seconds"], row["mode"]))
    evaluations = []
    for (step, num_timesteps, seconds, mode), group in groups:
        episodes = list(group)
        returns, lengths = [float(row["return"]) for row in episodes], [int(row["length"]) for row in episodes]
        evaluations.append(Evaluation(int(step), int(num_timesteps), float(seconds), mode, returns, lengths))
    return evaluations
