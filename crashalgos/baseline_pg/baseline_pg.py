"""BaselinePG: the policy gradient with a value function as its baseline (part 3 of the course)."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, GymEnv, RolloutBufferSamples, Schedule
from stable_baselines3.common.utils import explained_variance, update_learning_rate

from crashalgos.baseline_pg.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from crashalgos.common.checks import check_count, check_schedule
from crashalgos.common.finite import check_finite
from crashalgos.common.gradient_step import gradient_steps
from crashalgos.common.losses import policy_gradient_objective, value_loss
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.policies import SeparateActorCriticPolicy
from crashalgos.common.policy_gradient import VanillaPolicyGradient
from crashalgos.common.returns import normalized
from crashalgos.common.trajectory_buffers import TrajectoryBuffer


class BaselinePG(VanillaPolicyGradient):
    """
    Policy gradient with a learned baseline V_ψ.

    An update samples N trajectories, improves V_ψ by several gradient steps, calculates J(θ) with the **improved** V_ψ, and
    makes one gradient step on θ. Source: slides "Policy gradient with baseline".

    - V_ψ is a network of its own, with its own optimizer. Its targets are the λ-returns. They are calculated with the values
      from the rollout, and stay fixed while V_ψ is fitted. With λ = 1 they are the slides' R_t.
    - The return of a trajectory that a time limit truncates continues with γV(s_{T+1}).
    - A V_ψ that is fitted to the returns of a sample is a biased baseline for this sample. ``fit_value_first=False`` avoids
      the bias.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The actor's learning rate, it can be a function of the current progress remaining (from 1 to 0)
    :param n_trajectories: N, the number of whole trajectories sampled for one gradient step on θ
    :param gamma: Discount factor, in [0, 1]
    :param gae_lambda: λ of Generalized Advantage Estimation; 1 is the slides' A_t = R_t − V_ψ(s_t)
    :param value_learning_rate: The critic's learning rate, it can be a function of the current progress remaining
    :param n_value_epochs: Number of passes over the M steps of the sample to fit V_ψ, in each update
    :param value_batch_size: Minibatch size of the critic's steps
    :param fit_value_first: Whether to fit V_ψ before the advantages are calculated (as on the slides), or after the step on θ
    :param normalize_advantage: Whether to shift and scale the advantages to mean 0 and standard deviation 1 over all M steps
    :param ent_coef: Entropy coefficient, it can be a function of the current progress remaining
    :param max_grad_norm: Upper bound of the norm of ∇J, for θ only; ``None``: no bound
    :param batch_size: ∇J is accumulated over micro-batches of at most this many steps. It bounds the memory, and does
        not change the result. ``None``: all steps at once
    :param max_trajectory_steps: The number of steps after which a trajectory is cut; ``None``: never. Then an endless
        trajectory raises a RuntimeError
    :param compile: Compile the update and the policy's forward pass by ``torch.compile``. It is faster, and rounds
        differently. A model that cannot be compiled runs eagerly, with a warning
    :param use_sde: Must be False: only PPO supports gSDE
    :param stats_window_size: Number of episodes over which ``rollout/ep_rew_mean`` and ``rollout/ep_len_mean`` are averaged
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation; ``optimizer_class`` and
        ``optimizer_kwargs`` are used for both optimizers
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, …) on which the code runs; "auto": the GPU if there is one
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: if an argument is wrong; the message names the argument, its value and the allowed range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy_base = SeparateActorCriticPolicy
    policy_reason = "actor and critic need an optimizer each"
    policy: SeparateActorCriticPolicy

    def __init__(
        self,
        policy: str | type[SeparateActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_trajectories: int = 20,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        *,
        value_learning_rate: float | Schedule = 1e-3,
        n_value_epochs: int = 10,
        value_batch_size: int = 64,
        fit_value_first: bool = True,
        normalize_advantage: bool = False,
        ent_coef: float | Schedule = 0.0,
        max_grad_norm: float | None = None,
        batch_size: int | None = None,
        max_trajectory_steps: int | None = None,
        compile: bool = False,
        use_sde: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_trajectories=n_trajectories,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            max_trajectory_steps=max_trajectory_steps,
            compile=compile,
            use_sde=use_sde,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.value_learning_rate = value_learning_rate
        self.n_value_epochs = n_value_epochs
        self.value_batch_size = value_batch_size
        self.fit_value_first = fit_value_first
        self.normalize_advantage = normalize_advantage
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        update_learning_rate(self.policy.value_optimizer, self._scheduled(self.value_learning_rate))

    def train(self) -> None:
        """
        Makes one update from N trajectories.

        Source: slide "Training loop – policy gradient with baseline". Its step 1 is the rollout.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        sample = self.rollout_buffer
        collected_values = sample.values
        log = MinibatchLog()

        # 2. Improve V_ψ by minimising (1/M) Σ_j Σ_t (R_t − V_ψ(s_t))²
        if self.fit_value_first:
            self._fit_value(sample)
        # 3. Calculate J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · A_t, 4. ask PyTorch to minimise −J(θ)
        advantages = self._improved_advantages(sample) if self.fit_value_first else sample.advantages
        sample.advantages = normalized(advantages) if self.normalize_advantage else advantages
        with self._gradient_step(log) as step:
            step.accumulate(sample.micro_batches(self.batch_size))
        self._log_update(log)
        if not self.fit_value_first:
            self._fit_value(sample)

        self.logger.record("train/explained_variance", explained_variance(collected_values, sample.returns))

    def _loss(
        self, batch: RolloutBufferSamples | DictRolloutBufferSamples, *, n_trajectories: int, ent_coef: float
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        The loss −J(θ) − ``ent_coef`` · (1/N) Σ_j Σ_t H(π_θ(·|s_t)).

        J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · A_t. Over micro-batches the losses add up to that of the sample.

        :param batch: steps of the sample, ``advantages`` their advantages A_t
        :param n_trajectories: N
        :param ent_coef: entropy coefficient
        :return: the loss, a scalar, and the figures ``policy_loss``, ``entropy_sum`` and ``loss``
        """
        _, log_probs, entropy = self._evaluate(batch)
        objective = policy_gradient_objective(log_probs, batch.advantages, n_trajectories)
        entropy_sum = entropy.sum()
        loss = -objective - ent_coef * entropy_sum / n_trajectories
        return loss, dict(policy_loss=-objective, entropy_sum=entropy_sum, loss=loss)

    def _fit_value(self, sample: TrajectoryBuffer) -> None:
        """Fits V_ψ to the λ-returns of the sample by minibatch gradient descent."""
        value_learning_rate = self._scheduled(self.value_learning_rate)
        update_learning_rate(self.policy.value_optimizer, value_learning_rate)
        log = MinibatchLog()
        with gradient_steps(
            self._value_loss,
            {},
            policy=self.policy,
            parameters=self.policy.critic_parameters(),
            optimizer=self.policy.value_optimizer,
            log=log,
            compiler=self._compiler,
        ) as step:
            for _ in range(self.n_value_epochs):
                for batch in sample.get(self.value_batch_size):
                    step(batch)
        check_finite(self, log)
        self.logger.record("train/value_loss", float(log.mean("value_loss")))
        self.logger.record("train/value_learning_rate", value_learning_rate)

    def _value_loss(self, batch: RolloutBufferSamples | DictRolloutBufferSamples) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        loss = value_loss(self._values(batch), batch.returns)
        return loss, dict(value_loss=loss, loss=loss)

    def _values(self, batch: RolloutBufferSamples | DictRolloutBufferSamples) -> th.Tensor:
        """V_ψ(s) of a minibatch, shape (B,): the hook for critics that are given more than observations."""
        return self.policy.predict_values(batch.observations).flatten()

    def _improved_advantages(self, sample: TrajectoryBuffer) -> np.ndarray:
        """The advantages A_t with the improved V_ψ, bootstraps included, shape (M,)."""
        self.policy.set_training_mode(False)
        batches = sample.micro_batches(self.batch_size)
        with th.no_grad():
            values = th.cat([self._values(batch) for batch in batches]).cpu().numpy()
        final_values = self._predict_final_values(sample)
        self.policy.set_training_mode(True)
        return sample.advantages_of(values, final_values)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_schedule("value_learning_rate", self.value_learning_rate, low=0.0)
        check_count("n_value_epochs", self.n_value_epochs)
        check_count("value_batch_size", self.value_batch_size)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, "policy.value_optimizer"], variables
