"""
SB3's policies without a critic (REINFORCE), and with an optimizer each for actor and critic (BaselinePG).

Both keep the parameter names of SB3's ``ActorCriticPolicy``, so that weights move between them by
``load_state_dict(…, strict=False)``.
"""

from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn


class ActorPolicy(ActorCriticPolicy):
    """
    π_θ alone: no value network, and nothing that could read a value. ``forward`` and ``evaluate_actions`` return ``None``
    where an actor-critic policy returns values.

    :param args: SB3's policy arguments
    :param kwargs: SB3's policy arguments. In ``net_arch`` only ``pi`` (or a plain list) counts; ``share_features_extractor``
        has no meaning without a critic
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
        :param obs: s, shape (B, …)
        :param deterministic: take the mode instead of a sample
        :return: a, shape (B, …); no value; ln π_θ(a|s), shape (B,)
        """
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_probs = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), None, log_probs  # type: ignore[misc]

    def evaluate_actions(  # type: ignore[override]
        self, obs: PyTorchObs, actions: th.Tensor
    ) -> tuple[None, th.Tensor, th.Tensor | None]:
        """
        :param obs: s, shape (B, …)
        :param actions: a, shape (B, …)
        :return: no value; ln π_θ(a|s), shape (B,); the entropy of π_θ(·|s), shape (B,)
        """
        distribution = self.get_distribution(obs)
        return None, distribution.log_prob(actions), distribution.entropy()

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: s
        :raises AttributeError: always
        """
        raise AttributeError(f"{type(self).__name__} has no critic, so it predicts no values")


class ActorCnnPolicy(ActorPolicy, ActorCriticCnnPolicy):
    """:class:`ActorPolicy` for images, with SB3's ``NatureCNN``."""


class MultiInputActorPolicy(ActorPolicy, MultiInputActorCriticPolicy):
    """:class:`ActorPolicy` for Dict observations, with SB3's ``CombinedExtractor``."""


class SeparateActorCriticPolicy(ActorCriticPolicy):
    """
    π_θ with ``optimizer`` and V_ψ with ``value_optimizer``: θ and ψ have no parameter in common (slide "Value network").

    :param args: SB3's policy arguments
    :param share_features_extractor: whether actor and critic read the same features; only possible where the extractor has no
        parameters to learn, because two optimizers cannot both own them
    :param kwargs: SB3's policy arguments; ``optimizer_class`` and ``optimizer_kwargs`` hold for both optimizers
    :raises ValueError: if an extractor with parameters is to be shared
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
        To be overridden with :meth:`_build_mlp_extractor`, where the extractor is no ``MlpExtractor``.

        :return: ψ, all that V_ψ learns
        """
        modules = (self.vf_features_extractor, self.mlp_extractor.value_net, self.value_net)
        return [parameter for module in modules for parameter in module.parameters()]

    def actor_parameters(self) -> list[nn.Parameter]:
        """
        :return: θ, every other parameter
        """
        critic = set(self.critic_parameters())
        return [parameter for parameter in self.parameters() if parameter not in critic]


class SeparateActorCriticCnnPolicy(SeparateActorCriticPolicy, ActorCriticCnnPolicy):
    """:class:`SeparateActorCriticPolicy` for images, with SB3's ``NatureCNN``."""


class SeparateMultiInputActorCriticPolicy(SeparateActorCriticPolicy, MultiInputActorCriticPolicy):
    """:class:`SeparateActorCriticPolicy` for Dict observations, with SB3's ``CombinedExtractor``."""


def _make_optimizer(policy: ActorCriticPolicy, parameters: list[nn.Parameter], lr_schedule: Schedule) -> th.optim.Optimizer:
    return policy.optimizer_class(parameters, lr=lr_schedule(1), **policy.optimizer_kwargs)  # type: ignore[call-arg]
