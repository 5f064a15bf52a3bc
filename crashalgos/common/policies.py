"""
The policies of REINFORCE (without a critic) and of BaselinePG (actor and critic with one optimizer each).

Both keep SB3's parameter names. So ``load_state_dict(…, strict=False)`` copies weights between them and SB3's policies.
"""

from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn


class ActorPolicy(ActorCriticPolicy):
    """
    A policy π_θ without a critic.

    ``forward`` and ``evaluate_actions`` return ``None`` in the place of the values.

    :param args: SB3's policy arguments
    :param kwargs: SB3's policy arguments. Of ``net_arch`` only ``pi`` (or a list of layer sizes) is used;
        ``share_features_extractor`` has no effect
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "share_features_extractor": True})

    def _build_mlp_extractor(self) -> None:
        layers = self.net_arch.get("pi", []) if isinstance(self.net_arch, dict) else self.net_arch
        self.mlp_extractor = MlpExtractor(self.features_dim, dict(pi=layers), self.activation_fn, self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        del self.value_net
        self.optimizer = _make_optimizer(self, list(self.parameters()), lr_schedule)

    def forward(  # type: ignore[override]
        self, obs: PyTorchObs, deterministic: bool = False
    ) -> tuple[th.Tensor, None, th.Tensor]:
        """
        Draws an action for every observation.

        :param obs: s, shape (B, …)
        :param deterministic: return the mode of the distribution instead of a sample
        :return: a, shape (B, …); ``None``; ln π_θ(a|s), shape (B,)
        """
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_probs = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), None, log_probs  # type: ignore[misc]

    def evaluate_actions(  # type: ignore[override]
        self, obs: PyTorchObs, actions: th.Tensor
    ) -> tuple[None, th.Tensor, th.Tensor | None]:
        """
        The log-probabilities of given actions, and the policy's entropy.

        :param obs: s, shape (B, …)
        :param actions: a, shape (B, …)
        :return: ``None``; ln π_θ(a|s), shape (B,); the entropy of π_θ(·|s), shape (B,)
        """
        distribution = self.get_distribution(obs)
        return None, distribution.log_prob(actions), distribution.entropy()

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        Raises an error, because there is no critic.

        :param obs: not used
        :raises AttributeError: always
        """
        raise AttributeError(f"{type(self).__name__} has no critic, so it predicts no values")


class ActorCnnPolicy(ActorPolicy, ActorCriticCnnPolicy):
    """A policy without a critic for images, with SB3's ``NatureCNN``: see :class:`ActorPolicy`."""


class MultiInputActorPolicy(ActorPolicy, MultiInputActorCriticPolicy):
    """A policy without a critic for Dict observations, with SB3's ``CombinedExtractor``: see :class:`ActorPolicy`."""


class SeparateActorCriticPolicy(ActorCriticPolicy):
    """
    A policy π_θ and a critic V_ψ that share no parameters (slide "Value network").

    ``optimizer`` has the parameters θ, ``value_optimizer`` the parameters ψ.

    :param args: SB3's policy arguments
    :param share_features_extractor: whether actor and critic use the same features extractor. It must have no parameters then,
        because a parameter cannot belong to two optimizers
    :param kwargs: SB3's policy arguments; ``optimizer_class`` and ``optimizer_kwargs`` are used for both optimizers
    :raises ValueError: if the shared features extractor has parameters
    """

    value_optimizer: th.optim.Optimizer

    def __init__(self, *args: Any, share_features_extractor: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "share_features_extractor": share_features_extractor})

    def _build(self, lr_schedule: Schedule) -> None:
        if set(self.pi_features_extractor.parameters()) & set(self.vf_features_extractor.parameters()):
            raise ValueError(
                f"`share_features_extractor` must be False, got {self.share_features_extractor}, and the two extractors must "
                f"not have a module in common: {type(self.features_extractor).__name__} has parameters, and the optimizers of "
                "actor and critic cannot both own them"
            )
        super()._build(lr_schedule)
        self.optimizer = _make_optimizer(self, self.actor_parameters(), lr_schedule)
        self.value_optimizer = _make_optimizer(self, self.critic_parameters(), lr_schedule)

    def critic_parameters(self) -> list[nn.Parameter]:
        """
        The critic's parameters ψ.

        Override it together with :meth:`_build_mlp_extractor`, if your extractor is not an ``MlpExtractor``.

        :return: ψ
        """
        modules = (self.vf_features_extractor, self.mlp_extractor.value_net, self.value_net)
        return [parameter for module in modules for parameter in module.parameters()]

    def actor_parameters(self) -> list[nn.Parameter]:
        """
        The actor's parameters θ: all parameters that are not the critic's.

        :return: θ
        """
        critic = set(self.critic_parameters())
        return [parameter for parameter in self.parameters() if parameter not in critic]


class SeparateActorCriticCnnPolicy(SeparateActorCriticPolicy, ActorCriticCnnPolicy):
    """A policy and a separate critic for images, with SB3's ``NatureCNN``: see :class:`SeparateActorCriticPolicy`."""


class SeparateMultiInputActorCriticPolicy(SeparateActorCriticPolicy, MultiInputActorCriticPolicy):
    """
    A policy and a separate critic for Dict observations, with SB3's ``CombinedExtractor``.

    See :class:`SeparateActorCriticPolicy`.
    """


def _make_optimizer(policy: ActorCriticPolicy, parameters: list[nn.Parameter], lr_schedule: Schedule) -> th.optim.Optimizer:
    return policy.optimizer_class(parameters, lr=lr_schedule(1), **policy.optimizer_kwargs)  # type: ignore[call-arg]
