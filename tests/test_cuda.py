"""
Training on a GPU; without one these tests are skipped.

PPO is SB3's PPO to the last bit there, too. ``compile=True`` makes CUDA graphs, whose updates agree with eager ones. Zips and
checkpoints can be continued.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from crashalgos import PPO, REINFORCE
from crashalgos.common.random_state import preserved_random_state, random_state, set_random_state
from tests.helpers.compiled_paths import PATHS, check_that_one_update_agrees, make
from tests.helpers.compiling import forget_graphs, no_complaint, parameters, same
from tests.helpers.parity_cases import CASES, train_case
from tests.helpers.resuming import SMALL, assert_equal, cartpole, everything, learn
from tests.helpers.trace import differences

pytestmark = pytest.mark.skipif(not th.cuda.is_available(), reason="no GPU")

#: A few of the table's rows, of different policies, spaces and minibatches
PARITY = ("3 envs", "mlp, Box", "mlp, MultiDiscrete", "cnn, Discrete", "dict, Box", "truncated minibatch", "AdamW")
COMPILED = [path for path in PATHS if path not in ("ppo, parts of a block", "ppo, observations MultiDiscrete")]


@pytest.fixture(autouse=True)
def _own_graphs(monkeypatch):
    # PyTorch's default for convolutions is TF32, which is exact to 1e-3
    monkeypatch.setattr(th.backends.cudnn, "allow_tf32", False)
    forget_graphs()
    counters.clear()
    yield
    forget_graphs()


def n_graph_launches(model) -> int:
    """Counts the CUDA graphs that an update of the model launches."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        model.train()
    return sum(event.count for event in profiler.key_averages() if event.key == "cudaGraphLaunch")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in PARITY], ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_ppo_is_sb3s_ppo(case):
    case = case._replace(settings={**case.settings, "device": "cuda"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (_, expected), (model, found) = train_case(sb3.PPO, case), train_case(PPO, case)
    assert next(model.policy.parameters()).is_cuda
    assert differences(expected, found) == []


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    ("path", "action"), [*((path, "discrete") for path in COMPILED), ("ppo", "box"), ("reinforce", "multi_discrete")]
)
def test_one_compiled_update_agrees_with_eager(path, action):
    check_that_one_update_agrees(path, action, device="cuda")


@pytest.mark.parametrize("path", ["ppo", "ppo, images", "ppo, values clipped", "ppo, frozen extractor", "ppo, target KL"])
def test_every_minibatch_is_the_launch_of_one_graph(path):
    model = make(path, device="cuda", compile=True)
    with no_complaint():
        model.learn(400)
    n_minibatches = model.n_epochs * model.n_steps * model.n_envs // model.batch_size
    assert n_graph_launches(model) == n_minibatches
    assert counters["inductor"]["cudagraph_skips"] == 0


def test_eagerly_there_are_none():
    assert n_graph_launches(make("ppo", device="cuda").learn(100)) == 0


@pytest.mark.parametrize("path", ["ppo", "reinforce", "baseline_pg"])
def test_a_compiled_run_depends_on_its_seed_alone(path):
    with no_complaint():
        first, second = (make(path, device="cuda", compile=True).learn(600) for _ in range(2))
    assert same(first, second)


def test_actions_are_drawn_anew_at_every_step():
    """A graph that is launched again must not draw the same random numbers again."""
    model = make("ppo", device="cuda", compile=True).learn(200)
    with th.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.zero_()
    model.learn(96, reset_num_timesteps=False)
    drawn = model.rollout_buffer.actions.flatten()
    # Of 96 draws from three equal outcomes, each is drawn 10 times or less with a chance below 1e-5
    assert np.bincount(drawn.astype(int), minlength=3).min() > 10
    assert len({tuple(step) for step in model.rollout_buffer.actions.reshape(model.n_steps, -1)}) > 10


@pytest.mark.parametrize("directions", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")], ids=" to ".join)
def test_a_zip_goes_to_another_device(directions):
    before, after = directions
    file = io.BytesIO()
    model = make("ppo", device=before, compile=before == "cuda").learn(200)
    model.save(file)
    for compile in (False, True):
        file.seek(0)
        loaded = PPO.load(file, env=make("ppo").get_env(), device=after, compile=compile)
        assert all(th.equal(a.cpu(), b.cpu()) for a, b in zip(parameters(loaded), parameters(model), strict=True))
        with no_complaint():
            loaded.learn(200, reset_num_timesteps=False)
        assert all(bool(th.isfinite(tensor).all()) for tensor in parameters(loaded))


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
def test_a_run_that_is_killed_ends_as_one_that_is_not(compile, tmp_path: Path):
    def ppo() -> PPO:
        return PPO("MlpPolicy", cartpole(), seed=3, device="cuda", compile=compile, **SMALL)

    with no_complaint():
        undisturbed = learn(ppo, tmp_path / "undisturbed")
        for kill_at in (1_100, 1_800):
            learn(ppo, tmp_path / "killed", kill_at)
        killed = learn(ppo, tmp_path / "killed")
    assert_equal(everything(killed), everything(undisturbed))


def test_the_random_numbers_of_a_gpu_are_part_of_the_state():
    model = REINFORCE("MlpPolicy", "CartPole-v1", device="cuda")
    before = random_state(model)
    expected = th.rand(3, device="cuda")
    set_random_state(model, before)
    with preserved_random_state(model):
        th.rand(5, device="cuda")
    assert th.equal(th.rand(3, device="cuda"), expected)
