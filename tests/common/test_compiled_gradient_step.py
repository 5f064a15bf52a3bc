"""A compiled update is an eager one up to float32's rounding."""

import copy
import math

import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.distributions import Distribution

from crashalgos import REINFORCE
from tests.helpers.compiled_paths import (
    NET,
    PATHS,
    SLOW_PATHS,
    check_that_it_falls_back,
    check_that_one_update_agrees,
    make,
    slow,
)
from tests.helpers.compiling import (
    parameters,
    same,
    twins,
    update,
    with_code,
)
from tests.helpers.envs import ACTION_SPACES, scripted

pytestmark = pytest.mark.usefixtures("without_code")


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("path", [slow(path) if path in SLOW_PATHS else path for path in PATHS])
def test_one_update_agrees_with_eager(path):
    check_that_one_update_agrees(path, "discrete")


@pytest.mark.parametrize("action", [action for action in ACTION_SPACES if action != "discrete"])
@pytest.mark.parametrize("path", ["ppo", slow("reinforce"), slow("baseline_pg")])
def test_one_update_agrees_with_eager_on_every_action_space(path, action):
    check_that_one_update_agrees(path, action)


def has_cpp_compiler() -> bool:
    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def test_one_update_in_cpp_agrees_with_eager():
    """Without a C++ compiler a warning says so and everything runs eagerly."""
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


@pytest.mark.parametrize("path", ["ppo", slow("ppo, trajectories"), slow("reinforce"), slow("baseline_pg")])
def test_the_same_seed_gives_the_same_weights(path):
    models = [make(path, compile=True).learn(200) for _ in range(2)]
    assert same(*models)


def test_parameters_set_are_those_that_learn():
    eager, compiled = twins(lambda: make("ppo"))
    other = make("ppo", seed=5).learn(100)
    update(compiled)
    for model in (eager, compiled):
        model.set_parameters(copy.deepcopy(other.get_parameters()))  # PyTorch's optimizers take them over uncopied
        update(model)
    for a, b in zip(parameters(eager), parameters(compiled), strict=True):
        th.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


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


def test_a_learning_rate_of_zero_moves_nothing():
    """A rate of zero, like a gradient of zero, gives 0/0 in PyTorch's Adam for graphs."""
    model = REINFORCE("MlpPolicy", scripted([[3], [5]]), learning_rate=lambda progress: 0.0, baseline="mean", n_trajectories=2,
                      policy_kwargs=NET, device="cpu", compile=True)  # fmt: skip
    before = parameters(model)
    model.learn(100)
    assert all(th.equal(a, b) for a, b in zip(parameters(model), before, strict=True))


def test_a_nan_in_an_update_is_named():
    model = make("ppo", compile=True).learn(100)
    model.rollout_buffer.returns[3] = math.nan
    with pytest.raises(ValueError, match=r"rollout_buffer.returns\[3, 0\] is nan"):
        model.train()
