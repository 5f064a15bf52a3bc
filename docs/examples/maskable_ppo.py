"""PPO that never chooses an invalid action: sb3-contrib's MaskablePPO as a subclass."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy, MaskableMultiInputActorCriticPolicy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from crashalgos import PPO
from crashalgos.common.rollout_buffers import Column


class WithoutSDE:
    """Takes the argument ``use_sde``, which SB3 gives to every policy and sb3-contrib's policies do not know."""

    def __init__(self, *args: Any, use_sde: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class MlpPolicy(WithoutSDE, MaskableActorCriticPolicy):
    """Policy for observations that are vectors."""


class MultiInputPolicy(WithoutSDE, MaskableMultiInputActorCriticPolicy):
    """Policy for Dict observations."""


class MaskablePPO(PPO):
    """PPO for environments with a method ``action_masks``. The arguments are those of PPO."""

    policy: MaskableActorCriticPolicy  # type: ignore[assignment]
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MlpPolicy, "MultiInputPolicy": MultiInputPolicy}

    def _columns(self) -> dict[str, Column]:
        space = self.action_space
        masks_per_entry = 2 if isinstance(space, spaces.MultiBinary) else 1
        return {"action_masks": Column((masks_per_entry * spaces.flatdim(space),))}

    def _policy_inputs(self, env: VecEnv) -> dict[str, Any]:
        return {"action_masks": get_action_masks(env)}

    def _evaluate(self, batch: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        actions = self._actions_for_policy(batch.actions)
        values, log_probs, entropy = self.policy.evaluate_actions(batch.observations, actions, action_masks=batch.action_masks)
        return values.flatten(), log_probs, entropy

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks=action_masks)
