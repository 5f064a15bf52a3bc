"""A zip of SB3's PPO trains on in ours as in SB3's, and the reverse, to the last bit."""

import copy
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos import PPO
from tests.helpers.envs import of_spaces
from tests.helpers.parity_cases import CASES, DEFAULTS
from tests.helpers.parity_envs import ClippedRewardBuffer
from tests.helpers.trace import differences, identical, learned, record, trace

#: The rows of the table whose settings or state a zip has to carry.
ROWS = {
    case.name: case
    for case in CASES
    if case.name
    in {
        "mlp, Discrete",
        "mlp, Box",
        "cnn, separate extractors",
        "cnn, images as they are",
        "dict, Discrete",
        "class of the policy",
        "two nets and their activation",
        "training and evaluation mode",
        "SGD with momentum",
        "RMSprop of TensorFlow",
        "Adam without SB3's epsilon",
        "truncated minibatch",
        "VecNormalize",
        "VecNormalize of some keys",
        "VecFrameStack",
        "success rate",
        "gSDE, resampled",
        "gSDE, squashed",
        "values clipped by a schedule",
        "stop at the target KL",
        "schedule of the rate",
        "schedule of the clip range",
        "window of statistics",
        "the user's buffer",
    }
}
KINDS = {"SB3 to ours": (sb3.PPO, PPO), "ours to SB3": (PPO, sb3.PPO), "ours to ours": (PPO, PPO)}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def make(kind: type[OnPolicyAlgorithm], row: str, **more: Any) -> Any:
    case = ROWS[row]
    return kind(case.policy, case.make_env(case.n_envs), **{**DEFAULTS, **case.settings, **more})  # type: ignore[arg-type]


def train(model: Any, **arguments: Any) -> Any:
    return model.learn(3 * model.n_steps * model.n_envs, **arguments)


def fresh_env(row: str, statistics: str | None) -> Any:
    """Makes the row's env at its start, with the statistics of a file if there is one."""
    env = ROWS[row].make_env(ROWS[row].n_envs)
    return env if statistics is None else VecNormalize.load(statistics, env.venv)


def train_on(model: Any) -> dict[str, Any]:
    """Trains a model with a fresh env further, and gives the trace."""
    model.set_random_seed(7)
    recorder = record(model)
    train(model, reset_num_timesteps=False)
    return trace(model, recorder)


def save(model: Any, folder: Any) -> tuple[str, str | None]:
    """Saves a model; gives its zip, and the file of its VecNormalize if it has one."""
    model.save(folder / "model")
    normalize = model.get_vec_normalize_env()
    if normalize is None:
        return folder / "model.zip", None
    normalize.save(folder / "statistics")
    return folder / "model.zip", folder / "statistics"


@pytest.mark.parametrize("direction", ["SB3 to ours", "ours to SB3", pytest.param("ours to ours", marks=pytest.mark.slow)])
@pytest.mark.parametrize("row", ROWS)
def test_a_loaded_model_trains_on_as_the_saved_one_would(row, direction, tmp_path):
    saver, loader = KINDS[direction]
    saved = train(make(saver, row))
    zip_file, statistics = save(saved, tmp_path)
    loaded = loader.load(zip_file, env=fresh_env(row, statistics), device="cpu")
    assert differences(learned(saved), learned(loaded)) == []
    saved.set_env(fresh_env(row, statistics))
    before = learned(loaded)["weights/action_net.weight"].clone()
    one, other = train_on(saved), train_on(loaded)
    assert not identical(before, one["weights/action_net.weight"])
    # Only ours may have logged more
    assert (differences(one, other) if saver is sb3.PPO else differences(other, one)) == []


def test_every_named_row_is_in_the_table():
    assert len(ROWS) == 24


@pytest.mark.parametrize("row", ["mlp, Discrete", "Adam without SB3's epsilon", "gSDE, squashed"])
def test_a_zip_of_ours_holds_what_a_zip_of_sb3_holds(row, tmp_path):
    """Parameters and optimizer are equal to the last bit, with nothing set for speed; no attribute is missing."""
    zips = []
    for kind in (sb3.PPO, PPO):
        train(make(kind, row)).save(tmp_path / kind.__module__)
        zips.append(load_from_zip_file(tmp_path / kind.__module__))
    (their_data, their_params, their_variables), (our_data, our_params, our_variables) = zips
    assert identical(their_params, our_params)
    assert identical(their_variables, our_variables)
    assert their_data.keys() <= our_data.keys()
    plain = [name for name, value in their_data.items() if isinstance(value, int | float | str | bool | None)]
    assert {name: our_data[name] for name in plain if name != "start_time"} == {
        name: their_data[name] for name in plain if name != "start_time"
    }


@pytest.mark.parametrize("direction", ["SB3 to ours", "ours to SB3"])
def test_optimizer_kwargs_replace_sb3s_epsilon_in_the_loaded_model(direction, tmp_path):
    saver, loader = KINDS[direction]
    for row, epsilon in (("mlp, Discrete", 1e-5), ("Adam without SB3's epsilon", 1e-8)):
        make(saver, row).save(tmp_path / "model")
        assert loader.load(tmp_path / "model").policy.optimizer.param_groups[0]["eps"] == epsilon


@pytest.mark.parametrize("row", ["mlp, Discrete", "dict, Discrete", "Adam without SB3's epsilon", "gSDE, squashed"])
def test_trajectories_can_be_asked_of_a_zip_of_sb3(row, tmp_path):
    """Equals a new model of 20 trajectories that gets the parameters and the optimizer's state."""
    theirs = train(make(sb3.PPO, row))
    theirs.save(tmp_path / "model")
    stored = load_from_zip_file(tmp_path / "model")[0]["rollout_buffer_class"]
    assert stored is (DictRolloutBuffer if row.startswith("dict") else RolloutBuffer)

    loaded = PPO.load(tmp_path / "model", env=fresh_env(row, None), device="cpu", n_trajectories=20)
    given = make(PPO, row, n_trajectories=20)
    given.set_parameters(theirs.get_parameters())
    for model in (loaded, given):
        model.set_random_seed(7)
        train(model)
    assert loaded.rollout_buffer.n_trajectories == 20
    assert not identical(learned(theirs), learned(loaded))
    assert differences(learned(given), learned(loaded)) == []


def test_trajectories_asked_of_a_zip_with_the_users_buffer(tmp_path):
    make(sb3.PPO, "the user's buffer").save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"`rollout_buffer_class` must be None with `n_trajectories`.*ClippedRewardBuffer"):
        PPO.load(tmp_path / "model", n_trajectories=20)
    loaded = PPO.load(tmp_path / "model", env=of_spaces("box", "discrete"))
    assert isinstance(loaded.rollout_buffer, ClippedRewardBuffer) and loaded.rollout_buffer.low == -0.1


@pytest.mark.parametrize("row", ["mlp, Discrete", "dict, Discrete"])
def test_a_zip_of_trajectories_trains_on_in_sb3_by_its_n_steps(row, tmp_path):
    train(make(PPO, row, n_trajectories=5)).save(tmp_path / "model")
    theirs = sb3.PPO.load(tmp_path / "model", env=fresh_env(row, None), device="cpu")
    ours = PPO.load(tmp_path / "model", env=fresh_env(row, None), device="cpu", n_trajectories=None)
    assert differences(train_on(theirs), train_on(ours)) == []


@pytest.mark.parametrize("direction", ["SB3 to ours", "ours to SB3"])
@pytest.mark.parametrize("row", ["mlp, Box", "cnn, separate extractors", "SGD with momentum", "Adam without SB3's epsilon"])
def test_parameters_move_between_models(row, direction):
    giver, taker = KINDS[direction]
    trained = train(make(giver, row))
    taking = make(taker, row, seed=99)
    assert taking.get_parameters().keys() == trained.get_parameters().keys()
    assert differences(learned(trained), learned(taking)) != []
    # A copy: the optimizers would share their moments otherwise
    taking.set_parameters(copy.deepcopy(trained.get_parameters()), exact_match=True)
    assert differences(learned(trained), learned(taking)) == []
    trained.set_env(fresh_env(row, None))
    for model in (trained, taking):
        model.set_random_seed(7)
        train(model)
    assert differences(learned(trained), learned(taking)) == []


@pytest.mark.parametrize("direction", ["SB3 to ours", "ours to SB3"])
def test_a_model_without_env_predicts_the_same(direction, tmp_path):
    saver, loader = KINDS[direction]
    saved = train(make(saver, "mlp, Box"))
    saved.save(tmp_path / "model")
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    found = []
    for model in (saved, loader.load(tmp_path / "model", device="cpu")):
        model.set_random_seed(3)
        found.append((model.predict(observations)[0], model.predict(observations, deterministic=True)[0]))
    assert identical(*found)
