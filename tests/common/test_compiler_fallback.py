"""Where nothing can be compiled, one warning says so and everything runs eagerly."""

import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch.distributions import Distribution

from crashalgos import PPO
from tests.helpers.compiled_paths import (
    NET,
    STEPS,
    check_that_it_falls_back,
    make,
)
from tests.helpers.compiling import (
    COMPLAINT,
    forget_graphs,
    n_graphs,
    no_complaint,
    with_code,
)
from tests.helpers.envs import of_spaces

pytestmark = pytest.mark.usefixtures("without_code")


class Branches(BaseFeaturesExtractor):
    """Branches on its data, which no graph can."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space, features_dim=3)
        self.layer = th.nn.Linear(3, 3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations) if observations.sum() > 0 else -self.layer(observations)


@pytest.mark.parametrize("path", ["ppo", "reinforce"])
def test_a_policy_that_cannot_be_traced(path):
    policy_kwargs = dict(NET, features_extractor_class=Branches)
    check_that_it_falls_back(
        lambda compile: make(path, policy_kwargs=policy_kwargs, compile=compile), "Data-dependent branching"
    )


class Unused(FlattenExtractor):
    """Has a parameter on which no output depends."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space)
        self.nothing = th.nn.Parameter(th.tensor(0.5))


def test_a_parameter_that_is_not_used():
    """The forward pass is compiled and draws other actions, so weights cannot be compared."""
    model = make("ppo", policy_kwargs=dict(NET, features_extractor_class=Unused), compile=True)
    with pytest.warns(UserWarning, match=rf"{COMPLAINT}.*the update of PPO") as warned:
        model.learn(200)
    assert len([warning for warning in warned if COMPLAINT in str(warning.message)]) == 1
    assert model.num_timesteps >= 200


class Counts(FlattenExtractor):
    """Changes at every call a Python number that is a constant of the graph."""

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
    """The forward pass is compiled and draws other actions, so weights cannot be compared."""

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
    """Uses the real Inductor, with an empty cache."""
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
