"""REINFORCE: the policy gradient with whole trajectories (part 2 of the course)."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, GymEnv, RolloutBufferSamples, Schedule

from crashalgos.common.baselines import Baseline, baseline_values, check_baseline
from crashalgos.common.checks import check_choice
from crashalgos.common.losses import policy_gradient_objective
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.policies import ActorPolicy
from crashalgos.common.policy_gradient import VanillaPolicyGradient
from crashalgos.common.returns import normalized, reward_to_go, total_return
from crashalgos.common.trajectory_buffers import TrajectoryBuffer
from crashalgos.reinforce.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

WEIGHTINGS = {"reward_to_go": reward_to_go, "total_return": total_return}


class REINFORCE(VanillaPolicyGradient):
    """
    REINFORCE: sample N trajectories, calculate J(θ), make **one** gradient step.

    Source: slides "Policy gradient"; Williams 1992, https://doi.org/10.1007/BF00992696.

    J(θ) is a sum over the steps and a mean over the trajectories. The entropy bonus is as well.

    There is no critic. So the return of a trajectory ends where a time limit truncates it. If the limit is not part of the
    task, this is a bias: the policy prefers early rewards.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy): an actor without a critic
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0)
    :param n_trajectories: N, the number of whole trajectories sampled for one gradient step
    :param gamma: Discount factor, in [0, 1]
    :param weighting: The return that weights ∇ln π_θ(a_t|s_t): ``"reward_to_go"``, R_t = Σ_{j≥t} γ^{j−t} r_j, or
        ``"total_return"``, R(τ) = Σ_j γ^{j−1} r_j for every step of τ
    :param baseline: The baseline b(s_t), which is subtracted from these returns: ``None``; a number; ``"mean"``, the mean of
        all M returns (biased); ``"leave_one_out"``, the mean over all steps of the other trajectories; or a callable. It gets
        the rollout buffer's observations (shape (M, …), or a dict of such arrays), and returns values of shape (M,)
    :param normalize_weights: Whether to shift and scale the weights, after the baseline, to mean 0 and standard deviation 1
        over all M steps
    :param ent_coef: Entropy coefficient, it can be a function of the current progress remaining
    :param max_grad_norm: Upper bound of the norm of ∇J; ``None``: no bound
    :param batch_size: The gradient is accumulated over micro-batches of at most this many steps. It bounds the memory, and
        does not change the result. ``None``: all steps at once
    :param max_trajectory_steps: The number of steps after which a trajectory is cut; ``None``: never. Then an endless
        trajectory raises a RuntimeError
    :param compile: Compile the update and the policy's forward pass by ``torch.compile``. It is faster, and rounds
        differently. A model that cannot be compiled runs eagerly, with a warning
    :param use_sde: Must be False: only PPO supports gSDE
    :param stats_window_size: Number of episodes over which ``rollout/ep_rew_mean`` and ``rollout/ep_len_mean`` are averaged
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
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
    policy_base = ActorPolicy
    policy_reason = "REINFORCE has no critic"

    def __init__(
        self,
        policy: str | type[ActorPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_trajectories: int = 20,
        gamma: float = 0.99,
        *,
        weighting: str = "reward_to_go",
        baseline: Baseline = None,
        normalize_weights: bool = False,
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
            gae_lambda=1.0,
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
        self.weighting = weighting
        self.baseline = baseline
        self.normalize_weights = normalize_weights
        if _init_setup_model:
            self._setup_model()

    def train(self) -> None:
        """
        Makes one update from N trajectories.

        Source: slide "Training loop" of part 2. Its step 1 is ``collect_rollouts``.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        sample = self.rollout_buffer
        log = MinibatchLog()

        # 2. Calculate −J(θ) = −(1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · (R_t − b(s_t)), 3. ask PyTorch to minimise it: one step
        sample.advantages = self._weights(sample)
        with self._gradient_step(log) as step:
            step.accumulate(sample.micro_batches(self.batch_size))

        self._log_update(log)

    def _loss(
        self, batch: RolloutBufferSamples | DictRolloutBufferSamples, *, n_trajectories: int, ent_coef: float
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        The loss −J(θ) − ``ent_coef`` · (1/N) Σ_j Σ_t H(π_θ(·|s_t)).

        J(θ) = (1/N) Σ_j Σ_t ln π_θ(a_t|s_t) · (R_t − b(s_t)). Over micro-batches the losses add up to that of the sample.

        :param batch: steps of the sample, ``advantages`` their weights R_t − b(s_t)
        :param n_trajectories: N
        :param ent_coef: entropy coefficient
        :return: the loss, a scalar, and the figures ``policy_loss``, ``entropy_sum`` and ``loss``
        """
        _, log_probs, entropy = self._evaluate(batch)
        objective = policy_gradient_objective(log_probs, batch.advantages, n_trajectories)
        entropy_sum = entropy.sum()
        loss = -objective - ent_coef * entropy_sum / n_trajectories
        return loss, dict(policy_loss=-objective, entropy_sum=entropy_sum, loss=loss)

    def _weights(self, sample: TrajectoryBuffer) -> np.ndarray:
        """The weights R_t − b(s_t), shape (M,): the baseline changes the returns, never the rewards."""
        returns = sample.returns.astype(np.float64)
        weights = returns - baseline_values(self.baseline, returns, sample.lengths, sample.observations)
        if self.normalize_weights:
            weights = normalized(weights)
        return weights.astype(np.float32)

    def _evaluate_trajectories(self, rollout_buffer: TrajectoryBuffer) -> None:
        # Without a critic, returns are sums of rewards alone, also of a truncated trajectory
        returns = WEIGHTINGS[self.weighting](rollout_buffer.rewards.astype(np.float64), rollout_buffer.lengths, self.gamma)
        rollout_buffer.returns = returns.astype(np.float32)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_choice("weighting", self.weighting, tuple(WEIGHTINGS))
        check_baseline(self.baseline, self.n_trajectories)  # type: ignore[arg-type]
