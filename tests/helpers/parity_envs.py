"""Envs, policies, buffers and callbacks for the table of ``parity_cases.py``."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from tests.helpers.envs import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv, of_spaces, scripted

MakeEnv = Callable[[int], VecEnv | gym.Env]


def spaces(observation: str, action: str) -> MakeEnv:
    """Random observations; episodes of 2 to 6 steps, half of them cut by a time limit."""
    return lambda n_envs: of_spaces(observation, action, n_envs)


def gym_id(env_id: str) -> MakeEnv:
    return lambda n_envs: make_vec_env(env_id, n_envs)


def episodes(lengths: list[float], end: str) -> MakeEnv:
    """Episodes that all end alike: "terminated", "truncated" or "both"."""
    return lambda n_envs: scripted([lengths] * n_envs, end)


def normalized(make_env: MakeEnv, **settings: Any) -> MakeEnv:
    return lambda n_envs: VecNormalize(make_env(n_envs), **settings)


def stacked(make_env: MakeEnv) -> MakeEnv:
    return lambda n_envs: VecFrameStack(make_env(n_envs), n_stack=2)


def vec_monitored(observation: str, action: str) -> MakeEnv:
    return lambda n_envs: VecMonitor(unmonitored(observation, action)(n_envs))


def unmonitored(observation: str, action: str) -> MakeEnv:
    """Envs without episode statistics, so that none are logged."""
    return lambda n_envs: DummyVecEnv(
        [lambda: SpacesEnv(OBSERVATION_SPACES[observation][1], ACTION_SPACES[action]) for _ in range(n_envs)]
    )


def bare(observation: str, action: str) -> MakeEnv:
    """A gymnasium env, which the algorithm wraps itself."""
    return lambda _: SpacesEnv(OBSERVATION_SPACES[observation][1], ACTION_SPACES[action])


def subprocesses(make_one: Callable[[], gym.Env]) -> MakeEnv:
    """Envs whose rewards keep their dtype, where DummyVecEnv makes them float32."""
    return lambda n_envs: SubprocVecEnv([lambda: Monitor(make_one()) for _ in range(n_envs)], start_method="fork")


class Succeeds(gym.Wrapper):
    """Reports whether the episode's return was positive, for ``rollout/success_rate``."""

    def reset(self, **kwargs: Any):
        self.total = 0.0
        return super().reset(**kwargs)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.total += reward
        return observation, reward, terminated, truncated, {**info, "is_success": self.total > 0}


def successes(observation: str, action: str) -> MakeEnv:
    return lambda n_envs: DummyVecEnv(
        [lambda: Monitor(Succeeds(bare(observation, action)(1))) for _ in range(n_envs)]  # type: ignore[arg-type]
    )


class PaysActions(gym.Wrapper):
    """Pays the action that reaches the env: clipped, scaled, or neither."""

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(np.sum(action)), terminated, truncated, info


def paying_actions(n_envs: int) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(PaysActions(bare("box", "box")(1))) for _ in range(n_envs)])


class WholeRewards(gym.RewardWrapper):
    """Rewards of type int, as users' envs may give them."""

    def reward(self, reward):
        return round(10 * reward)


class Shaped(SpacesEnv):
    """Observations and actions of two dimensions, in float64, with bounds that are not symmetric."""

    def __init__(self) -> None:
        box = gym.spaces.Box(-1, 3, (2, 2), dtype=np.float64)
        super().__init__(box, gym.spaces.Box(np.array([[-1.0, 0.0]]), np.array([[0.5, 0.1]]), dtype=np.float64))


def shaped(n_envs: int) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(Shaped())] * n_envs)


class NoisyExtractor(BaseFeaturesExtractor):
    """Differs between training and evaluation, has buffers beside its parameters, and draws random numbers."""

    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__(observation_space, features_dim=6)
        size = int(np.prod(observation_space.shape))
        self.layers = th.nn.Sequential(
            th.nn.Flatten(), th.nn.Linear(size, 6), th.nn.BatchNorm1d(6), th.nn.ReLU(), th.nn.Dropout(0.3)
        )

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


class ClippedRewardBuffer(RolloutBuffer):
    """A user's buffer, with an argument of its own."""

    def __init__(self, *args: Any, low: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.low = low

    def add(self, obs, action, reward, *rest) -> None:
        super().add(obs, action, np.maximum(reward, self.low), *rest)


class StopAfter(BaseCallback):
    """Ends training in the middle of a rollout."""

    def __init__(self, n_calls: int) -> None:
        super().__init__()
        self.stop_at = n_calls

    def _on_step(self) -> bool:
        return self.n_calls < self.stop_at


#: What SB3 shows to callbacks during a rollout.
LOCALS = (
    "env", "callback", "rollout_buffer", "n_rollout_steps", "n_steps", "obs_tensor", "actions", "values", "log_probs",
    "clipped_actions", "new_obs", "rewards", "dones", "infos", "total_timesteps", "log_interval", "iteration",
)  # fmt: skip


class DrawsAndLooks(BaseCallback):
    """
    Does what users' callbacks do between the steps.

    It reads the locals, draws random numbers, logs a figure of its own and changes a coefficient.
    """

    def _on_step(self) -> bool:
        seen = self.locals
        noise = np.random.random() + float(th.rand(1))
        self.logger.record("mine/sum", float(seen["rewards"].sum() + seen["values"].sum() + seen["log_probs"].sum()) + noise)
        self.logger.record("mine/n_steps", seen["n_steps"])
        self.logger.record("mine/names", [name for name in LOCALS if name not in seen])
        return True

    def _on_rollout_end(self) -> None:
        self.model.ent_coef += 0.01
        buffer = self.locals["rollout_buffer"]
        self.logger.record("mine/advantages", float(buffer.advantages.sum()))
        self.logger.record("mine/last", float(self.locals["values"].sum()))
        # With the values of truncated episodes added
        self.logger.record("mine/rewards", float(self.locals["rewards"].sum()))


def evaluates() -> BaseCallback:
    """Logs the figures of an evaluation, in dumps of its own."""
    env = of_spaces("box", "discrete", 2)
    env.seed(3)
    return EvalCallback(env, n_eval_episodes=3, eval_freq=10, verbose=0)
