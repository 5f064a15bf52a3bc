"""The worked examples of docs/add_an_algorithm.md: a penalty in PPO's loss, and PPO with action masks."""

import ast
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import torch as th
from gymnasium import spaces
from sb3_contrib.common.envs import (
    InvalidActionEnvDiscrete,
    InvalidActionEnvMultiBinary,
    InvalidActionEnvMultiDiscrete,
)
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from crashalgos import PPO
from docs.examples.kl_penalty_ppo import KLPenaltyPPO
from docs.examples.maskable_ppo import MaskablePPO
from tests.helpers.compiling import no_complaint, parameters, twins, update, without_code
from tests.helpers.paths import ROOT
from tests.helpers.trace import differences, record, trace

EXAMPLES = ROOT / "docs" / "examples"
PAGE = ROOT / "docs" / "add_an_algorithm.md"
ROLLOUTS: list[dict[str, Any]] = [dict(n_steps=32), dict(n_trajectories=7)]
SMALL: dict[str, Any] = dict(batch_size=16, n_epochs=2, learning_rate=0.01, policy_kwargs=dict(net_arch=[8]), device="cpu")


@pytest.mark.parametrize("name", ["kl_penalty_ppo.py", "maskable_ppo.py"])
def test_the_page_shows_the_example(name: str) -> None:
    assert f"```python\n{(EXAMPLES / name).read_text(encoding='utf-8')}```" in PAGE.read_text(encoding="utf-8")


# ----------------------------------------------------------------- KL penalty


def cartpole(n_envs: int = 2) -> DummyVecEnv:
    return make_vec_env("CartPole-v1", n_envs)


def penalized(kl_coef: float | None, **settings: Any) -> PPO:
    arguments = SMALL | settings
    if kl_coef is None:
        return PPO("MlpPolicy", cartpole(), seed=0, **arguments).learn(200)
    return KLPenaltyPPO("MlpPolicy", cartpole(), seed=0, kl_coef=kl_coef, **arguments).learn(200)


@pytest.mark.parametrize("rollout", ROLLOUTS, ids=str)
def test_a_coefficient_of_zero_gives_the_bits_of_ppo(rollout: dict[str, Any]) -> None:
    ppo, penalty, none = (parameters(penalized(kl_coef, **rollout)) for kl_coef in (None, 10.0, 0.0))
    assert all(map(th.equal, ppo, none))
    assert not all(map(th.equal, ppo, penalty))


def test_the_gradient_of_the_penalty() -> None:
    """Against the formula β · mean(ρ − 1 − ln ρ) written out here, at a θ where ρ is not 1."""
    model = penalized(10.0, n_steps=32)
    batch = next(model.rollout_buffer.get(None))
    coefficients = dict(clip_range=0.2, clip_range_vf=None, ent_coef=0.01, vf_coef=0.5)
    theta = list(model.policy.parameters())
    with_penalty, _ = model._loss(batch, kl_coef=3.0, **coefficients)
    without, _ = model._loss(batch, kl_coef=0.0, **coefficients)
    _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions.long().flatten())
    log_ratios = log_probs - batch.old_log_prob
    assert log_ratios.abs().max() > 1e-3
    expected = 3.0 * (log_ratios.exp() - 1 - log_ratios).mean()
    gradients = [th.autograd.grad(loss, theta, allow_unused=True) for loss in (with_penalty, without, expected)]
    for total, ppo, penalty in zip(*gradients, strict=True):
        th.testing.assert_close(total, ppo if penalty is None else ppo + penalty, rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------- action masks


class DictObservation(gym.ObservationWrapper):
    """The observation in a dictionary."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"state": env.observation_space})

    def observation(self, observation: Any) -> dict[str, Any]:
        return {"state": observation}

    def action_masks(self) -> list[bool]:
        return self.unwrapped.action_masks()  # type: ignore[attr-defined]


MASKED = {
    "discrete": lambda: InvalidActionEnvDiscrete(dim=8, n_invalid_actions=4, ep_length=13),
    "multi_discrete": lambda: InvalidActionEnvMultiDiscrete(dims=[3, 4], n_invalid_actions=3, ep_length=13),
    "multi_binary": lambda: InvalidActionEnvMultiBinary(dims=3, n_invalid_actions=2, ep_length=13),
    "dict": lambda: DictObservation(InvalidActionEnvDiscrete(dim=8, n_invalid_actions=4, ep_length=13)),
}


def masked_envs(name: str, n_envs: int) -> DummyVecEnv:
    """Environments whose random numbers start anew; some of them come from Python's and numpy's global generators."""
    random.seed(0)
    np.random.seed(0)
    env = DummyVecEnv([lambda: Monitor(MASKED[name]()) for _ in range(n_envs)])
    for index, each in enumerate(env.envs):
        each.action_space.seed(index)
    return env


def masked(algorithm: Any, name: str, n_envs: int = 3, **settings: Any) -> Any:
    policy = "MultiInputPolicy" if name == "dict" else "MlpPolicy"
    return algorithm(policy, masked_envs(name, n_envs), seed=0, **SMALL, **settings)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("name", MASKED)
def test_masks_give_the_bits_of_sb3_contrib(name: str, n_envs: int) -> None:
    """Weights, optimizer, buffer, random states and logged figures of three updates, one of a truncated minibatch."""
    found = []
    for algorithm in (sb3_contrib.MaskablePPO, MaskablePPO):
        model = masked(algorithm, name, n_envs, n_steps=25)
        recorder = record(model)
        model.learn(3 * 25 * n_envs)
        found.append(trace(model, recorder) | {"rollout/action_masks": model.rollout_buffer.action_masks})
    assert differences(*found) == []


def is_valid(action: np.ndarray, mask: np.ndarray, space: spaces.Space) -> bool:
    """Whether every part of the action is one that the mask allows."""
    sizes = {"Discrete": lambda: [space.n], "MultiDiscrete": lambda: space.nvec, "MultiBinary": lambda: [2] * space.n}
    starts = np.cumsum([0, *sizes[type(space).__name__]()])[:-1]
    return bool(np.all(mask[starts + action.astype(int)] == 1))


@pytest.mark.parametrize("name", MASKED)
def test_masks_of_whole_trajectories(name: str) -> None:
    """Every step keeps the mask that it was drawn with, in the order of the trajectories."""
    model = masked(MaskablePPO, name, n_trajectories=7, max_trajectory_steps=9)
    model.learn(1)
    buffer = model.rollout_buffer
    assert buffer.action_masks.shape == (7 * 9, 6 if name == "multi_binary" else 7 if name == "multi_discrete" else 8)
    assert buffer.action_masks.dtype == np.float32 and 0 < buffer.action_masks.mean() < 1
    assert all(
        is_valid(action, mask, model.action_space) for action, mask in zip(buffer.actions, buffer.action_masks, strict=True)
    )
    # Of the policy that drew them, which a model of the same seed still is
    policy = masked(MaskablePPO, name, n_trajectories=7).policy
    (batch,) = buffer.micro_batches()
    actions = model._actions_for_policy(batch.actions)
    _, log_probs, _ = policy.evaluate_actions(batch.observations, actions, action_masks=batch.action_masks)
    th.testing.assert_close(log_probs, batch.old_log_prob, rtol=1e-5, atol=1e-6)
    wrong, *_ = policy.evaluate_actions(batch.observations, actions, action_masks=batch.action_masks.roll(1, 0))[1:]
    assert not th.allclose(wrong, batch.old_log_prob, rtol=1e-3)


@pytest.mark.parametrize("rollout", ROLLOUTS, ids=str)
@pytest.mark.parametrize("name", MASKED)
def test_compiled_masks_give_the_same_update(name: str, rollout: dict[str, Any]) -> None:
    """Within float32's rounding, from one state and one rollout, with nothing done eagerly; then the model learns on."""
    with without_code(), no_complaint():
        eager, compiled = twins(lambda: masked(MaskablePPO, name, **rollout))
        figures, expected = update(compiled), update(eager)
        assert figures.keys() == expected.keys()
        for figure, value in expected.items():
            assert figures[figure] == pytest.approx(value, rel=1e-4, abs=1e-5), figure
        for ours, theirs in zip(parameters(compiled), parameters(eager), strict=True):
            th.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        compiled.learn(1)
        buffer = compiled.rollout_buffer
        actions, masks = (array.reshape(-1, array.shape[-1]) for array in (buffer.actions, buffer.action_masks))
        assert all(is_valid(action, mask, compiled.action_space) for action, mask in zip(actions, masks, strict=True))


def test_predict_takes_masks() -> None:
    model = masked(MaskablePPO, "discrete")
    mask = np.arange(8) == 5
    assert model.predict(np.array(0), action_masks=mask)[0] == 5


def test_a_mask_of_the_wrong_shape_is_named() -> None:
    class Wrong(MaskablePPO):
        def _policy_inputs(self, env: Any) -> dict[str, Any]:
            return {"action_masks": super()._policy_inputs(env)["action_masks"][:, 1:]}

    with pytest.raises(
        ValueError, match=r"column 'action_masks' must have shape \(3, 8\) \(n_envs, …\) in a step, got \(3, 7\)"
    ):
        masked(Wrong, "discrete").learn(1)


def test_a_mask_under_another_name_is_named() -> None:
    class Wrong(MaskablePPO):
        def _policy_inputs(self, env: Any) -> dict[str, Any]:
            return {"masks": super()._policy_inputs(env)["action_masks"]}

    with pytest.raises(ValueError, match=r"column 'masks' must be one that is declared, \['action_masks'\]"):
        masked(Wrong, "discrete").learn(1)


def test_a_buffer_that_holds_no_masks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`rollout_buffer_class` must be None for MaskablePPO.*\['action_masks'\]"):
        masked(MaskablePPO, "discrete", rollout_buffer_class=type("Mine", (RolloutBuffer,), {}))


def test_the_example_is_short() -> None:
    """At most 40 lines of code: imports, docstrings, blank lines and the signature of SB3's ``predict`` are left out."""
    source = Path(EXAMPLES / "maskable_ppo.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))  # type: ignore[operator]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            left_out |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))  # type: ignore[operator]
        if isinstance(node, ast.FunctionDef) and node.name == "predict":
            left_out |= set(range(node.lineno, node.body[0].lineno))
    code = [line for number, line in enumerate(source.splitlines(), 1) if line.strip() and number not in left_out]
    assert len(code) <= 40
