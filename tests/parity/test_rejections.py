"""Arguments that SB3's PPO rejects are rejected by ours, with the same type of error."""

import math

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium import spaces

from crashalgos import PPO
from tests.helpers.envs import VECTOR, of_spaces


class Unsupported(gym.Env):
    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space


NO_NORMALISATION = dict(normalize_advantage=False)
REJECTED = [
    *({"learning_rate": value} for value in ("3", None, [1], -1, math.nan)),
    *({"clip_range": value} for value in ("3", None, [1])),
    *({"clip_range_vf": value} for value in ("3", [1], -1, 0, 0.0, math.nan)),
    *({name: value} for name in ("n_steps", "batch_size") for value in ("3", None, [1], 0, -1, math.nan)),
    dict(n_steps=2.5),
    dict(n_steps=1, env=of_spaces("box", "discrete", n_envs=1)),
    dict(batch_size=1),
    dict(batch_size=0, **NO_NORMALISATION),
    dict(n_steps=-1, **NO_NORMALISATION),
    *(
        dict(policy_kwargs=value)
        for value in (
            3,
            dict(nonsense=1),
            dict(net_arch=3),
            dict(net_arch="a"),
            dict(activation_fn=3),
            dict(squash_output=True),
            dict(optimizer_class=3),
            dict(optimizer_kwargs=dict(nonsense=1)),
            dict(features_extractor_class=3),
            dict(features_extractor_kwargs=dict(nonsense=1)),
        )
    ),
    *(dict(rollout_buffer_class=value) for value in (3, int, "RolloutBuffer")),
    *(dict(rollout_buffer_kwargs=value) for value in (3, dict(nonsense=1))),
    *(dict(seed=value) for value in ("3", -1, [1])),
    *(dict(stats_window_size=value) for value in ("3", -1, 2.5)),
    dict(device="nonsense"),
    dict(use_sde=True),
    dict(use_sde=True, sde_sample_freq="3", env=of_spaces("box", "box")),
    *(dict(policy=value) for value in ("NoPolicy", 3, None, "CnnPolicy", "MultiInputPolicy")),
    *(dict(env=value) for value in ("NoEnv-v0", 3, None)),
    dict(env=of_spaces("dict", "discrete")),
    dict(env=Unsupported(VECTOR, spaces.Tuple((spaces.Discrete(2),)))),
    dict(env=Unsupported(VECTOR, spaces.MultiBinary([2, 2]))),
    dict(env=Unsupported(VECTOR, spaces.Box(-np.inf, np.inf, (2,)))),
    dict(env=Unsupported(spaces.Tuple((VECTOR,)), spaces.Discrete(2))),
    dict(nonsense=1),
]


@pytest.mark.parametrize("kwargs", REJECTED, ids=lambda kwargs: ", ".join(f"{name}={kwargs[name]!r:.30}" for name in kwargs))
@pytest.mark.filterwarnings("ignore")
def test_what_sb3s_ppo_rejects_is_rejected_with_the_same_type(kwargs):
    raised = []
    for kind in (sb3.PPO, PPO):
        arguments = dict(policy="MlpPolicy", env=of_spaces("box", "discrete"), n_steps=8, batch_size=8, device="cpu")
        with pytest.raises(Exception) as caught:
            kind(**{**arguments, **kwargs}).learn(1)
        raised.append(caught.type)
    assert raised[0] is raised[1]
