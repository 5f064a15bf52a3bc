"""
The two kinds of rollouts, ``n_steps`` steps of every env and N whole trajectories: what differs between them.

``model`` is always the algorithm that collects the rollout.
"""

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from crashalgos.common.checks import check_count
from crashalgos.common.rollout_buffers import Column, ColumnBuffer, FastDictRolloutBuffer, FastRolloutBuffer
from crashalgos.common.trajectory_buffers import NO_TRAJECTORY, DictTrajectoryBuffer, TrajectoryBuffer
from crashalgos.common.trajectory_sampler import TrajectorySampler

if TYPE_CHECKING:
    from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm

_NO_FINAL_OBSERVATION = (
    'An episode was truncated (infos[i]["TimeLimit.truncated"]), but the vec env gave no infos[i]["terminal_observation"], '
    "from which its return goes on: a wrapper has to hand on both; crashalgos.vec_envs has adapters for gymnasium and EnvPool"
)


class Step(NamedTuple):
    """
    One step of all envs, and the policy's outputs.

    :param actions: a_t as the policy gave them, shape (n_envs, …)
    :param values: V(s_t), n_envs values; ``None`` without a critic
    :param log_probs: ln π(a_t|s_t), shape (n_envs,)
    :param new_obs: s_{t+1} of all envs, after a reset where an episode ended
    :param rewards: r_t, shape (n_envs,)
    :param dones: whether the episode ended with this step, shape (n_envs,)
    :param infos: the envs' infos
    """

    actions: np.ndarray
    values: th.Tensor | None
    log_probs: th.Tensor
    new_obs: Any
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]


class Rollout(ABC):
    """
    A rollout in progress: it stores steps in the buffer, and knows when it is complete.

    :param model: the algorithm
    :param env: its envs
    :param buffer: its rollout buffer, empty
    :param n_steps: how many steps of each env it has, if that is known beforehand
    """

    #: Whether the number of samples is known before the rollout: n_steps · n_envs
    fixed_size: ClassVar[bool]
    #: Columns that this kind of rollout adds to the buffer; :meth:`_added` gives their rows
    columns: ClassVar[dict[str, Column]] = {}

    def __init__(self, model: "PolicyGradientAlgorithm", env: VecEnv, buffer: Any, n_steps: int) -> None:
        self.model = model
        self.env = env
        self.buffer = buffer
        self.n_steps = n_steps
        self.n_stored = 0
        #: What the policy is given besides the observation at the present step: the rows of the added columns
        self.policy_inputs: dict[str, Any] = {}

    def prepare_step(self, policy_inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """
        Keeps what the policy is given besides the observation at the next step.

        :param policy_inputs: arrays or tensors of shape (n_envs, …), by column
        :return: copies in the dtypes of the columns: what the buffer will store
        :raises ValueError: if a column is unknown, or has another shape or kind of dtype than it declares
        """
        if policy_inputs and not isinstance(self.buffer, ColumnBuffer):
            raise ValueError(f"`_columns` must declare the policy's inputs {list(policy_inputs)}")
        self.policy_inputs = self.buffer.added_rows(policy_inputs) if policy_inputs else {}
        return self.policy_inputs

    @staticmethod
    @abstractmethod
    def check_arguments(model: "PolicyGradientAlgorithm") -> None:
        """
        Checks the arguments that differ between the kinds of rollouts.

        :raises ValueError: naming the argument, its value and the allowed range
        """

    @staticmethod  # noqa: B027 (by default every env will do)
    def check_env(model: "PolicyGradientAlgorithm", env: VecEnv) -> None:
        """
        Checks whether the env can serve such rollouts.

        :param env: the new env
        :raises ValueError: if the env cannot be reset in the middle of an episode, and has to be
        """

    @staticmethod
    @abstractmethod
    def buffer_class(requested: type[RolloutBuffer] | None, observation_space: spaces.Space) -> type[RolloutBuffer]:
        """
        Chooses the class of the rollout buffer.

        :param requested: ``rollout_buffer_class``
        :param observation_space: of the env
        :return: the class
        :raises ValueError: if the requested class cannot hold such rollouts
        """

    @staticmethod
    @abstractmethod
    def progress_remaining(model: "PolicyGradientAlgorithm", progress: float, total_timesteps: int) -> float:
        """
        The progress from which the schedules are calculated.

        :param progress: SB3's, from 1 to 0, and below 0 when the last rollout goes past ``total_timesteps``
        :param total_timesteps: of ``learn``
        :return: the progress to use
        """

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether the rollout has all its steps."""

    @abstractmethod
    def store(self, step: Step) -> None:
        """
        Stores a step, and moves the model to the next observation.

        :param step: one step of all envs
        """

    def abandon(self, new_obs: Any, dones: np.ndarray) -> None:  # noqa: B027 (SB3 has nothing to do)
        """
        Ends the rollout in the middle, because a callback has ended the training.

        SB3 keeps the observation before the last step.

        :param new_obs: the observation after the last step, which is not stored
        :param dones: whether the episode ended with this step, shape (n_envs,)
        """

    @abstractmethod
    def finish(self) -> th.Tensor | None:
        """
        Calculates returns and advantages.

        :return: V of the observations that follow the rollout; ``None`` without a critic
        """

    def _added(self, step: Step) -> dict[str, Any]:
        """A step's rows of the added columns."""
        known_after = self.model._step_columns(step)
        return self.policy_inputs | known_after if known_after else self.policy_inputs

    def _advance(self, new_obs: Any, dones: np.ndarray) -> None:
        self.model._last_obs = new_obs
        self.model._last_episode_starts = dones


class StepRollout(Rollout):
    """``n_steps`` steps of every env, as in SB3: at both ends an env may be in the middle of an episode."""

    fixed_size = True

    @staticmethod
    def check_arguments(model: "PolicyGradientAlgorithm") -> None:
        if model.max_trajectory_steps is not None:
            check_count("max_trajectory_steps", model.max_trajectory_steps)
            raise ValueError(
                f"`max_trajectory_steps` must be None without `n_trajectories`, got {model.max_trajectory_steps!r}: "
                "rollouts of `n_steps` cut no trajectory"
            )

    @staticmethod
    def buffer_class(requested: type[RolloutBuffer] | None, observation_space: spaces.Space) -> type[RolloutBuffer]:
        if _is_default(requested):
            return FastDictRolloutBuffer if isinstance(observation_space, spaces.Dict) else FastRolloutBuffer
        assert requested is not None
        if issubclass(requested, TrajectoryBuffer):
            raise ValueError(f"`rollout_buffer_class` must not grow without `n_trajectories`, got {requested!r}")
        return requested

    @staticmethod
    def progress_remaining(model: "PolicyGradientAlgorithm", progress: float, total_timesteps: int) -> float:
        for name in model.schedules if progress < 0 else ():
            schedule = getattr(model, name, None)
            if callable(schedule) and (value := schedule(progress)) < 0:
                warnings.warn(
                    f"The last rollout goes past total_timesteps={total_timesteps}, where the schedule of `{name}` is "
                    f"{value}. It is used as in SB3; a multiple of n_steps * n_envs, or a schedule that ends at 0, avoids it",
                    stacklevel=2,
                )
        return progress

    @property
    def complete(self) -> bool:
        return self.n_stored >= self.n_steps

    def store(self, step: Step) -> None:
        model = self.model
        model._update_info_buffer(step.infos, step.dones)
        for env in np.flatnonzero(step.dones):
            if _lacks_final_observation(step.infos[env]):
                warnings.warn(f"{_NO_FINAL_OBSERVATION}. As in SB3, it counts as terminated", stacklevel=2)
            if (final_obs := _truncated_at(step.infos[env])) is not None:
                # The last reward of an episode that a time limit cut off gets γV(s_{T+1}). A batch of one for each env, as in
                # SB3: the last bit of a value depends on the size of its batch
                final_value = model._predict_values(model.policy.obs_to_tensor(final_obs)[0])[0]
                # In float32 as in SB3, also where the env's rewards are float64 (SubprocVecEnv)
                step.rewards[env] = np.float32(step.rewards[env]) + np.float32((model.gamma * final_value).item())
        obs, starts = model._last_obs, model._last_episode_starts
        self.buffer.add(obs, step.actions, step.rewards, starts, step.values, step.log_probs, **self._added(step))
        self._advance(step.new_obs, step.dones)
        self.n_stored += 1

    def finish(self) -> th.Tensor:
        values = self.model._predict_values(obs_as_tensor(self.model._last_obs, self.model.device))  # type: ignore[arg-type]
        self.buffer.compute_returns_and_advantage(last_values=values, dones=self.model._last_episode_starts)
        return values


class TrajectoryRollout(Rollout):
    """
    N whole trajectories from one θ: the first N that start, with every env at the start of an episode.

    :param model: the algorithm
    :param env: its envs, which are reset if one of them is in the middle of an episode
    :param buffer: its trajectory buffer, empty
    :param n_steps: not used
    """

    fixed_size = False

    def __init__(self, model: "PolicyGradientAlgorithm", env: VecEnv, buffer: TrajectoryBuffer, n_steps: int) -> None:
        super().__init__(model, env, buffer, n_steps)
        assert model.n_trajectories is not None and model._last_episode_starts is not None
        if not np.all(model._last_episode_starts):
            self._reset_envs()
        self.sampler = TrajectorySampler(env.num_envs, model.n_trajectories, model.max_trajectory_steps)

    @staticmethod
    def check_arguments(model: "PolicyGradientAlgorithm") -> None:
        check_count("n_trajectories", model.n_trajectories)
        if model.max_trajectory_steps is not None:
            check_count("max_trajectory_steps", model.max_trajectory_steps)

    @staticmethod
    def check_env(model: "PolicyGradientAlgorithm", env: VecEnv) -> None:
        assert model.n_trajectories is not None
        if env.num_envs > model.n_trajectories:
            warnings.warn(
                f"n_envs={env.num_envs} is more than n_trajectories={model.n_trajectories}: envs "
                f"{model.n_trajectories} to {env.num_envs - 1} idle through every rollout",
                stacklevel=2,
            )
        # One env is never in the middle of an episode when its trajectory is over, unless it was cut
        if (env.num_envs > 1 or model.max_trajectory_steps is not None) and forbids_early_resets(env):
            raise ValueError(
                "An env in Monitor(allow_early_resets=False) cannot be reset in the middle of an episode, as rollouts of "
                "`n_trajectories` need: use Monitor(allow_early_resets=True)"
            )

    @staticmethod
    def buffer_class(requested: type[RolloutBuffer] | None, observation_space: spaces.Space) -> type[RolloutBuffer]:
        if not _is_default(requested):
            raise ValueError(
                f"`rollout_buffer_class` must be None with `n_trajectories`, got {requested!r}: "
                "trajectories need a buffer that grows"
            )
        return DictTrajectoryBuffer if isinstance(observation_space, spaces.Dict) else TrajectoryBuffer

    @staticmethod
    def progress_remaining(model: "PolicyGradientAlgorithm", progress: float, total_timesteps: int) -> float:
        # Whole trajectories always go past the last step, and a schedule of negative progress would turn negative
        return max(0.0, progress)

    @property
    def complete(self) -> bool:
        return self.sampler.complete

    def store(self, step: Step) -> None:
        model, sampler = self.model, self.sampler
        obs, starts = model._last_obs, model._last_episode_starts
        self.buffer.add(
            obs, step.actions, step.rewards, starts, step.values, step.log_probs, sampler.numbers, **self._added(step)
        )
        of_sample = np.flatnonzero(sampler.numbers != NO_TRAJECTORY)
        model._update_info_buffer([step.infos[env] for env in of_sample], step.dones[of_sample])
        ended = sampler.step(self._raw_rewards(step.rewards), step.dones)
        for env in ended:
            self._end_trajectory(env, step)
        sampler.release(ended, step.dones)
        self._advance(step.new_obs, step.dones)
        if sampler.stuck:
            self._reset_envs()
            sampler.start(np.ones(self.env.num_envs, dtype=bool))

    def _raw_rewards(self, rewards: np.ndarray) -> np.ndarray:
        normalization = self.model.get_vec_normalize_env()
        return rewards if normalization is None else normalization.get_original_reward()

    def _end_trajectory(self, env: int, step: Step) -> None:
        info, number = step.infos[env], self.sampler.numbers[env]
        if step.dones[env] and _lacks_final_observation(info):
            raise ValueError(_NO_FINAL_OBSERVATION)
        self.buffer.end_trajectory(number, _truncated_at(info) if step.dones[env] else _of_env(step.new_obs, env))
        if step.dones[env] and "episode" in info:
            self.sampler.returns[number] = info["episode"]["r"]

    def abandon(self, new_obs: Any, dones: np.ndarray) -> None:
        # The envs have moved on, and the next rollout has to know whether they are at the start of an episode
        self._advance(new_obs, dones)

    def finish(self) -> th.Tensor | None:
        self.buffer.finish()
        record = self.model.logger.record
        record("rollout/trajectory_return_mean", float(self.sampler.returns.mean()))
        record("rollout/trajectory_length_mean", float(self.sampler.lengths.mean()))
        record("rollout/discarded_steps", self.buffer.pos * self.buffer.n_envs - self.buffer.size())
        return self.model._evaluate_trajectories(self.buffer)

    def _reset_envs(self) -> None:
        self.model._last_obs = self.env.reset()  # type: ignore[assignment]
        self.model._last_episode_starts = np.ones(self.env.num_envs, dtype=bool)


def forbids_early_resets(env: VecEnv) -> bool:
    """
    Whether one of the envs raises when it is reset in the middle of an episode.

    :param env: a vectorized env
    :return: True if an env is in a ``Monitor(allow_early_resets=False)``
    """
    monitored = [index for index, wrapped in enumerate(env.env_is_wrapped(Monitor)) if wrapped]
    return bool(monitored) and not all(env.get_attr("allow_early_resets", indices=monitored))


def _is_default(requested: type[RolloutBuffer] | None) -> bool:
    """Whether the user has not asked for a class. SB3 stores the class that it chose in its zips, one of its own two."""
    return requested in (None, RolloutBuffer, DictRolloutBuffer)


def _truncated_at(info: dict[str, Any]) -> Any | None:
    """The final observation of an episode that a time limit cut off, ``None`` of one that terminated."""
    return info.get("terminal_observation") if info.get("TimeLimit.truncated", False) else None


def _lacks_final_observation(info: dict[str, Any]) -> bool:
    """Whether an episode was cut off by a time limit, and the vec env has not said where."""
    return info.get("TimeLimit.truncated", False) and info.get("terminal_observation") is None


def _of_env(observations: Any, env: int) -> Any:
    if isinstance(observations, dict):
        return {key: array[env].copy() for key, array in observations.items()}
    return observations[env].copy()
