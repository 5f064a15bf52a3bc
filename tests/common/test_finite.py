"""An error names the array that holds NaN or ±∞."""

import math
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from crashalgos import PPO
from crashalgos.common.finite import not_finite
from tests.helpers.algorithms import each_algorithm
from tests.helpers.envs import of_spaces, scripted


class Spoilt(VecEnvWrapper):
    """
    An env of which one number is not finite, in env 1.

    :param observation: key of the observation to spoil, ``""`` where it is no dict; ``None``: the reward is spoilt
    :param value: the number
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


@each_algorithm
def test_an_observation_that_is_nan_is_named_with_its_key_and_env(algorithm):
    with pytest.raises(ValueError, match=r"observation\['vector'\]\[1, 0\] is nan \(env 1\)") as caught:
        learns(algorithm, Spoilt(of_spaces("dict", "discrete"), "vector", math.nan), "MultiInputPolicy")
    assert "Expected parameter" in str(caught.value.__cause__)  # torch's
    with pytest.raises(ValueError, match=r"observation\[1, 0\] is nan \(env 1\)"):
        learns(algorithm, Spoilt(scripted([[3], [2]]), "", math.nan))


@each_algorithm
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
    """An infinite observation breaks the parameters in the first step, because tanh makes its action finite."""
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


def test_a_loss_that_overflows_is_no_reason_to_stop():
    """The clipped gradient is finite, so training continues, as in SB3's PPO."""
    found = []
    for kind in (sb3.PPO, PPO):
        env = Spoilt(of_spaces("box", "discrete"), None, 1e19)
        model = kind("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu").learn(48)
        found.append([parameter.detach().clone() for parameter in model.policy.parameters()])
    assert all(th.equal(a, b) and a.isfinite().all() for a, b in zip(*found, strict=True))


def test_not_finite_by_hand():
    found = not_finite("x", {"a": np.array([1.0, math.inf, -math.inf]), "b": th.zeros(2), "c": np.arange(3)})
    assert found == ["x['a'][1] is inf, and 1 more"]
    assert not_finite("x", th.tensor(math.nan)) == ["x is nan"]
    assert not_finite("x", None) == []
