"""
References for normalised scores: 0 is the return of the uniformly random policy, 1 that of a solved environment.

``python -m crashalgos.experiments.comparison.references CartPole-v1`` measures the random policy's return.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import tyro
from tqdm import tqdm

from crashalgos.common.checks import check_count, check_number

_EPISODES = 1_000


@dataclass(frozen=True)
class Reference:
    """
    The two returns between which an environment's scores are normalised.

    :param low: the return that becomes 0
    :param high: the return that becomes 1, at least ``low``
    :param source: the source of both
    """

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        check_number("low", self.low)
        check_number("high", self.high)
        if self.high < self.low:
            raise ValueError(f"`high` must be at least `low` = {self.low}, got {self.high}")

    @property
    def scale(self) -> float:
        """The width of the reference range, ``high − low``."""
        return self.high - self.low


_LOW = f"low: the uniformly random policy, mean of {_EPISODES:,} episodes"
_THRESHOLD = f"{_LOW}; high: Gymnasium's reward_threshold"

# Each `low` is what this module's command printed, rounded; no standard error was above 10.
REFERENCES: dict[str, Reference] = {
    "CartPole-v1": Reference(22.2, 500.0, f"{_LOW}; high: the most possible, 500 steps"),
    "Acrobot-v1": Reference(-499.1, -100.0, _THRESHOLD),
    "MountainCar-v0": Reference(-200.0, -110.0, _THRESHOLD),
    "MountainCarContinuous-v0": Reference(-33.3, 90.0, _THRESHOLD),
    "Pendulum-v1": Reference(-1230.7, -150.0, f"{_LOW}; high: the level of RL Baselines3 Zoo's best agents"),
    "LunarLander-v3": Reference(-181.7, 200.0, _THRESHOLD),
    "LunarLanderContinuous-v3": Reference(-209.8, 200.0, _THRESHOLD),
    "BipedalWalker-v3": Reference(-99.9, 300.0, _THRESHOLD),
}


def find_reference(env_id: str, returns: Sequence[np.ndarray]) -> Reference:
    """
    Returns an environment's reference.

    - Known environments: the entry of ``REFERENCES``.
    - Other environments: ``low`` is the mean over the runs at step 0. ``high`` is the environment's ``reward_threshold`` if
      it has one above ``low``, otherwise the best of ``returns``.

    :param env_id: the environment's id, ``Id-v0`` or ``module:Id-v0``
    :param returns: for each run of any contender its mean evaluated returns, shape (n_points,); the first is that of step 0.
        Not used for known environments
    :return: the reference
    :raises ValueError: if the environment is not known, and a run has no return, or one that is not finite
    """
    if env_id in REFERENCES:
        return REFERENCES[env_id]
    runs = [np.asarray(run, dtype=np.float64) for run in returns]
    if not runs or any(run.ndim != 1 or len(run) == 0 or not np.isfinite(run).all() for run in runs):
        raise ValueError(f"`returns` must be flat, finite and not empty for each run of {env_id}, got {returns!r}")
    low = float(np.mean([run[0] for run in runs]))
    best = float(max(run.max() for run in runs))
    threshold = _reward_threshold(env_id)
    if threshold is not None and threshold > low:
        return Reference(
            low, threshold, "low: mean return at step 0; high: reward_threshold of the environment's registration"
        )
    # If all returns are equal, the maximum may be below the mean by a rounding error.
    return Reference(low, max(low, best), "low: mean return at step 0; high: best mean return seen")


def _reward_threshold(env_id: str) -> float | None:
    """Returns the threshold in the environment's registration. Imports the module of ``module:Id-v0`` for it."""
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError:
            return None
    spec = gym.registry.get(name)
    return None if spec is None or spec.reward_threshold is None else float(spec.reward_threshold)


def normalize(returns: np.ndarray, reference: Reference) -> np.ndarray:
    """
    Normalises returns: (x − low)/(high − low).

    :param returns: x, any shape
    :param reference: low and high; if both are equal, the range counts as 1
    :return: the normalised scores, of the same shape
    """
    return (np.asarray(returns, dtype=np.float64) - reference.low) / (reference.scale or 1.0)


def random_returns(env_id: str, episodes: int = _EPISODES, seed: int = 0) -> np.ndarray:
    """
    Plays episodes of the uniformly random policy, with a progress bar.

    :param env_id: the environment's id
    :param episodes: number of episodes
    :param seed: seed of the actions; episode i starts the environment with seed ``seed + i``
    :return: the undiscounted returns, shape (episodes,)
    :raises ValueError: if ``episodes`` is below 1
    """
    check_count("episodes", episodes)
    env = gym.make(env_id)
    env.action_space.seed(seed)
    returns = np.zeros(episodes)
    for i in tqdm(range(episodes), desc=env_id, unit="episode"):
        env.reset(seed=seed + i)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            returns[i] += float(reward)
            ended = terminated or truncated
    env.close()
    return returns


def measure(env: Annotated[str, tyro.conf.Positional], episodes: int = _EPISODES, seed: int = 0) -> None:
    """
    Measures the return of the uniformly random policy, and prints it.

    :param env: the environment's id
    :param episodes: number of episodes, at least 2
    :param seed: seed of the actions; episode i starts the environment from seed + i
    :raises ValueError: if ``episodes`` is below 2
    """
    check_count("episodes", episodes, low=2)
    returns = random_returns(env, episodes, seed)
    error = returns.std(ddof=1) / np.sqrt(len(returns))
    print(f"{env}: {returns.mean():.2f} ± {error:.2f} (mean and its standard error, {len(returns):,} episodes)")


if __name__ == "__main__":
    tyro.cli(measure, prog="crashalgos.experiments.comparison.references")
