"""What REINFORCE and BaselinePG have in common: one gradient step on −J(θ) a rollout."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, GymEnv, RolloutBufferSamples, Schedule

from crashalgos.common.checks import check_count
from crashalgos.common.finite import check_finite
from crashalgos.common.gradient_step import GradientStep, gradient_steps
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.common.policies import ActorPolicy, SeparateActorCriticPolicy
from crashalgos.common.trajectory_buffers import TrajectoryBuffer


class VanillaPolicyGradient(PolicyGradientAlgorithm):
    """
    Rollouts of N whole trajectories, and the step "ask PyTorch to minimise −J(θ)" (slide "Training loop").

    :param policy: The policy model to use
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The actor's learning rate, it can be a function of the current progress remaining
    :param n_trajectories: N, the number of trajectories a rollout
    :param batch_size: Upper bound of a micro-batch. The gradient is accumulated over micro-batches, so this bounds only
        memory; ``None``: all steps at once
    :param gae_lambda: λ of Generalized Advantage Estimation
    :param use_sde: Must be False: gSDE is for PPO alone
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :param kwargs: The other arguments of :class:`~crashalgos.common.on_policy_algorithm.PolicyGradientAlgorithm`
    """

    policy: ActorPolicy | SeparateActorCriticPolicy
    rollout_buffer: TrajectoryBuffer
    #: What the policy class must derive from, and why
    policy_base: ClassVar[type[ActorPolicy] | type[SeparateActorCriticPolicy]]
    policy_reason: ClassVar[str]
    #: −J(θ) less the entropy bonus, and the figures ``policy_loss``, ``entropy_sum`` and ``loss``
    _loss: Callable[..., tuple[th.Tensor, dict[str, th.Tensor]]]

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        *,
        learning_rate: float | Schedule,
        n_trajectories: int,
        batch_size: int | None,
        gae_lambda: float,
        use_sde: bool,
        _init_setup_model: bool,
        **kwargs: Any,
    ) -> None:
        _refuse_gsde(use_sde)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_trajectories=n_trajectories,
            gae_lambda=gae_lambda,
            n_steps=0,  # rollouts are counted in trajectories
            vf_coef=0.0,  # no joint loss of actor and critic
            use_sde=use_sde,
            sde_sample_freq=-1,
            _init_setup_model=False,
            **kwargs,
        )
        self.batch_size = batch_size
        if _init_setup_model:
            self._setup_model()

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_count("n_trajectories", self.n_trajectories)
        _refuse_gsde(self.use_sde or self.policy_kwargs.get("use_sde", False))
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        if not issubclass(self.policy_class, self.policy_base):
            raise ValueError(
                f"`policy` must be one of {', '.join(map(repr, self.policy_aliases))} or a subclass of "
                f"{self.policy_base.__name__}, got {self.policy_class.__name__}: {self.policy_reason}"
            )

    def _gradient_step(self, log: MinibatchLog) -> AbstractContextManager[GradientStep]:
        """The step on θ down ``_loss``, which is −J(θ)."""
        return gradient_steps(
            self._loss,
            self._coefficients(),
            policy=self.policy,
            parameters=self._actor_parameters(),
            optimizer=self.policy.optimizer,
            log=log,
            compiler=self._compiler,
            max_grad_norm=self.max_grad_norm,
            single_batch=self.batch_size is None,
        )

    def _coefficients(self) -> dict[str, Any]:
        return dict(n_trajectories=self.rollout_buffer.n_trajectories, ent_coef=self._scheduled(self.ent_coef))

    def _evaluate(self, batch: RolloutBufferSamples | DictRolloutBufferSamples) -> tuple[None, th.Tensor, th.Tensor]:
        """
        What the policy says of the sample's steps: the hook for policies that are given more than observations.

        :param batch: steps of the sample
        :return: no value, which the step on θ does not need; ln π_θ(a|s) and H(π_θ(·|s)), shape (B,) each
        """
        # Not `evaluate_actions`, which would run the critic, too
        distribution = self.policy.get_distribution(batch.observations)
        log_probs, entropy = distribution.log_prob(self._actions_for_policy(batch.actions)), distribution.entropy()
        assert entropy is not None  # only squashed gSDE has none in closed form
        return None, log_probs, entropy

    def _log_update(self, log: MinibatchLog) -> None:
        weights = self.rollout_buffer.advantages
        self._n_updates += 1
        check_finite(self, log)
        self.logger.record("train/policy_gradient_loss", float(log.values("policy_loss").sum()))
        self.logger.record("train/entropy_loss", -float(log.values("entropy_sum").sum()) / len(weights))
        self.logger.record("train/loss", float(log.values("loss").sum()))
        self.logger.record("train/grad_norm", float(log.values("grad_norm")[-1]))
        self.logger.record("train/weight_mean", float(weights.mean()))
        self.logger.record("train/weight_std", float(weights.std()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._log_std()

    def _actor_parameters(self) -> list[th.nn.Parameter]:
        return [parameter for group in self.policy.optimizer.param_groups for parameter in group["params"]]


def _refuse_gsde(use_sde: bool) -> None:
    if use_sde:
        raise ValueError(f"`use_sde` must be False, got {use_sde!r}: gSDE is for PPO alone")
