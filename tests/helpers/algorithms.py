"""The algorithms under test: the one place where the tests list them."""

from typing import Any

import pytest

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.envs import scripted

ALGORITHMS: list[type[Any]] = [REINFORCE, BaselinePG, PPO]
#: Their update of θ is one step along the policy gradient
POLICY_GRADIENTS: list[type[Any]] = [REINFORCE, BaselinePG]
#: They have a critic
ACTOR_CRITICS: list[type[Any]] = [BaselinePG, PPO]
#: PPO once for each kind of rollout
VARIANTS: dict[str, type[Any]] = {
    "reinforce": REINFORCE,
    "baseline_pg": BaselinePG,
    "ppo_trajectories": PPO,
    "ppo_steps": PPO,
}

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
each_policy_gradient = pytest.mark.parametrize("algorithm", POLICY_GRADIENTS)
each_actor_critic = pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def assert_refused(
    algorithm: type[Any],
    message: str,
    error: type[Exception] = ValueError,
    policy: Any = "MlpPolicy",
    env: Any = None,
    **kwargs: Any,
) -> None:
    """Checks that the constructor raises an error with this message."""
    with pytest.raises(error, match=message):
        algorithm(policy, env or scripted([[3], [2]]), device="cpu", **kwargs)
