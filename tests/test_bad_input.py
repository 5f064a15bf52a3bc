"""What is not finite is named; what SB3's PPO rejects is rejected with the same type; what is passed in stays as it is."""

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.checks import not_finite
from tests.helpers.envs import VECTOR, SpacesEnv, of_spaces, scripted

ALL = [REINFORCE, BaselinePG, PPO]


class Spoilt(VecEnvWrapper):
    """
    An env of which one figure is not finite.

    :param venv: the env
    :param observation: key of the observation to spoil, ``""`` where it is no dict; ``None``: the reward is spoilt
    :param value: what stands there instead, in env 1
    """

    def __init__(self, venv: DummyVecEnv, observation: str | None, value: float) -> None:
        super().__init__(venv)
        self.key, self.value = observation, value

    def _spoil(self, obs: Any) -> Any:
        if self.key is not None:
            (obs[self.key] if self.key else obs)[1, 0] = self.value
        return obs

    def reset(self) -> Any:
        return self._spoil(self.venv.reset())

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        if self.key is None:
            rewards[1] = self.value
        return self._spoil(obs), rewards, dones, infos


def learns(algorithm, env, policy="MlpPolicy", **kwargs):
    sample = dict(n_trajectories=3) if algorithm is not sb3.PPO else dict(n_steps=16)
    return algorithm(policy, env, seed=0, device="cpu", **{**sample, **kwargs}).learn(200)


@pytest.mark.parametrize("algorithm", ALL)
def test_an_observation_that_is_nan_is_named_with_its_key_and_env(algorithm):
    with pytest.raises(ValueError, match=r"observation\['vector'\]\[1, 0\] is nan \(env 1\)") as caught:
        learns(algorithm, Spoilt(of_spaces("dict", "discrete"), "vector", math.nan), "MultiInputPolicy")
    assert "Expected parameter" in str(caught.value.__cause__)  # torch's
    with pytest.raises(ValueError, match=r"observation\[1, 0\] is nan \(env 1\)"):
        learns(algorithm, Spoilt(scripted([[3], [2]]), "", math.nan))


@pytest.mark.parametrize("algorithm", ALL)
def test_a_parameter_that_is_nan_is_named(algorithm):
    model = algorithm("MlpPolicy", scripted([[3]]), n_trajectories=2, device="cpu")
    with th.no_grad():
        model.policy.action_net.bias[1] = math.nan
    with pytest.raises(ValueError, match=r"is finite: parameter action_net\.bias\[1\] is nan$"):
        model.learn(1)


@pytest.mark.parametrize("sample", [dict(n_steps=32, n_trajectories=None), dict(n_trajectories=3)])
@pytest.mark.parametrize(
    ("spoilt", "named"),
    [(None, r"rollout_buffer\.rewards\["), ("", r"observation\[1, 0\] is inf \(env 1\); rollout_buffer\.observations\[")],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_spoils_an_update_is_named(sample, spoilt, named):
    """tanh makes a finite action of an infinite observation: the parameters break in the first minibatch's step."""
    with pytest.raises(ValueError, match=named):
        learns(PPO, Spoilt(scripted([[5], [4]]), spoilt, math.inf), batch_size=8, **sample)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_sb3_raises_the_same_type():
    for spoilt in ("", None):
        with pytest.raises(ValueError):
            learns(sb3.PPO, Spoilt(scripted([[5], [4]]), spoilt, math.nan))


def test_another_value_error_of_the_policy_stays():
    class Failing(CombinedExtractor):
        def forward(self, observations):
            raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        learns(PPO, of_spaces("dict", "box"), "MultiInputPolicy", policy_kwargs=dict(features_extractor_class=Failing))


def test_not_finite_by_hand():
    found = not_finite("x", {"a": np.array([1.0, math.inf, -math.inf]), "b": th.zeros(2), "c": np.arange(3)})
    assert found == ["x['a'][1] is inf, and 1 more"]
    assert not_finite("x", th.tensor(math.nan)) == ["x is nan"]
    assert not_finite("x", None) == []


class Unsupported(gym.Env):
    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space


NO_NORMALISATION = dict(normalize_advantage=False)
WRONG_TYPES = ("3", None, [1], math.nan)
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


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.filterwarnings("ignore")
def test_nothing_passed_in_is_changed(algorithm, tmp_path):
    space = spaces.Dict({"image": spaces.Box(0, 1, (3, 36, 36), dtype=np.float32), "vector": VECTOR})
    env = make_vec_env(lambda: SpacesEnv(copy.deepcopy(space), spaces.Discrete(2)), 2)
    policy_kwargs = dict(
        net_arch=dict(pi=[8, 4], vf=[8]),
        optimizer_kwargs=dict(weight_decay=0.1),
        features_extractor_class=CombinedExtractor,
        features_extractor_kwargs=dict(cnn_output_dim=8),
        normalize_images=False,
    )
    passed: dict[str, Any] = dict(policy_kwargs=policy_kwargs)
    if algorithm is PPO:
        passed |= dict(n_trajectories=None, n_steps=8, rollout_buffer_kwargs={}, batch_size=8)
    before = copy.deepcopy(passed)
    model = algorithm("MultiInputPolicy", env, device="cpu", **{"n_trajectories": 2, **passed}).learn(20)
    assert passed == before
    model.save(tmp_path / "model")
    algorithm.load(tmp_path / "model", policy_kwargs=policy_kwargs, env=env).learn(20)
    assert passed == before
    # Yet the policy has what SB3 adds to it
    assert model.policy.features_extractor_kwargs == dict(cnn_output_dim=8, normalized_image=True)


def test_a_loss_that_overflows_is_no_reason_to_stop():
    """The clipped gradient is finite, and so SB3's PPO goes on."""
    found = []
    for kind in (sb3.PPO, PPO):
        env = Spoilt(of_spaces("box", "discrete"), None, 1e19)
        model = kind("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu").learn(48)
        found.append([parameter.detach().clone() for parameter in model.policy.parameters()])
    assert all(th.equal(a, b) and a.isfinite().all() for a, b in zip(*found, strict=True))
