"""
``compile=True`` is another rounding of the same mathematics, falls back where it cannot be, and leaves nothing behind.

Most of it runs without Inductor's C++ (see ``compiling.py``); ``make statistics`` runs all of it with.
"""

import copy
import gc
import io
import math
import os
import weakref
from typing import Any

import numpy as np
import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch.distributions import Distribution

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.compiler import Compiler
from crashalgos.common.on_policy_algorithm import _forward
from tests.helpers.compiling import (
    COMPLAINT,
    forget_graphs,
    n_graphs,
    no_complaint,
    parameters,
    same,
    twins,
    update,
    with_code,
    without_code,
)
from tests.helpers.envs import ACTION_SPACES, of_spaces, scripted


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
SLOW = (
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
    return pytest.param(name, marks=pytest.mark.slow)


def make(path: str, action: str = "discrete", **more: Any) -> Any:
    algorithm, policy, observation, settings = PATHS[path]
    arguments: dict[str, Any] = dict(policy_kwargs=NET, seed=0, device="cpu") | settings | more
    return algorithm(policy, of_spaces(observation, action), **arguments)


def compiled_forward(model: Any) -> Any:
    """:return: the compiled forward pass, with the policy's own signature"""
    session = model._compiler.session(_forward, model.policy, name="the policy", static_size=model.n_envs)

    def forward(observations: th.Tensor) -> tuple[th.Tensor, ...]:
        found = session((observations, {}))
        return found["actions"], found["values"], found["log_probs"]

    return forward


@pytest.fixture(scope="module", autouse=True)
def _without_code():
    with without_code():
        yield


def check_that_one_update_agrees(path: str, action: str, device: str = "cpu") -> None:
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


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("path", [slow(path) if path in SLOW else path for path in PATHS])
def test_one_update_agrees_with_eager(path):
    check_that_one_update_agrees(path, "discrete")


@pytest.mark.parametrize("action", [action for action in ACTION_SPACES if action != "discrete"])
@pytest.mark.parametrize("path", ["ppo", slow("reinforce"), slow("baseline_pg")])
def test_one_update_agrees_with_eager_on_every_action_space(path, action):
    check_that_one_update_agrees(path, action)


def has_cpp_compiler() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def test_one_update_in_cpp_agrees_with_eager():
    """Where there is no compiler, that is said and everything runs eagerly."""
    with with_code():
        if has_cpp_compiler():
            check_that_one_update_agrees("ppo", "discrete")
        else:
            check_that_it_falls_back(lambda compile: make("ppo", compile=compile), "could not be compiled")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    ("path", "action"),
    [*((path, "discrete") for path in PATHS)]
    + [(path, action) for path in ("ppo", "reinforce", "baseline_pg") for action in ACTION_SPACES if action != "discrete"],
)
def test_every_update_in_cpp_agrees_with_eager(path, action):
    with with_code():
        check_that_one_update_agrees(path, action)


@pytest.mark.parametrize("action", ["discrete", *(slow(action) for action in ACTION_SPACES if action != "discrete")])
def test_the_forward_pass_agrees_with_eager(action):
    """The compiled policy's own ln π and V of the actions that it draws are those of the policy."""
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
    """Frequencies of 6,000 draws from either; a difference of means beyond 4.5 standard errors has a chance below 1e-5."""
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


@pytest.mark.parametrize("path", ["ppo", slow("ppo, trajectories"), slow("reinforce"), slow("baseline_pg")])
def test_the_same_seed_gives_the_same_weights(path):
    models = [make(path, compile=True).learn(200) for _ in range(2)]
    assert same(*models)


# ------------------------------------------------------------ graphs


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
    """As PyTorch is set, the ninth would run eagerly: sweeps and suites make more in one process."""
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
    """The policy divides an image by 255, another space of the same shape and dtype it does not."""
    from gymnasium import spaces
    from stable_baselines3.common.env_util import make_vec_env

    from tests.helpers.envs import SpacesEnv

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


# ------------------------------------------------------- save and load


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


def test_parameters_set_are_those_that_learn():
    eager, compiled = twins(lambda: make("ppo"))
    other = make("ppo", seed=5).learn(100)
    update(compiled)
    for model in (eager, compiled):
        model.set_parameters(copy.deepcopy(other.get_parameters()))  # PyTorch's optimizers take them over uncopied
        update(model)
    for a, b in zip(parameters(eager), parameters(compiled), strict=True):
        th.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_nothing_of_it_is_saved():
    from stable_baselines3.common.save_util import load_from_zip_file

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


# ------------------------------------------------------------ fallback


class Branches(BaseFeaturesExtractor):
    """What it does depends on the data, which no graph can."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space, features_dim=3)
        self.layer = th.nn.Linear(3, 3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations) if observations.sum() > 0 else -self.layer(observations)


def check_that_it_falls_back(make_model, because: str) -> None:
    eager = make_model(compile=False).learn(200)
    with pytest.warns(UserWarning, match=COMPLAINT) as warned:
        model = make_model(compile=True).learn(200)
    complaints = [str(warning.message) for warning in warned if COMPLAINT in str(warning.message)]
    assert len(complaints) == 1 and because in complaints[0] and "\n" not in complaints[0]
    assert same(model, eager)


@pytest.mark.parametrize("path", ["ppo", "reinforce"])
def test_a_policy_that_cannot_be_traced(path):
    policy_kwargs = dict(NET, features_extractor_class=Branches)
    check_that_it_falls_back(
        lambda compile: make(path, policy_kwargs=policy_kwargs, compile=compile), "Data-dependent branching"
    )


class Unused(FlattenExtractor):
    """Has a parameter on which nothing depends."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space)
        self.nothing = th.nn.Parameter(th.tensor(0.5))


def test_a_parameter_that_is_not_used():
    """The forward pass is compiled by then, and draws other actions, so that weights cannot be compared."""
    model = make("ppo", policy_kwargs=dict(NET, features_extractor_class=Unused), compile=True)
    with pytest.warns(UserWarning, match=rf"{COMPLAINT}.*the update of PPO") as warned:
        model.learn(200)
    assert len([warning for warning in warned if COMPLAINT in str(warning.message)]) == 1
    assert model.num_timesteps >= 200


class Counts(FlattenExtractor):
    """Changes a Python number at every call, on which a graph depends."""

    calls = 0

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.calls += 1
        return super().forward(observations) * (1 + 1e-6 * self.calls)


@pytest.mark.slow
def test_what_would_be_compiled_at_every_call():
    model = make("ppo", policy_kwargs=dict(NET, features_extractor_class=Counts), compile=True)
    before = n_graphs()
    with pytest.warns(UserWarning, match=rf"{COMPLAINT}.*again and again"):
        model.learn(1000)
    assert n_graphs() - before < 10


def test_gsde():
    check_that_it_falls_back(lambda compile: make("ppo", "box", use_sde=True, sde_sample_freq=4, compile=compile), "gSDE")


def test_an_update_that_cannot_be_traced():
    """The forward pass is compiled by then, and draws other actions, so that weights cannot be compared."""

    class Odd(PPO):
        def _loss(self, batch, **coefficients):
            if batch.returns.sum() > 1e6:
                raise AssertionError
            return super()._loss(batch, **coefficients)

    model = Odd("MlpPolicy", of_spaces("box", "discrete"), policy_kwargs=NET, device="cpu", compile=True, **STEPS)
    with pytest.warns(UserWarning, match=rf"{COMPLAINT}.*the update of Odd"):
        model.learn(200)
    assert model.num_timesteps >= 200 and not model._compiler.enabled


def test_no_cpp_compiler(tmp_path, monkeypatch):
    """With the real Inductor, and nothing in its cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with with_code(), torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler"), "fx_graph_cache": False}):
        check_that_it_falls_back(lambda compile: make("ppo", compile=compile), "could not be compiled")


def test_an_interrupted_compilation_leaves_nothing_broken(monkeypatch):
    forget_graphs()
    model = make("ppo", compile=True)
    space, compile = model.policy.observation_space, torch._inductor.compile

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch._inductor, "compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.learn(100)
    assert Distribution._validate_args and model.policy.observation_space is space
    assert not hasattr(is_image_space, "_dynamo_marked_constant")
    monkeypatch.setattr(torch._inductor, "compile", compile)
    with no_complaint():
        model.learn(200)
    assert model._compiler.enabled


# --------------------------------------------------- what is as before


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
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: make("ppo", seed=seed).learn(400), range(4)))
    assert Distribution._validate_args


class Fails(FlattenExtractor):
    """Its gradient raises an error in the third update."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        features = super().forward(observations)
        if self.training and observations.requires_grad is False and getattr(self, "calls", 0) > 6:
            raise RuntimeError("the user's own")
        self.calls = getattr(self, "calls", 0) + 1
        return features


def test_an_error_of_the_users_leaves_the_process_as_before():
    model = make("ppo", policy_kwargs=dict(NET, features_extractor_class=Fails))
    with pytest.raises(RuntimeError, match="the user's own"):
        model.learn(1000)
    assert Distribution._validate_args
    assert all(group["foreach"] is None for group in model.policy.optimizer.param_groups)


# ------------------------------------------------- corners of a session


class Remembers(FlattenExtractor):
    """Keeps what it has seen, as some do for a plot: Dynamo writes that after the graph has run."""

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
    """An env that resets to float64 and steps to float32, in an env of processes: a graph reads what it was made for."""
    model = make("ppo", compile=True)
    model.policy.set_training_mode(False)
    forward = compiled_forward(model)
    observations = np.linspace(-1, 1, 9).reshape(3, 3)
    with th.no_grad():
        for given in (observations, observations.astype(np.float32), observations.copy(order="F"), observations):
            values = forward(th.as_tensor(given))[1]
            th.testing.assert_close(values, model.policy.predict_values(th.as_tensor(observations)), rtol=1e-5, atol=1e-6)


def test_keys_whose_order_changes():
    from gymnasium import spaces
    from stable_baselines3.common.env_util import make_vec_env

    from tests.helpers.envs import VECTOR, SpacesEnv

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


def test_a_learning_rate_of_zero_moves_nothing():
    """An env that pays nothing has no gradient, either: 0/0 in PyTorch's Adam for graphs."""
    model = REINFORCE("MlpPolicy", scripted([[3], [5]]), learning_rate=lambda progress: 0.0, baseline="mean", n_trajectories=2,
                      policy_kwargs=NET, device="cpu", compile=True)  # fmt: skip
    before = parameters(model)
    model.learn(100)
    assert all(th.equal(a, b) for a, b in zip(parameters(model), before, strict=True))


def test_what_is_not_finite_is_named():
    model = make("ppo", compile=True).learn(100)
    with th.no_grad():
        model.policy.action_net.bias[1] = math.nan
    with pytest.raises(ValueError, match=r"is finite: .*parameter action_net\.bias\[1\] is nan"):
        model.learn(1)


def test_a_nan_in_an_update_is_named():
    model = make("ppo", compile=True).learn(100)
    model.rollout_buffer.returns[3] = math.nan
    with pytest.raises(ValueError, match=r"rollout_buffer.returns\[3, 0\] is nan"):
        model.train()
