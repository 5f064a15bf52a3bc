"""PPO with the clipped objective (part 4 of the course), written from the slides, with SB3's interface and arithmetic."""

import operator
import warnings
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, GymEnv, RolloutBufferSamples, Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance

from crashalgos.common.checks import check_count, check_number, check_schedule
from crashalgos.common.finite import check_finite
from crashalgos.common.gradient_step import GradientStep, gradient_steps
from crashalgos.common.losses import (
    SIX_CASES,
    clip_value_change,
    clipped_surrogate_objective,
    policy_change_figures,
    six_cases,
    value_loss,
)
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.ppo.policies import CnnPolicy, MlpPolicy, MultiInputPolicy


class PPO(PolicyGradientAlgorithm):
    """
    Proximal Policy Optimization with the clipped objective (https://arxiv.org/abs/1707.06347; slides, part 4).

    With ``n_steps`` it is SB3's PPO: the same arguments, random draws and arithmetic. With ``n_trajectories`` it is the
    slides' training loop: N whole trajectories, split into ⌈M/batch_size⌉ minibatches whose sizes differ by at most one.

    Where the slide makes a value step and a policy step, this makes one joint step on −J̃ + ``vf_coef`` · MSE, as SB3 does.
    Where actor and critic share no parameters, Adam hardly tells the two apart: it divides each parameter's gradient by its
    own size, so ``vf_coef`` has little effect but through ``max_grad_norm``, which bounds the norm of both together.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0)
    :param n_steps: The number of steps of each env per update; not used with ``n_trajectories``
    :param batch_size: Minibatch size; with ``n_trajectories`` its upper bound
    :param n_epochs: How often an update goes over the rollout
    :param gamma: Discount factor, in [0, 1]
    :param gae_lambda: λ of Generalized Advantage Estimation
    :param clip_range: ε, it can be a function of the current progress remaining
    :param clip_range_vf: Bound on the change of the values, it can be a function of the current progress remaining;
        ``None``: no bound. It depends on the scale of the rewards
    :param normalize_advantage: Whether to normalize the advantages of each minibatch
    :param ent_coef: Entropy coefficient, it can be a function of the current progress remaining
    :param vf_coef: Coefficient of the value loss
    :param max_grad_norm: Upper bound of the gradient's norm; ``None``: no bound
    :param use_sde: Whether to use generalized State Dependent Exploration (gSDE)
    :param sde_sample_freq: Sample a new noise matrix every n steps with gSDE; -1: only at the beginning of the rollout
    :param rollout_buffer_class: Rollout buffer class to use; ``None``: chosen automatically, as it must be with
        ``n_trajectories``
    :param rollout_buffer_kwargs: Keyword arguments to pass to the rollout buffer on creation
    :param target_kl: Stop an update where the approximate KL divergence exceeds 1.5 times this; ``None``: no limit
    :param stats_window_size: Number of episodes that ``rollout/ep_rew_mean`` and its like average
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run; "auto": the GPU if possible
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :param n_trajectories: N, whole trajectories per update instead of ``n_steps``
    :param max_trajectory_steps: Where to cut a trajectory, as a time limit would; ``None``: nowhere
    :param compile: Compile the update and the policy's forward pass (``torch.compile``): other rounding, more speed; what
        cannot be compiled runs eagerly, with a warning
    :raises ValueError: for a wrong argument, naming it, its value and the allowed range
    :raises AssertionError: for what SB3's PPO asserts (``batch_size``, ``n_steps``, ``clip_range_vf``, and the types of
        ``learning_rate`` and ``clip_range``)
    :raises TypeError: for an ``n_steps`` that is no whole number, as SB3's PPO
    """

    schedules = (*PolicyGradientAlgorithm.schedules, "clip_range", "clip_range_vf")
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float | None = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        n_trajectories: int | None = None,
        max_trajectory_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            n_trajectories=n_trajectories,
            max_trajectory_steps=max_trajectory_steps,
            compile=compile,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self._check_batch_size()
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            if isinstance(self.clip_range_vf, float | int):
                assert self.clip_range_vf > 0, f"`clip_range_vf` must be positive or None, got {self.clip_range_vf!r}"
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)

    def _check_arguments(self) -> None:
        for name in ("learning_rate", "clip_range"):
            value = getattr(self, name)
            assert callable(value) or isinstance(value, float | int), f"`{name}` must be a number or a function, got {value!r}"
        super()._check_arguments()
        operator.index(self.n_steps)  # a TypeError for what is no whole number, as in SB3
        for name in ("n_steps", "batch_size", "n_epochs"):
            check_count(name, getattr(self, name))
        check_schedule("clip_range", self.clip_range, low=0.0)
        check_number("vf_coef", self.vf_coef)
        if self.target_kl is not None:
            check_number("target_kl", self.target_kl, low=0.0)

    def _check_batch_size(self) -> None:
        if self.normalize_advantage:
            # One sample has no standard deviation
            assert self.batch_size > 1, f"`batch_size` must be greater than 1, got {self.batch_size!r}"
        if self.env is None or not self._rollout_type.fixed_size:
            return
        n_samples = self.env.num_envs * self.n_steps
        assert n_samples > 1 or not self.normalize_advantage, (
            f"`n_steps * n_envs` must be greater than 1. Currently n_steps={self.n_steps} and n_envs={self.env.num_envs}"
        )
        if n_samples % self.batch_size > 0:
            warnings.warn(
                f"You have specified a mini-batch size of {self.batch_size},"
                f" but because the `RolloutBuffer` is of size `n_steps * n_envs = {n_samples}`,"
                f" after every {n_samples // self.batch_size} untruncated mini-batches,"
                f" there will be a truncated mini-batch of size {n_samples % self.batch_size}\n"
                f"We recommend using a `batch_size` that is a factor of `n_steps * n_envs`.\n"
                f"Info: (n_steps={self.n_steps} and n_envs={self.env.num_envs})",
                stacklevel=3,
            )

    def train(self) -> None:
        """
        Makes one update from a rollout (slide "Training loop – PPO").

        Step 1, sampling, is ``collect_rollouts``. Step 2, π_θOLD := π_θ, are the log-probabilities in the buffer.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        coefficients = self._coefficients()
        log = MinibatchLog()

        with self._gradient_step(coefficients, log) as step:
            for epoch in range(self.n_epochs):
                first_of_epoch = log.count("loss")
                # 3. Loop over batches B
                for batch in self.rollout_buffer.get(self.batch_size):
                    # 3.1 value loss, 3.2 J̃(θ), 3.3 ask PyTorch to minimise both: one joint step down `_loss`
                    within_target_kl = step(batch)
                    if not within_target_kl:
                        break
                self._n_updates += 1
                self._log_cases(log, coefficients["clip_range"])
                if not within_target_kl:
                    self._report_early_stop(epoch, log)
                    break

        check_finite(self, log)
        self._log_update(log, first_of_epoch, coefficients)

    def _coefficients(self) -> dict[str, Any]:
        return dict(
            clip_range=self._scheduled(self.clip_range),
            clip_range_vf=None if self.clip_range_vf is None else self._scheduled(self.clip_range_vf),
            ent_coef=self._scheduled(self.ent_coef),
            vf_coef=self.vf_coef,
        )

    def _gradient_step(self, coefficients: dict[str, Any], log: MinibatchLog) -> AbstractContextManager[GradientStep]:
        return gradient_steps(
            self._loss,
            coefficients,
            policy=self.policy,
            parameters=list(self.policy.parameters()),
            optimizer=self.policy.optimizer,
            log=log,
            compiler=self._compiler,
            max_grad_norm=self.max_grad_norm,
            static_size=self.batch_size if self._rollout_type.fixed_size else None,
            should_step=None if self.target_kl is None else self._within_target_kl,
        )

    def _loss(
        self,
        batch: RolloutBufferSamples | DictRolloutBufferSamples,
        *,
        clip_range: float,
        clip_range_vf: float | None,
        ent_coef: float,
        vf_coef: float,
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        The loss −J̃(θ) + ``vf_coef`` · MSE(V_ψ) − ``ent_coef`` · H(π_θ), each a mean over the minibatch.

        A subclass may add to the loss, from the figures too: they have a gradient.

        :param batch: a minibatch B
        :param clip_range: ε
        :param clip_range_vf: bound on the change of the values, ``None`` for no bound
        :param ent_coef: coefficient of the entropy
        :param vf_coef: coefficient of the value loss
        :return: the loss, a scalar, and the figures of the minibatch
        """
        values, log_probs, entropy = self._evaluate(batch)
        advantages = self._advantages(batch.advantages)

        # ρ = π_θ(a|s) / π_θOLD(a|s)
        log_ratios = log_probs - batch.old_log_prob
        ratios = th.exp(log_ratios)
        policy_loss = -clipped_surrogate_objective(ratios, advantages, clip_range)

        if clip_range_vf is not None:
            values = clip_value_change(values, batch.old_values, clip_range_vf)
        critic_loss = value_loss(values, batch.returns)

        # Without an analytical form (squashed gSDE), −ln π is an estimate of the entropy
        entropy_loss = -th.mean(-log_probs if entropy is None else entropy)

        loss = policy_loss + ent_coef * entropy_loss + vf_coef * critic_loss
        figures = dict(policy_loss=policy_loss, value_loss=critic_loss, entropy_loss=entropy_loss, loss=loss)
        return loss, figures | policy_change_figures(ratios, log_ratios, advantages, clip_range)

    def _evaluate(
        self, batch: RolloutBufferSamples | DictRolloutBufferSamples
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """
        What the policy says of a minibatch: the hook for policies that are given more than observations.

        :param batch: a minibatch
        :return: V_ψ(s), ln π_θ(a|s) and H(π_θ(·|s)), shape (B,) each; ``None`` for an entropy without a closed form
        """
        actions = self._actions_for_policy(batch.actions)
        values, log_probs, entropy = self.policy.evaluate_actions(batch.observations, actions)
        return values.flatten(), log_probs, entropy

    def _advantages(self, advantages: th.Tensor) -> th.Tensor:
        if self.normalize_advantage and len(advantages) > 1:
            return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def _within_target_kl(self, figures: dict[str, th.Tensor]) -> bool:
        assert self.target_kl is not None
        approx_kl = figures["kl_k3"].cpu().numpy()  # SB3 compares in float32
        return not approx_kl > 1.5 * self.target_kl

    def _report_early_stop(self, epoch: int, log: MinibatchLog) -> None:
        if self.verbose >= 1:
            print(f"Early stopping at step {epoch} due to reaching max kl: {log.last('kl_k3'):.2f}")

    def _log_cases(self, log: MinibatchLog, clip_range: float) -> None:
        """Counts the six cases once an epoch: in every minibatch that would take a noticeable part of the time."""
        ratios, advantages = log.take("ratios"), log.take("advantages")
        sizes = th.tensor([len(part) for part in ratios])
        log.add(six_cases=six_cases(th.cat(ratios), th.cat(advantages), clip_range, sizes))

    def _log_update(self, log: MinibatchLog, first_of_epoch: int, coefficients: dict[str, Any]) -> None:
        """
        Logs the update's figures.

        :param first_of_epoch: index of the last epoch's first minibatch: SB3 logs the KL divergence of that epoch alone
        """
        buffer = self.rollout_buffer
        self.logger.record("train/entropy_loss", log.mean("entropy_loss"))
        self.logger.record("train/policy_gradient_loss", log.mean("policy_loss"))
        self.logger.record("train/value_loss", log.mean("value_loss"))
        self.logger.record("train/approx_kl", np.mean(log.values("kl_k3")[first_of_epoch:]))
        self.logger.record("train/clip_fraction", log.mean("clip_fraction"))
        self.logger.record("train/loss", float(log.values("loss")[-1]))
        self.logger.record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        self._log_std()
        self.logger.record("train/kl_k1", log.mean("kl_k1"))
        self.logger.record("train/kl_k3", log.mean("kl_k3"))
        if log.count("grad_norm"):
            self.logger.record("train/grad_norm", log.mean("grad_norm"))
        counts = np.concatenate([counts.cpu().numpy() for counts in log.take("six_cases")])
        shares = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
        for case, share in zip(SIX_CASES, shares, strict=True):
            self.logger.record(f"train/cases/{case}", share)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", coefficients["clip_range"])
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", coefficients["clip_range_vf"])
