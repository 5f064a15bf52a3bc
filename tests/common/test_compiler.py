"""
``compile=True``: the forward pass, how many graphs are made, what is saved, and what stays as it was.

Most tests run without Inductor's C++ (see ``tests/helpers/compiling.py``); ``make statistics`` runs all of them with it.
"""

import gc
import io
import math
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from gymnasium import spaces
from scipy.stats import chisquare
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch.distributions import Distribution

from crashalgos import PPO
from crashalgos.common.compiler import Compiler, _draw_one
from tests.helpers.compiled_paths import NET, STEPS, compiled_forward, make, slow
from tests.helpers.compiling import (
    n_graphs,
    no_complaint,
    parameters,
    same,
    update,
)
from tests.helpers.envs import ACTION_SPACES, VECTOR, SpacesEnv

pytestmark = pytest.mark.usefixtures("without_code")


@pytest.mark.parametrize("action", ["discrete", *(slow(action) for action in ACTION_SPACES if action != "discrete")])
def test_the_forward_pass_agrees_with_eager(action):
    """The compiled forward pass gives the same ln π and V of the actions that it draws."""
    model = make("ppo", action, compile=True)
    with no_complaint():
        model.learn(1)
    buffer = model.rollout_buffer
    fresh = make("ppo", action)
    observations, actions = th.as_tensor(buffer.observations), th.as_tensor(buffer.actions, dtype=th.float32)
    with th.no_grad():
        values, log_probs, _ = fresh.policy.evaluate_actions(observations, fresh._actions_for_policy(actions))
    np.testing.assert_allclose(buffer.values.flatten(), values.flatten().numpy(), atol=1e-6)
    np.testing.assert_allclose(buffer.log_probs.flatten(), log_probs.numpy(), atol=1e-6)


@pytest.mark.parametrize("action", ["discrete", "box", slow("multi_discrete"), slow("multi_binary")])
def test_actions_are_drawn_from_the_policys_distribution(action):
    """The moments of 6,000 draws agree; more than 4.5 standard errors have a chance below 1e-5."""
    model = make("ppo", action, compile=True).learn(1)
    observation = th.zeros(3, 3)
    with th.no_grad():
        drawn = [
            np.concatenate([np.atleast_2d(act(observation)[0].numpy().reshape(3, -1)) for _ in range(2000)])
            for act in (compiled_forward(model), model.policy)
        ]
    assert model._compiler.enabled
    for moment in (1, 2):
        first, second = (sample.astype(float) ** moment for sample in drawn)
        error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / len(first))
        assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 4.5 * error + 1e-12).all()


def test_one_draw_of_a_multinomial():
    """Of 20,000 draws a p-value below 1e-4 has a chance of 1e-4, and the seed is fixed."""
    th.manual_seed(0)
    probabilities = th.tensor([0.5, 0.3, 0.0, 0.15, 0.05], dtype=th.float64)
    drawn = _draw_one(probabilities.expand(20_000, 5), 1, True)
    assert drawn.shape == (20_000, 1) and drawn.dtype == th.int64
    counts = np.bincount(drawn.flatten().numpy(), minlength=5)
    assert counts[2] == 0
    kept = probabilities > 0
    assert chisquare(counts[kept.numpy()], 20_000 * probabilities[kept].numpy()).pvalue > 1e-4


def test_neither_schedules_nor_coefficients_nor_another_instance_make_a_graph():
    def learn(**settings):
        make("ppo, values clipped", compile=True, **settings).learn(300)

    with no_complaint():
        learn(learning_rate=1e-3)
        before = n_graphs()
        schedule = LinearSchedule(0.3, 0.1, 1.0)
        learn(learning_rate=schedule, clip_range=schedule, clip_range_vf=schedule, ent_coef=schedule, vf_coef=0.3, seed=1)
    assert n_graphs() == before


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_a_truncated_minibatch_makes_one_graph_more():
    policy_kwargs = dict(net_arch=[9])  # no other test has it
    make("ppo", policy_kwargs=policy_kwargs, compile=True).learn(200)
    before = n_graphs()
    make("ppo", policy_kwargs=policy_kwargs, compile=True, batch_size=36).learn(300)
    assert n_graphs() - before == 2  # 36 + 36 + 24 samples: a graph for 36, and one for all other sizes
    make("ppo", policy_kwargs=policy_kwargs, compile=True, batch_size=36, n_steps=20).learn(300)
    assert n_graphs() - before == 2  # 36 + 24


def _times(policy: Any, factor: int, x: th.Tensor) -> dict[str, th.Tensor]:
    return {"product": factor * x}


def test_one_function_has_a_graph_for_each_of_many_models():
    """By PyTorch's default the ninth graph would run eagerly; sweeps make more in one process."""
    policy, compiler = make("ppo").policy, Compiler(True)
    before = n_graphs()
    for factor in range(2, 22):
        found = compiler.session(_times, policy, factor, name=f"times {factor}")(th.ones(3))
        assert found is not None and found["product"].tolist() == [factor] * 3
    assert compiler.enabled and n_graphs() - before == 20


@pytest.mark.parametrize("path", [slow("ppo, trajectories"), "reinforce", slow("baseline_pg")])
def test_varying_rollouts_make_no_graph_more(path):
    model = make(path, compile=True)
    with no_complaint():
        model.learn(60)
        before = n_graphs()
        sizes = set()
        for _ in range(6):
            model.learn(1)
            sizes.add(model.rollout_buffer.size())
    assert n_graphs() == before
    assert len(sizes) > 3


def test_an_image_and_what_only_looks_like_one_have_graphs_of_their_own():
    """The policy divides an image by 255, but not another space of the same shape and dtype."""
    for high in (255, 100):
        space = spaces.Box(0, high, (36, 36, 3), dtype=np.uint8)
        env = make_vec_env(lambda space=space: SpacesEnv(space, ACTION_SPACES["discrete"]), 3)
        arguments = dict(STEPS, policy_kwargs=dict(NET, features_extractor_class=FlattenExtractor), device="cpu", seed=0)
        eager, compiled = (PPO("MlpPolicy", env, compile=compile, **arguments) for compile in (False, True))
        observations = th.as_tensor(np.stack([space.sample() for _ in range(3)]))
        compiled.learn(1)
        compiled.set_parameters(eager.get_parameters())
        compiled.policy.set_training_mode(False)
        with th.no_grad():
            values = compiled_forward(compiled)(observations)[1]
            th.testing.assert_close(values, eager.policy.predict_values(observations))


def saved(model: Any) -> io.BytesIO:
    file = io.BytesIO()
    model.save(file)
    return file


def loaded(model: Any, file: io.BytesIO, **settings: Any) -> Any:
    file.seek(0)
    np.random.seed(3)
    th.manual_seed(3)
    return type(model).load(file, env=make("ppo").get_env(), device="cpu", **settings)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [("ppo", False, True), ("ppo", True, False), ("ppo", True, True), ("reinforce", True, True), ("baseline_pg", True, True)]
    + [
        pytest.param(path, *pair, marks=pytest.mark.slow)
        for path in ("reinforce", "baseline_pg")
        for pair in ((False, True), (True, False))
    ],
)
def test_a_zip_goes_in_every_direction(path, before, after):
    model = make(path, compile=before).learn(100)
    file = saved(model)
    first = loaded(model, file, compile=after)
    assert same(first, model)
    group = first.policy.optimizer.param_groups[0]
    assert group["foreach"] is None and group["capturable"] is False and group["fused"] is None
    # It trains on as an eager one does, up to rounding
    other = loaded(model, file, compile=False)
    for each in (first, other):
        each.set_logger(model.logger)
        each.rollout_buffer = model.rollout_buffer
        each._current_progress_remaining = 0.5
        update(each)
    assert first._compiler.enabled is after
    for a, b in zip(parameters(first), parameters(other), strict=True):
        th.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_nothing_of_it_is_saved():
    model = make("ppo", compile=True).learn(100)
    data, _, _ = load_from_zip_file(saved(model))
    assert data["compile"] is True
    assert not {"_compiler", "_compiled_forward", "_rollout"} & data.keys()


def test_a_model_is_gone_when_nobody_needs_it():
    model = make("ppo", compile=True).learn(100)
    policy = weakref.ref(model.policy)
    del model
    gc.collect()
    assert policy() is None


def test_the_process_is_as_before():
    def settings():
        config = torch._dynamo.config.get_config_copy(), torch._inductor.config.get_config_copy()
        return (
            Distribution._validate_args,
            th.get_num_threads(),
            th.get_default_dtype(),
            th.is_grad_enabled(),
            config,
            dict(os.environ),
        )

    before = settings()
    make("ppo", "multi_discrete", compile=True).learn(100)
    make("reinforce", compile=True).learn(100)
    assert settings() == before


def test_models_that_train_in_threads_leave_the_process_as_before():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: make("ppo", seed=seed).learn(400), range(4)))
    assert Distribution._validate_args


class Remembers(FlattenExtractor):
    """Keeps what it has seen: Dynamo writes the attribute after the graph has run."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.seen = observations * 2
        return super().forward(observations)


def test_what_a_policy_keeps_is_kept():
    class Watches(BaseCallback):
        def _on_step(self) -> bool:
            seen.append(bool(th.equal(self.model.policy.features_extractor.seen, 2 * self.locals["obs_tensor"])))
            return True

    seen: list[bool] = []
    model = make("ppo", policy_kwargs=dict(NET, features_extractor_class=Remembers), compile=True)
    with no_complaint():
        model.learn(60, callback=Watches())
    assert len(seen) >= 20 and all(seen)


def test_observations_whose_dtype_changes():
    """A graph reads only the dtype it was made for; an env may reset to float64 and step to float32."""
    model = make("ppo", compile=True)
    model.policy.set_training_mode(False)
    forward = compiled_forward(model)
    observations = np.linspace(-1, 1, 9).reshape(3, 3)
    with th.no_grad():
        for given in (observations, observations.astype(np.float32), observations.copy(order="F"), observations):
            values = forward(th.as_tensor(given))[1]
            th.testing.assert_close(values, model.policy.predict_values(th.as_tensor(observations)), rtol=1e-5, atol=1e-6)


def test_keys_whose_order_changes():
    env = make_vec_env(lambda: SpacesEnv(spaces.Dict({"a": VECTOR, "b": VECTOR}), ACTION_SPACES["discrete"]), 3)
    model = PPO("MultiInputPolicy", env, policy_kwargs=NET, device="cpu", compile=True, **STEPS)
    model.policy.set_training_mode(False)
    forward = compiled_forward(model)
    with th.no_grad():
        for step in range(3):
            a, b = th.full((3, 3), float(step)), th.full((3, 3), -float(step))
            given = {"a": a, "b": b} if step < 2 else {"b": b, "a": a}
            th.testing.assert_close(forward(given)[1], model.policy.predict_values({"a": a, "b": b}))


def test_callbacks_keep_what_they_saw():
    class Keeps(BaseCallback):
        def _on_step(self) -> bool:
            kept.extend((self.locals[name], self.locals[name].clone()) for name in ("values", "log_probs"))
            return True

    kept: list[tuple[th.Tensor, th.Tensor]] = []
    make("ppo", compile=True).learn(100, callback=Keeps())
    assert kept and all(th.equal(value, then) for value, then in kept)


def test_what_is_not_finite_is_named():
    model = make("ppo", compile=True).learn(100)
    with th.no_grad():
        model.policy.action_net.bias[1] = math.nan
    with pytest.raises(ValueError, match=r"is finite: .*parameter action_net\.bias\[1\] is nan"):
        model.learn(1)
