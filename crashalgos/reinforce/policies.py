"""The short names of REINFORCE's policies."""

from crashalgos.common.policies import ActorCnnPolicy, ActorPolicy, MultiInputActorPolicy

MlpPolicy = ActorPolicy
CnnPolicy = ActorCnnPolicy
MultiInputPolicy = MultiInputActorPolicy
