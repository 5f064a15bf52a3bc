"""SB3's ``OnPolicyAlgorithm`` with its rollout loop in small steps: one collector, for n_steps or for N whole trajectories."""

import copy
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from crashalgos.common.checks import check_number, check_schedule
from crashalgos.common.compiler import Compiler, Session
from crashalgos.common.distributions import forget_distribution, without_validation
from crashalgos.common.finite import explain_non_finite, not_finite_of
from crashalgos.common.resumable import ResumableAlgorithm
from crashalgos.common.rollout_buffers import Column, ColumnBuffer
from crashalgos.common.rollouts import Rollout, Step, StepRollout, TrajectoryRollout
from crashalgos.common.trajectory_buffers import TrajectoryBuffer


class PolicyGradientAlgorithm(ResumableAlgorithm):
    """
    The base of the three algorithms: SB3's ``OnPolicyAlgorithm`` with rollouts of two kinds.

    Without ``n_trajectories`` a rollout is ``n_steps`` steps of every env, as in SB3 and with SB3's random draws. With
    ``n_trajectories`` it is a sample of N whole trajectories from one θ. Every env is at the start of an episode when the
    rollout starts, and the first N trajectories that start are the sample (see
    :class:`~crashalgos.common.trajectory_sampler.TrajectorySampler`). ``rollout/trajectory_return_mean`` and
    ``rollout/trajectory_length_mean`` are logged over exactly these N trajectories.

    - An env that has no trajectory left to collect idles. Its steps are not used, but they count in ``num_timesteps``, and
      are logged as ``rollout/discarded_steps``.
    - If a wrapper ends an episode at each lost life, each life is a trajectory. ``Monitor`` inside it reports the return of
      the whole game.
    - ``VecNormalize`` updates its statistics at each step. So the observations and rewards of one rollout are scaled by
      statistics that move a little within it.

    A subclass can override hooks; ``docs/add_an_algorithm.md`` explains them:

    - ``_loss`` and ``_coefficients``: the loss of a minibatch, and its keyword arguments;
    - ``_evaluate``: what the policy says of a minibatch;
    - :meth:`_columns`, :meth:`_policy_inputs` and :meth:`_step_columns`: what a step holds besides SB3's columns, and what the
      policy is given besides the observation;
    - :meth:`_evaluate_trajectories`: returns and advantages of N finished trajectories.

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
    #: The arguments that can be functions of the progress remaining
    schedules: ClassVar[tuple[str, ...]] = ("learning_rate", "ent_coef")
    #: The rollout in progress, and the policy's compiled forward pass while it lasts
    _rollout: Rollout | None = None
    _compiled_forward: Session | None = None

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
            self._rollout_type.check_env(self, self.env)
        self._compiler = Compiler(self.compile)
        if self.use_sde and self.compile:
            self._compiler.give_up("gSDE replaces the noise that a graph would keep")
        # Derived here and not stored, so that `n_trajectories` can be added or dropped when a zip is loaded
        requested = self.rollout_buffer_class, self.rollout_buffer_kwargs, self.policy_kwargs
        self.rollout_buffer_class = self._rollout_type.buffer_class(self.rollout_buffer_class, self.observation_space)
        if columns := {**self._rollout_type.columns, **self._columns()}:
            self._check_buffer_has_columns(columns)
            self.rollout_buffer_kwargs = {**self.rollout_buffer_kwargs, "columns": columns}
        # SB3's policies write into `features_extractor_kwargs` if `normalize_images` is False: not into the caller's
        self.policy_kwargs = _copy_containers(self.policy_kwargs)
        super()._setup_model()
        self.rollout_buffer_class, self.rollout_buffer_kwargs, self.policy_kwargs = requested

    @property
    def _rollout_type(self) -> type[Rollout]:
        return StepRollout if self.n_trajectories is None else TrajectoryRollout

    def _check_arguments(self) -> None:
        check_number("gamma", self.gamma, 0.0, 1.0)
        check_number("gae_lambda", self.gae_lambda, 0.0, 1.0)
        check_schedule("learning_rate", self.learning_rate, low=0.0)
        check_schedule("ent_coef", self.ent_coef)
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, low=0.0)
        self._rollout_type.check_arguments(self)

    def _check_buffer_has_columns(self, columns: dict[str, Column]) -> None:
        assert self.rollout_buffer_class is not None
        if not issubclass(self.rollout_buffer_class, ColumnBuffer):
            raise ValueError(
                f"`rollout_buffer_class` must be None for {type(self).__name__}, got {self.rollout_buffer_class!r}, "
                f"which cannot hold the columns {list(columns)}"
            )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Replaces the environment, if it can serve the rollouts.

        :param env: The environment for learning a policy
        :param force_reset: Force call to ``reset()`` before training
        :raises ValueError: if the env cannot be reset in the middle of an episode, and has to be
        """
        env = self._wrap_env(env, self.verbose)
        self._rollout_type.check_env(self, env)
        super().set_env(env, force_reset)

    # ---------------------------------------------------------------- rollout

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """
        Fills the buffer with ``n_rollout_steps`` steps of every env, or with N whole trajectories.

        :param env: The training environment
        :param callback: Called at each step, and at the beginning and end of the rollout
        :param rollout_buffer: Buffer to fill
        :param n_rollout_steps: Number of steps of each env; not used with ``n_trajectories``
        :return: False if the callback ended the training
        """
        self._rollout = self._start_rollout(env, rollout_buffer, n_rollout_steps)
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        n_steps = 0
        while not self._rollout.complete:
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
            actions, values, log_probs = self._act(obs_tensor, self._rollout.prepare_step(self._policy_inputs(env)))
            clipped_actions = self._actions_for_env(actions)

            new_obs, rewards, dones, infos = env.step(clipped_actions)

            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                self._rollout.abandon(new_obs, dones)
                self._end_rollout()
                return False

            n_steps += 1
            if isinstance(self.action_space, spaces.Discrete):
                actions = actions.reshape(-1, 1)
            self._rollout.store(Step(actions, values, log_probs, new_obs, rewards, dones, infos))

        values = self._rollout.finish()
        self._end_rollout()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _start_rollout(self, env: VecEnv, rollout_buffer: RolloutBuffer, n_steps: int) -> Rollout:
        assert self._last_obs is not None, "No previous observation was provided"
        self.policy.set_training_mode(False)
        name = f"the policy of {type(self).__name__}"
        self._compiled_forward = self._compiler.session(_forward, self.policy, name=name, static_size=env.num_envs)
        rollout_buffer.reset()
        return self._rollout_type(self, env, rollout_buffer, n_steps)

    def _end_rollout(self) -> None:
        """Drops what refers to the model and its env: they are to be freed when nobody needs them."""
        self._rollout = self._compiled_forward = None

    def _columns(self) -> dict[str, Column]:
        """
        Declares what a step holds besides SB3's columns: a hook, nothing by default.

        :meth:`_policy_inputs` and :meth:`_step_columns` give their rows. Minibatches have them under the same names.

        :return: the columns to add, by name
        """
        return {}

    def _policy_inputs(self, env: VecEnv) -> dict[str, Any]:
        """
        What the policy's ``forward`` is given besides the observation: a hook, nothing by default.

        The rows are stored in the columns of the same names. V of an observation after the last step is asked without them.

        :param env: the envs, at the observation to act on
        :return: arrays or tensors of shape (n_envs, …), by the name of ``forward``'s argument and of their column
        """
        return {}

    def _step_columns(self, step: Step) -> dict[str, Any]:
        """
        The rows of added columns that are known after the step only: a hook, nothing by default.

        :param step: one step of all envs
        :return: arrays or tensors of shape (n_envs, …), by column
        """
        return {}

    def _act(self, obs: Any, policy_inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, th.Tensor | None, th.Tensor]:
        """
        Draws an action in every env.

        :param obs: s_t of all envs
        :param policy_inputs: what the policy is given besides, by argument of its ``forward``
        :return: a_t, V(s_t) and ln π(a_t|s_t), n_envs of each
        :raises ValueError: if the distribution is not finite
        """
        inputs = {name: th.as_tensor(values, device=self.device) for name, values in policy_inputs.items()}
        with th.no_grad():
            try:
                actions, values, log_probs = self._forward_without_validation(obs, inputs)
                valid = not np.isnan(log_probs.cpu().numpy()).any()
            except RuntimeError:
                if not not_finite_of(self):
                    raise
                valid = False  # `torch.multinomial` refuses it
            if not valid:
                with explain_non_finite(self):
                    actions, values, log_probs = self.policy(obs, **inputs)
        return actions.cpu().numpy(), values, log_probs

    def _forward_without_validation(
        self, obs: Any, inputs: dict[str, th.Tensor]
    ) -> tuple[th.Tensor, th.Tensor | None, th.Tensor]:
        assert self._compiled_forward is not None
        if (found := self._compiled_forward((obs, inputs) if inputs else obs)) is not None:
            return found["actions"], found.get("values"), found["log_probs"]
        if self.device.type == "cuda":
            # Distributions are validated here: a failed assertion in a CUDA kernel cannot be caught
            return self.policy(obs, **inputs)
        with without_validation():
            return self.policy(obs, **inputs)

    def _actions_for_env(self, actions: np.ndarray) -> np.ndarray:
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.policy.squash_output:
            return self.policy.unscale_action(actions)
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _evaluate_trajectories(self, rollout_buffer: TrajectoryBuffer) -> th.Tensor | None:
        """
        Calculates advantages and returns of the finished sample, with V as collected.

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

    # ----------------------------------------------------------------- update

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = self._rollout_type.progress_remaining(
            self, self._current_progress_remaining, total_timesteps
        )

    def _scheduled(self, value: float | Schedule) -> float:
        return float(value(self._current_progress_remaining) if callable(value) else value)

    def _actions_for_policy(self, actions: th.Tensor) -> th.Tensor:
        """
        Converts a minibatch's actions to what ``policy.evaluate_actions`` takes.

        :param actions: a as the buffers give them: float, shape (B, action_dim)
        :return: a, integers of shape (B,) for Discrete spaces
        """
        return actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else actions

    def _log_std(self) -> None:
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_rollout", "_compiler", "_compiled_forward"]


def _forward(policy: Any, given: Any) -> dict[str, th.Tensor]:
    """The policy's forward pass, to be compiled, of observations or of observations and other inputs."""
    obs, inputs = given if isinstance(given, tuple) else (given, {})
    actions, values, log_probs = policy.forward(obs, **inputs)
    forget_distribution(policy)
    figures = dict(actions=actions, log_probs=log_probs)
    return figures if values is None else figures | dict(values=values)


def _copy_containers(value: Any) -> Any:
    """A copy of nested dicts and lists; what they contain is the same."""
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: _copy_containers(each) for key, each in value.items()})
        return copied
    if isinstance(value, list):
        return [_copy_containers(each) for each in value]
    return value
