"""What REINFORCE and BaselinePG have in common: one gradient step on −J(θ) a rollout."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, GymEnv, RolloutBufferSamples, Schedule

from crashalgos.common.buffers import TrajectoryBuffer
from crashalgos.common.checks import check_count
from crashalgos.common.gradient_step import GradientStep
from crashalgos.common.losses import policy_gradient_objective
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.common.policies import ActorPolicy, SeparateActorCriticPolicy


class VanillaPolicyGradient(PolicyGradientAlgorithm):
    """
    Rollouts of N whole trajectories, and the step "ask PyTorch to minimise −J(θ)" (slide "Training loop").

    :param policy: The policy model to use
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The actor's learning rate, it can be a function of the current progress remaining
    :param n_trajectories: N, the number of trajectories a rollout
    :param batch_size: The gradient is accumulated over chunks of at most this many steps, which bounds memory and nothing
        else; ``None``: all at once
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

    def _ascend_objective(self, weights: np.ndarray) -> None:
        """
        J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · weight_t + ent_coef · (1/N) Σ_j Σ_t H(π_θ(·|s_t)), then one step on −J.

        :param weights: weight_t of every step of the sample, shape (M,)
        """
        self.rollout_buffer.advantages = weights
        coefficients = dict(n_trajectories=self.rollout_buffer.n_trajectories, ent_coef=self._scheduled(self.ent_coef))
        log = MinibatchLog()
        with GradientStep(
            self._policy_loss,
            coefficients,
            self.policy,
            self._actor_parameters(),
            self.policy.optimizer,
            log,
            self._compiler,
            max_grad_norm=self.max_grad_norm,
            one_part=self.batch_size is None,
        ) as step:
            step(self.rollout_buffer.chunks(self.batch_size))
        self._n_updates += 1

        self._check_finite(log)
        self.logger.record("train/policy_gradient_loss", float(log.values("policy_loss").sum()))
        self.logger.record("train/entropy_loss", -float(log.values("entropy_sum").sum()) / len(weights))
        self.logger.record("train/loss", float(log.values("loss").sum()))
        self.logger.record("train/grad_norm", float(log.values("grad_norm")[-1]))
        self.logger.record("train/weight_mean", float(weights.mean()))
        self.logger.record("train/weight_std", float(weights.std()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._log_std()

    def _policy_loss(
        self, chunk: RolloutBufferSamples | DictRolloutBufferSamples, n_trajectories: int, ent_coef: float
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        A chunk's part of −J(θ) less the entropy bonus.

        :param chunk: steps of the sample, ``advantages`` their weights
        :param n_trajectories: N
        :param ent_coef: coefficient of the entropy
        :return: the loss, a scalar, and the figures of the chunk
        """
        # Not `evaluate_actions`: it would run the critic, too, for values that this step does not need
        distribution = self.policy.get_distribution(chunk.observations)
        log_probs, entropy = distribution.log_prob(self._actions_for_policy(chunk.actions)), distribution.entropy()
        objective = policy_gradient_objective(log_probs, chunk.advantages, n_trajectories)
        assert entropy is not None  # only squashed gSDE has none in closed form
        entropy_sum = entropy.sum()
        loss = -objective - ent_coef * entropy_sum / n_trajectories
        return loss, dict(policy_loss=-objective, entropy_sum=entropy_sum, loss=loss)

    def _actor_parameters(self) -> list[th.nn.Parameter]:
        return [parameter for group in self.policy.optimizer.param_groups for parameter in group["params"]]


def _refuse_gsde(use_sde: bool) -> None:
    if use_sde:
        raise ValueError(f"`use_sde` must be False, got {use_sde!r}: gSDE is for PPO alone")


def normalized(weights: np.ndarray) -> np.ndarray:
    """
    :param weights: shape (M,)
    :return: weights less their mean, over their standard deviation (as SB3's of the advantages); as they are for M = 1
    """
    if len(weights) == 1:
        return weights
    return (weights - weights.mean()) / (weights.std(ddof=1) + 1e-8)
