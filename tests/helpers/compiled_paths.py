"""The paths through the compiled gradient step, and the check that an update is the eager one up to rounding."""

from typing import Any

import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from stable_baselines3.common.torch_layers import FlattenExtractor

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.on_policy_algorithm import _forward
from tests.helpers.compiling import (
    COMPLAINT,
    no_complaint,
    parameters,
    same,
    twins,
    update,
)
from tests.helpers.envs import of_spaces


class Frozen(FlattenExtractor):
    """Has a parameter that does not learn."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space)
        self.scale = th.nn.Parameter(th.tensor(0.5), requires_grad=False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.scale * super().forward(observations)


NET: dict[str, Any] = dict(net_arch=[8])
STEPS: dict[str, Any] = dict(n_steps=32, batch_size=32, n_epochs=2)
TRAJECTORIES: dict[str, Any] = dict(n_trajectories=7)
#: The paths through the gradient step: algorithm, policy, observation space, settings
PATHS: dict[str, tuple[type[Any], str, str, dict[str, Any]]] = {
    "ppo": (PPO, "MlpPolicy", "box", STEPS),
    "ppo, truncated minibatch": (PPO, "MlpPolicy", "box", dict(STEPS, batch_size=40)),
    "ppo, minibatches in blocks": (PPO, "MlpPolicy", "box", dict(STEPS, n_steps=64, batch_size=64)),
    "ppo, advantages as they are": (PPO, "MlpPolicy", "box", dict(STEPS, normalize_advantage=False)),
    "ppo, parts of a block": (PPO, "MlpPolicy", "box", dict(STEPS, n_steps=60, batch_size=64)),
    "ppo, frozen extractor": (PPO, "MlpPolicy", "box", dict(STEPS, policy_kwargs=dict(NET, features_extractor_class=Frozen))),
    "ppo, trajectories": (PPO, "MlpPolicy", "box", dict(TRAJECTORIES, batch_size=16, n_epochs=2)),
    "ppo, target KL": (PPO, "MlpPolicy", "box", dict(STEPS, target_kl=0.5)),
    "ppo, values clipped": (PPO, "MlpPolicy", "box", dict(STEPS, clip_range_vf=0.1, ent_coef=0.1, max_grad_norm=None)),
    "ppo, norm clipped": (PPO, "MlpPolicy", "box", dict(STEPS, max_grad_norm=0.01)),
    "ppo, SGD": (PPO, "MlpPolicy", "box", dict(STEPS, policy_kwargs=dict(NET, optimizer_class=th.optim.SGD))),
    "ppo, AdamW": (
        PPO, "MlpPolicy", "box",
        dict(STEPS, policy_kwargs=dict(NET, optimizer_class=th.optim.AdamW, optimizer_kwargs=dict(eps=1e-5, amsgrad=True))),
    ),
    "ppo, observations Discrete": (PPO, "MlpPolicy", "discrete", STEPS),
    "ppo, observations MultiDiscrete": (PPO, "MlpPolicy", "multi_discrete", STEPS),
    "ppo, dict": (
        PPO, "MultiInputPolicy", "dict", dict(STEPS, policy_kwargs=dict(NET, features_extractor_kwargs=dict(cnn_output_dim=8)))
    ),
    "ppo, images": (
        PPO, "CnnPolicy", "image", dict(STEPS, policy_kwargs=dict(NET, features_extractor_kwargs=dict(features_dim=8)))
    ),
    "reinforce": (REINFORCE, "MlpPolicy", "box", dict(TRAJECTORIES, ent_coef=0.1)),
    "reinforce, chunks": (REINFORCE, "MlpPolicy", "box", dict(TRAJECTORIES, batch_size=5, max_grad_norm=0.5)),
    "baseline_pg": (BaselinePG, "MlpPolicy", "box", dict(TRAJECTORIES, n_value_epochs=2, value_batch_size=8, gae_lambda=0.9)),
}  # fmt: skip
#: Those whose update is left to the slow tests: they take long, or differ little from another
SLOW_PATHS = (
    "ppo, truncated minibatch",
    "ppo, parts of a block",
    "ppo, advantages as they are",
    "ppo, trajectories",
    "ppo, AdamW",
    "ppo, observations Discrete",
    "ppo, observations MultiDiscrete",
    "ppo, dict",
)


def slow(name: str) -> Any:
    """Marks a parameter as slow."""
    return pytest.param(name, marks=pytest.mark.slow)


def make(path: str, action: str = "discrete", **more: Any) -> Any:
    """Makes the model of a path."""
    algorithm, policy, observation, settings = PATHS[path]
    arguments: dict[str, Any] = dict(policy_kwargs=NET, seed=0, device="cpu") | settings | more
    return algorithm(policy, of_spaces(observation, action), **arguments)


def compiled_forward(model: Any) -> Any:
    """Gives the compiled forward pass, with the policy's own signature."""
    session = model._compiler.session(_forward, model.policy, name="the policy", static_size=model.n_envs)

    def forward(observations: th.Tensor) -> tuple[th.Tensor, ...]:
        found = session(observations)
        return found["actions"], found["values"], found["log_probs"]

    return forward


def check_that_one_update_agrees(path: str, action: str, device: str = "cpu") -> None:
    """Checks that a compiled and an eager update give the same figures and parameters, up to rounding."""
    eager, compiled = twins(lambda: make(path, action, device=device))
    before = parameters(eager)
    with no_complaint():
        figures, expected = update(compiled), update(eager)
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    moved = 0.0
    for now, other, then in zip(parameters(compiled), parameters(eager), before, strict=True):
        # A float32 of the size of these parameters is exact to 1e-7
        th.testing.assert_close(now, other, rtol=1e-5, atol=1e-6)
        moved = max(moved, float((other - then).abs().max()))
    assert moved > 1e-4
    assert compiled._compiler.enabled and not eager._compiler.enabled


def check_that_it_falls_back(make_model, because: str) -> None:
    """Checks that compilation fails with one warning that says why, and that the weights are the eager ones."""
    eager = make_model(compile=False).learn(200)
    with pytest.warns(UserWarning, match=COMPLAINT) as warned:
        model = make_model(compile=True).learn(200)
    complaints = [str(warning.message) for warning in warned if COMPLAINT in str(warning.message)]
    assert len(complaints) == 1 and because in complaints[0] and "\n" not in complaints[0]
    assert same(model, eager)
