"""The short names of BaselinePG's policies."""

from crashalgos.common.policies import (
    SeparateActorCriticCnnPolicy,
    SeparateActorCriticPolicy,
    SeparateMultiInputActorCriticPolicy,
)

MlpPolicy = SeparateActorCriticPolicy
CnnPolicy = SeparateActorCriticCnnPolicy
MultiInputPolicy = SeparateMultiInputActorCriticPolicy
