"""
The data model of a comparison: its contenders, their finished runs, and the gaps where runs are missing.

``env`` is always an environment's id, and ``contender`` is one of the comparison's contenders.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.references import Reference, normalize

RUNS_FILE, EVALUATIONS_FILE, VERSIONS_FILE = "runs.csv", "evaluations.csv", "versions.json"
RUN_COLUMNS = ("contender", "env", "seed", "status", "num_timesteps", "seconds", "folder", "reason")
EVALUATION_COLUMNS = ("contender", "env", "seed", "step", "num_timesteps", "seconds", "mode", "episode", "return", "length")
#: The statuses in ``runs.csv``
FINISHED, FAILED, NOT_APPLICABLE = "finished", "failed", "not applicable"
#: The report's statuses of a run that is not in the files, or not completely
MISSING, INCOMPLETE = "missing", "incomplete"


@dataclass(frozen=True, eq=False)
class Curve:
    """
    A run's n evaluations in one mode.

    :param steps: the grid's environment steps, shape (n,)
    :param seconds: training seconds until each evaluation, shape (n,)
    :param returns: mean return of each evaluation, shape (n,)
    :param episodes: a row for each episode: step, episode, return, length
    """

    steps: np.ndarray
    seconds: np.ndarray
    returns: np.ndarray
    episodes: np.ndarray


@dataclass(frozen=True, eq=False)
class Run:
    """
    A finished run.

    :param contender: the contender's name
    :param env: the environment's id
    :param seed: the run's seed
    :param num_timesteps: environment steps of the run
    :param seconds: training seconds, without evaluation
    :param deterministic: evaluations of the deterministic policy
    :param stochastic: evaluations of the stochastic policy
    """

    contender: str
    env: str
    seed: int
    num_timesteps: float
    seconds: float
    deterministic: Curve
    stochastic: Curve

    @property
    def score(self) -> float:
        """Mean return of the last evaluation of the deterministic policy."""
        return float(self.deterministic.returns[-1])

    @property
    def stochastic_score(self) -> float:
        """Mean return of the last evaluation of the stochastic policy."""
        return float(self.stochastic.returns[-1])

    def equals(self, other: "Run") -> bool:
        """
        Whether two runs have the same evaluations in both modes: grid, episodes, returns, lengths.

        :param other: a run of another contender
        :return: whether all are equal
        """
        return np.array_equal(self.deterministic.episodes, other.deterministic.episodes) and np.array_equal(
            self.stochastic.episodes, other.stochastic.episodes
        )


@dataclass(frozen=True)
class Gap:
    """
    A planned run without a result, or a contender without all of its planned runs in an environment.

    :param contender: the contender's name
    :param env: the environment's id
    :param seed: the run's seed; ``None`` for several runs
    :param status: ``failed``, ``not applicable``, ``missing`` or ``incomplete``
    :param reason: the reason, one line
    """

    contender: str
    env: str
    seed: int | None
    status: str
    reason: str


@dataclass(frozen=True, eq=False)
class Results:
    """
    A comparison's results.

    :param folder: the comparison's folder
    :param contenders: in the order of ``config.json``
    :param envs: the environments with a finished run, in the order of ``config.json``
    :param runs: the finished runs, by environment, contender and seed
    :param gaps: the missing runs
    :param references: for each environment the returns between which its scores are normalised
    :param config: content of ``config.json``
    :param versions: content of ``versions.json``
    """

    folder: Path
    contenders: tuple[Contender, ...]
    envs: tuple[str, ...]
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]
    references: Mapping[str, Reference]
    config: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def complete_contenders(self) -> tuple[Contender, ...]:
        """The contenders with a finished run in every environment. Only these can be compared over all environments."""
        return tuple(contender for contender in self.contenders if all(self.runs_of(contender, env) for env in self.envs))

    @property
    def contenders_with_runs(self) -> tuple[Contender, ...]:
        """The contenders with a finished run in any environment."""
        return tuple(contender for contender in self.contenders if any(self.runs_of(contender, env) for env in self.envs))

    @property
    def envs_that_reached_threshold(self) -> tuple[str, ...]:
        """The environments in which any run reached the threshold."""
        return tuple(
            env
            for env in self.envs
            if any(np.isfinite(self.times_to_threshold(contender, env)[0]).any() for contender in self.contenders_in(env))
        )

    def contenders_in(self, env: str) -> tuple[Contender, ...]:
        """
        Returns the contenders with a finished run in an environment.

        :return: the contenders, in their order
        """
        return tuple(contender for contender in self.contenders if self.runs_of(contender, env))

    def runs_of(self, contender: Contender, env: str) -> tuple[Run, ...]:
        """
        Returns a contender's finished runs in an environment.

        :return: the runs, by seed
        """
        return tuple(run for run in self.runs if (run.contender, run.env) == (contender.name, env))

    def count_unfinished(self, contender: Contender, env: str) -> int:
        """Counts a contender's runs in an environment that have failed, are incomplete, or are missing."""
        statuses = [gap.status for gap in self.gaps if (gap.contender, gap.env) == (contender.name, env)]
        if MISSING in statuses:
            return planned_runs(self.config) - len(self.runs_of(contender, env))
        return sum(status in (FAILED, INCOMPLETE) for status in statuses)

    def common_envs(self, a: Contender, b: Contender) -> tuple[str, ...]:
        """
        Returns the environments in which two contenders have finished runs.

        :param a: one contender
        :param b: the other
        :return: the environments' ids
        """
        return tuple(env for env in self.envs if self.runs_of(a, env) and self.runs_of(b, env))

    def normalized_scores(self, contender: Contender, envs: Iterable[str]) -> list[np.ndarray]:
        """
        Returns a contender's normalised scores.

        :param envs: the environments' ids
        :return: for each environment the scores of the finished runs, shape (n_runs,)
        """
        return [normalize(np.array([run.score for run in self.runs_of(contender, env)]), self.references[env]) for env in envs]

    def times_to_threshold(self, contender: Contender, env: str) -> tuple[np.ndarray, np.ndarray]:
        """
        Returns when each of a contender's runs reached the threshold, the high end of the environment's reference.

        :return: steps and seconds until an evaluation reached it, each of shape (n_runs,); ``inf`` for never
        """
        curves = [run.deterministic for run in self.runs_of(contender, env)]
        returns, high = [curve.returns for curve in curves], self.references[env].high
        return (
            statistics.time_to_threshold([curve.steps for curve in curves], returns, high),
            statistics.time_to_threshold([curve.seconds for curve in curves], returns, high),
        )

    def label(self, name: str) -> str:
        """
        Returns a contender's label.

        :param name: the contender's name
        :return: its label
        """
        return next(contender.label for contender in self.contenders if contender.name == name)


def planned_runs(config: Mapping[str, Any]) -> int:
    """
    Returns the number of runs that each contender should have in each environment.

    :param config: content of ``config.json``
    :return: the number
    """
    return int(config.get("seeds") or 1)
