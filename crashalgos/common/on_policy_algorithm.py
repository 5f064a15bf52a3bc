"""SB3's ``OnPolicyAlgorithm`` with its rollout loop in small steps: one collector, for n_steps or for N whole trajectories."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from crashalgos.common.buffers import (
    NO_TRAJECTORY,
    DictTrajectoryBuffer,
    FastDictRolloutBuffer,
    FastRolloutBuffer,
    TrajectoryBuffer,
)
from crashalgos.common.checks import check_count, check_number, check_schedule, copy_containers, not_finite
from crashalgos.common.compiler import Compiler, Session, without_validation
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.trajectories import TrajectorySampler

#: How many arrays an error message names as not finite: one NaN soon is everywhere
_NOT_FINITE_SHOWN = 6

_NO_FINAL_OBSERVATION = (
    'An episode was truncated (infos[i]["TimeLimit.truncated"]), but the vec env gave no infos[i]["terminal_observation"], '
    "from which its return goes on: a wrapper has to hand on both; crashalgos.vec_envs has adapters for gymnasium and EnvPool"
)

SelfPolicyGradientAlgorithm = TypeVar("SelfPolicyGradientAlgorithm", bound="PolicyGradientAlgorithm")


class Step(NamedTuple):
    """One step of all envs, and what the policy said to it."""

    actions: np.ndarray
    values: th.Tensor | None
    log_probs: th.Tensor
    new_obs: Any
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]


class PolicyGradientAlgorithm(OnPolicyAlgorithm):
    """
    The base of the three algorithms. A rollout is ``n_steps`` steps of every env, as in SB3 and with SB3's random draws, or a
    sample of ``n_trajectories`` whole trajectories from one θ.

    With ``n_trajectories`` a rollout starts with every env at the start of an episode, and the first N trajectories that
    start are the sample (see :class:`~crashalgos.common.trajectories.TrajectorySampler`). Steps of envs that have no number
    left are not used, but count in ``num_timesteps`` and are logged as ``rollout/discarded_steps``. Of exactly the N
    trajectories, ``rollout/trajectory_return_mean`` and ``rollout/trajectory_length_mean`` are logged.

    - A wrapper that ends an episode at each lost life makes each life a trajectory, while ``Monitor`` inside it reports the
      return of the whole game.
    - ``VecNormalize`` updates its statistics at each step, so the observations and rewards of one rollout are scaled by
      statistics that move a little within it.

    :param policy: The policy model to use
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0)
    :param gamma: Discount factor, in [0, 1]
    :param ent_coef: Entropy coefficient, it can be a function of the current progress remaining
    :param max_grad_norm: Upper bound of the gradient's norm; ``None``: no bound
    :param n_trajectories: N; ``None``: rollouts of ``n_steps``
    :param max_trajectory_steps: Where to cut a trajectory, as a time limit would; ``None``: nowhere
    :param compile: Compile the update and the policy's forward pass; see :mod:`crashalgos.common.compiler`
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :param kwargs: The other arguments of SB3's ``OnPolicyAlgorithm``
    :raises ValueError: for a wrong argument, naming it, its value and the allowed range
    """

    ent_coef: float | Schedule  # type: ignore[assignment]
    max_grad_norm: float | None  # type: ignore[assignment]
    #: While a rollout lasts
    _compiled_forward: Session | None = None
    #: Rollouts of a training that this one resumes (see :class:`~crashalgos.common.checkpoint.ResumeCallback`)
    _iterations_before = 0
    _log_interval = 1

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        *,
        learning_rate: float | Schedule,
        gamma: float,
        ent_coef: float | Schedule,
        max_grad_norm: float | None,
        n_trajectories: int | None,
        max_trajectory_steps: int | None,
        compile: bool,
        _init_setup_model: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            gamma=gamma,
            ent_coef=ent_coef,  # type: ignore[arg-type]
            max_grad_norm=max_grad_norm,  # type: ignore[arg-type]
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
            _init_setup_model=False,
            **kwargs,
        )
        self.n_trajectories = n_trajectories
        self.max_trajectory_steps = max_trajectory_steps
        self.compile = compile
        if _init_setup_model:
            self._setup_model()

    # ------------------------------------------------------------------ setup

    def _setup_model(self) -> None:
        self._check_arguments()
        if self.env is not None:
            self._check_env(self.env)
        self._compiler = Compiler(self.compile)
        if self.use_sde and self.compile:
            self._compiler.give_up("gSDE replaces the noise that a graph would keep")
        # Derived here and not stored, so that `n_trajectories` can be added or dropped when a zip is loaded
        requested = self.rollout_buffer_class, self.policy_kwargs
        self.rollout_buffer_class = self._derive_rollout_buffer_class()
        # SB3's policies write into `features_extractor_kwargs` if `normalize_images` is False: not into the caller's
        self.policy_kwargs = copy_containers(self.policy_kwargs)
        super()._setup_model()
        self.rollout_buffer_class, self.policy_kwargs = requested

    def _check_arguments(self) -> None:
        check_number("gamma", self.gamma, 0.0, 1.0)
        check_number("gae_lambda", self.gae_lambda, 0.0, 1.0)
        check_schedule("learning_rate", self.learning_rate, low=0.0)
        check_schedule("ent_coef", self.ent_coef)
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, low=0.0)
        if self.n_trajectories is not None:
            check_count("n_trajectories", self.n_trajectories)
        if self.max_trajectory_steps is not None:
            check_count("max_trajectory_steps", self.max_trajectory_steps)
            if self.n_trajectories is None:
                raise ValueError(
                    f"`max_trajectory_steps` must be None without `n_trajectories`, got {self.max_trajectory_steps!r}: "
                    "rollouts of `n_steps` cut no trajectory"
                )

    def _check_env(self, env: VecEnv) -> None:
        if self.n_trajectories is None:
            return
        if env.num_envs > self.n_trajectories:
            warnings.warn(
                f"n_envs={env.num_envs} is more than n_trajectories={self.n_trajectories}: envs "
                f"{self.n_trajectories} to {env.num_envs - 1} idle through every rollout",
                stacklevel=2,
            )
        # One env is never in the middle of an episode when its trajectory is over, unless it was cut
        if (env.num_envs > 1 or self.max_trajectory_steps is not None) and forbids_early_resets(env):
            raise ValueError(
                "An env in Monitor(allow_early_resets=False) cannot be reset in the middle of an episode, as rollouts of "
                "`n_trajectories` need: use Monitor(allow_early_resets=True)"
            )

    def _derive_rollout_buffer_class(self) -> type[RolloutBuffer] | None:
        requested = self.rollout_buffer_class
        # SB3 stores the class that it chose in its zips: its own two are no wish of the user's
        free = requested in (None, RolloutBuffer, DictRolloutBuffer)
        is_dict = isinstance(self.observation_space, spaces.Dict)
        if self.n_trajectories is not None:
            if not free:
                raise ValueError(
                    f"`rollout_buffer_class` must be None with `n_trajectories`, got {requested!r}: "
                    "trajectories need a buffer that grows"
                )
            return DictTrajectoryBuffer if is_dict else TrajectoryBuffer
        if free:
            return FastDictRolloutBuffer if is_dict else FastRolloutBuffer
        assert requested is not None
        if issubclass(requested, TrajectoryBuffer):
            raise ValueError(f"`rollout_buffer_class` must not grow without `n_trajectories`, got {requested!r}")
        return requested

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        As SB3's, with the check that the env can serve rollouts of ``n_trajectories``.

        :param env: The environment for learning a policy
        :param force_reset: Force call to ``reset()`` before training
        :raises ValueError: if the env cannot be reset in the middle of an episode, and has to be
        """
        env = self._wrap_env(env, self.verbose)
        self._check_env(env)
        super().set_env(env, force_reset)

    # ---------------------------------------------------------------- rollout

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """
        Fill the buffer with ``n_rollout_steps`` steps of every env, or with N whole trajectories.

        :param env: The training environment
        :param callback: Called at each step, and at the beginning and end of the rollout
        :param rollout_buffer: Buffer to fill
        :param n_rollout_steps: Number of steps of each env; not used with ``n_trajectories``
        :return: False if the callback ended the training
        """
        self.policy.set_training_mode(False)
        self._start_rollout(env, rollout_buffer)
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        n_steps = 0
        while not self._rollout_complete(n_steps, n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
            actions, values, log_probs = self._act(obs_tensor)
            clipped_actions = self._actions_for_env(actions)

            new_obs, rewards, dones, infos = env.step(clipped_actions)

            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                self._abandon_rollout(new_obs, dones)
                return False

            n_steps += 1
            if isinstance(self.action_space, spaces.Discrete):
                actions = actions.reshape(-1, 1)
            self._store_step(rollout_buffer, Step(actions, values, log_probs, new_obs, rewards, dones, infos))
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones
            self._restart_if_stuck(env)

        values = self._finish_rollout(rollout_buffer, new_obs, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _start_rollout(self, env: VecEnv, rollout_buffer: RolloutBuffer) -> None:
        assert self._last_obs is not None, "No previous observation was provided"
        name = f"the policy of {type(self).__name__}"
        self._compiled_forward = self._compiler.session(_forward, self.policy, name=name, usual_size=env.num_envs)
        rollout_buffer.reset()
        if self.n_trajectories is not None:
            assert self._last_episode_starts is not None
            if not np.all(self._last_episode_starts):
                self._reset_envs(env)
            self._sampler = TrajectorySampler(env.num_envs, self.n_trajectories, self.max_trajectory_steps)

    def _act(self, obs: Any) -> tuple[np.ndarray, th.Tensor | None, th.Tensor]:
        """
        :param obs: s_t of all envs
        :return: a_t, V(s_t) and ln π(a_t|s_t), n_envs of each
        :raises ValueError: if the distribution is not finite
        """
        with th.no_grad():
            try:
                actions, values, log_probs = self._policy_without_validation(obs)
                valid = not np.isnan(log_probs.cpu().numpy()).any()
            except RuntimeError:
                if not self._not_finite():
                    raise
                valid = False  # `torch.multinomial` refuses it
            if not valid:
                with self._name_what_is_not_finite():
                    actions, values, log_probs = self.policy(obs)
        return actions.cpu().numpy(), values, log_probs

    def _policy_without_validation(self, obs: Any) -> tuple[th.Tensor, th.Tensor | None, th.Tensor]:
        assert self._compiled_forward is not None
        if (found := self._compiled_forward(obs)) is not None:
            return found["actions"], found.get("values"), found["log_probs"]
        if self.device.type == "cuda":
            return self.policy(obs)  # what is not finite has to be found before it reaches a kernel, whose assertion is final
        with without_validation():
            return self.policy(obs)

    def _rollout_complete(self, n_steps: int, n_rollout_steps: int) -> bool:
        return n_steps >= n_rollout_steps if self.n_trajectories is None else self._sampler.complete

    def _actions_for_env(self, actions: np.ndarray) -> np.ndarray:
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.policy.squash_output:
            return self.policy.unscale_action(actions)
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _abandon_rollout(self, new_obs: Any, dones: np.ndarray) -> None:
        # SB3 keeps the observation before the last step; for trajectories it must be known that the envs have moved on
        self._compiled_forward = None
        if self.n_trajectories is not None:
            self._last_obs, self._last_episode_starts = new_obs, dones

    def _store_step(self, rollout_buffer: RolloutBuffer, step: Step) -> None:
        if self.n_trajectories is not None:
            assert isinstance(rollout_buffer, TrajectoryBuffer)
            self._store_trajectory_step(rollout_buffer, step)
            return
        self._update_info_buffer(step.infos, step.dones)
        for env in np.flatnonzero(step.dones):
            if _lacks_final_observation(step.infos[env]):
                warnings.warn(f"{_NO_FINAL_OBSERVATION}. As in SB3, it counts as terminated", stacklevel=2)
            if (final_obs := _truncated_at(step.infos[env])) is not None:
                # A batch of one for each env, as in SB3: the last bit of a value depends on the size of its batch
                final_value = self._predict_values(self.policy.obs_to_tensor(final_obs)[0])[0]
                # In float32 as in SB3, also where the env's rewards are float64 (SubprocVecEnv)
                step.rewards[env] = np.float32(step.rewards[env]) + np.float32((self.gamma * final_value).item())
        obs, starts = self._last_obs, self._last_episode_starts
        rollout_buffer.add(obs, step.actions, step.rewards, starts, step.values, step.log_probs)  # type: ignore[arg-type]

    def _store_trajectory_step(self, rollout_buffer: TrajectoryBuffer, step: Step) -> None:
        sampler = self._sampler
        obs, starts = self._last_obs, self._last_episode_starts
        assert obs is not None and starts is not None
        rollout_buffer.add(obs, step.actions, step.rewards, starts, step.values, step.log_probs, sampler.numbers)
        of_sample = np.flatnonzero(sampler.numbers != NO_TRAJECTORY)
        self._update_info_buffer([step.infos[env] for env in of_sample], step.dones[of_sample])
        ended = sampler.step(self._unnormalized(step.rewards), step.dones)
        for env in ended:
            info, number = step.infos[env], sampler.numbers[env]
            if step.dones[env] and _lacks_final_observation(info):
                raise ValueError(_NO_FINAL_OBSERVATION)
            rollout_buffer.end_trajectory(number, _truncated_at(info) if step.dones[env] else _of_env(step.new_obs, env))
            if step.dones[env] and "episode" in info:
                sampler.returns[number] = info["episode"]["r"]
        sampler.release(ended, step.dones)

    def _restart_if_stuck(self, env: VecEnv) -> None:
        if self.n_trajectories is not None and self._sampler.stuck:
            self._reset_envs(env)
            self._sampler.start(np.ones(env.num_envs, dtype=bool))

    def _finish_rollout(self, rollout_buffer: RolloutBuffer, new_obs: Any, dones: np.ndarray) -> th.Tensor | None:
        self._compiled_forward = None
        if self.n_trajectories is not None:
            assert isinstance(rollout_buffer, TrajectoryBuffer)
            rollout_buffer.finish()
            self._log_trajectories(rollout_buffer)
            return self._evaluate_trajectories(rollout_buffer)
        values = self._predict_values(obs_as_tensor(new_obs, self.device))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        return values

    def _evaluate_trajectories(self, rollout_buffer: TrajectoryBuffer) -> th.Tensor | None:
        """
        Advantages and returns of the finished sample, with V as collected.

        :param rollout_buffer: N finished trajectories
        :return: V(s_{T+1}) of each trajectory, 0 where it terminated, shape (N,)
        """
        final_values = self._predict_final_values(rollout_buffer)
        terminated = ~np.isin(np.arange(rollout_buffer.n_trajectories), rollout_buffer.truncated)
        rollout_buffer.compute_returns_and_advantage(final_values, terminated)
        return th.as_tensor(final_values)

    def _predict_final_values(self, rollout_buffer: TrajectoryBuffer) -> np.ndarray:
        final_values = np.zeros(rollout_buffer.n_trajectories, dtype=np.float32)
        if len(rollout_buffer.truncated):
            values = self._predict_values(self.policy.obs_to_tensor(rollout_buffer.final_observations())[0])
            final_values[rollout_buffer.truncated] = values.cpu().numpy().flatten()
        return final_values

    def _predict_values(self, obs: Any) -> th.Tensor:
        with th.no_grad():
            return self.policy.predict_values(obs)

    def _log_trajectories(self, rollout_buffer: TrajectoryBuffer) -> None:
        self.logger.record("rollout/trajectory_return_mean", float(self._sampler.returns.mean()))
        self.logger.record("rollout/trajectory_length_mean", float(self._sampler.lengths.mean()))
        n_cells = rollout_buffer.pos * rollout_buffer.n_envs
        self.logger.record("rollout/discarded_steps", n_cells - rollout_buffer.size())

    def _reset_envs(self, env: VecEnv) -> None:
        self._last_obs = env.reset()  # type: ignore[assignment]
        self._last_episode_starts = np.ones(env.num_envs, dtype=bool)

    def _unnormalized(self, rewards: np.ndarray) -> np.ndarray:
        return rewards if self._vec_normalize_env is None else self._vec_normalize_env.get_original_reward()

    # ----------------------------------------------------------------- update

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        if self.n_trajectories is not None:
            # Whole trajectories always overshoot the last step; a schedule of progress below 0 would turn negative
            self._current_progress_remaining = max(0.0, self._current_progress_remaining)
        elif self._current_progress_remaining < 0:
            self._warn_of_negative_schedules(total_timesteps)

    def _warn_of_negative_schedules(self, total_timesteps: int) -> None:
        for name in ("learning_rate", "ent_coef", "clip_range", "clip_range_vf"):
            schedule = getattr(self, name, None)
            if callable(schedule) and (value := schedule(self._current_progress_remaining)) < 0:
                warnings.warn(
                    f"The last rollout goes past total_timesteps={total_timesteps}, where the schedule of `{name}` is "
                    f"{value}. It is used as in SB3; a multiple of n_steps * n_envs, or a schedule that ends at 0, avoids it",
                    stacklevel=2,
                )

    def _scheduled(self, value: float | Schedule) -> float:
        return float(value(self._current_progress_remaining) if callable(value) else value)

    def _actions_for_policy(self, actions: th.Tensor) -> th.Tensor:
        """
        :param actions: a as the buffers give them: float, shape (B, action_dim)
        :return: a as ``policy.evaluate_actions`` wants them
        """
        return actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else actions

    @contextmanager
    def _name_what_is_not_finite(self) -> Iterator[None]:
        """
        Around what raises a ValueError where something is not finite: torch's, when it validates a distribution, shows the
        distribution's parameters alone.
        """
        try:
            yield
        except ValueError as error:
            found = self._not_finite()
            if not found:
                raise
            shown = "; ".join(found[:_NOT_FINITE_SHOWN])
            more = f"; and {len(found) - _NOT_FINITE_SHOWN} more" if len(found) > _NOT_FINITE_SHOWN else ""
            raise ValueError(f"The policy has no distribution, because not all it got is finite: {shown}{more}") from error

    def _check_finite(self, log: MinibatchLog) -> None:
        """
        At the end of an update, in the place of a check in each minibatch: a NaN in one of them is in all that follow.

        :param log: has the ``loss`` of every minibatch
        :raises ValueError: if they are not finite because the sample or the parameters are not
        """
        if not np.isfinite(log.values("loss")).all() and self._not_finite():
            with self._name_what_is_not_finite():
                raise ValueError("The loss is not finite")

    def _not_finite(self) -> list[str]:
        found = not_finite("observation", self._last_obs, rows="env")
        for name in ("observations", "rewards", "values", "advantages", "returns"):
            found += not_finite(f"rollout_buffer.{name}", getattr(self.rollout_buffer, name, None))
        for name, parameter in self.policy.named_parameters():
            found += not_finite(f"parameter {name}", parameter)
        return found

    def _log_std(self) -> None:
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())

    # ------------------------------------------------------------------ learn

    def learn(
        self: SelfPolicyGradientAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPolicyGradientAlgorithm:
        """
        :param total_timesteps: Number of env steps to train on, at least: the last rollout is finished
        :param callback: Callback(s) called at every step with the state of the algorithm
        :param log_interval: Number of rollouts between two logs
        :param tb_log_name: Name of the run for TensorBoard; by default the name of the class
        :param reset_num_timesteps: Whether to start counting steps anew
        :param progress_bar: Display a progress bar using tqdm and rich
        :return: the trained model
        """
        self._iterations_before = 0
        # SB3 counts iterations from the beginning of this call: which are logged is for `dump_logs` to say
        self._log_interval = log_interval
        every = None if log_interval is None else 1
        return super().learn(
            total_timesteps, callback, every, tb_log_name or type(self).__name__, reset_num_timesteps, progress_bar
        )

    def dump_logs(self, iteration: int = 0) -> None:
        """
        Write the log, if it is the iteration's turn.

        :param iteration: Number of rollouts of this process, to which those of an earlier one are added; 0: unknown, and
            always its turn
        """
        # 0 is whoever calls it by hand
        if iteration == 0 or (self._iterations_before + iteration) % self._log_interval == 0:
            super().dump_logs(iteration and self._iterations_before + iteration)

    def _excluded_save_params(self) -> list[str]:
        of_this_learn = ["_sampler", "_compiler", "_compiled_forward", "_iterations_before", "_log_interval"]
        return [*super()._excluded_save_params(), *of_this_learn]


def _forward(policy: Any, obs: Any) -> dict[str, th.Tensor]:
    """The policy's forward pass, to be compiled."""
    actions, values, log_probs = policy.forward(obs)
    # SB3's policies keep their last distribution, and with it the graph's own tensors
    policy.action_dist.distribution = None
    figures = dict(actions=actions, log_probs=log_probs)
    return figures if values is None else figures | dict(values=values)


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


def forbids_early_resets(env: VecEnv) -> bool:
    """
    :param env: a vectorized env
    :return: whether one of its envs raises when it is reset in the middle of an episode
    """
    monitored = [index for index, wrapped in enumerate(env.env_is_wrapped(Monitor)) if wrapped]
    return bool(monitored) and not all(env.get_attr("allow_early_resets", indices=monitored))
