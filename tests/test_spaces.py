"""Every algorithm on every kind of space, and what save, load and a second `learn` keep."""

import io

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.envs import ACTION_SPACES, OBSERVATION_SPACES, VECTOR, SpacesEnv, of_spaces

ALGORITHMS = {
    "reinforce": (REINFORCE, dict(n_trajectories=4, baseline="mean", normalize_weights=True, ent_coef=0.01)),
    "baseline_pg": (BaselinePG, dict(n_trajectories=4, gae_lambda=0.9, n_value_epochs=2, value_batch_size=8)),
    "ppo_trajectories": (PPO, dict(n_trajectories=4, batch_size=8, n_epochs=2)),
    "ppo_steps": (PPO, dict(n_steps=8, batch_size=8, n_epochs=2)),
}


def make(algorithm: str, observation: str, action: str, **more):
    kind, kwargs = ALGORITHMS[algorithm]
    policy = OBSERVATION_SPACES[observation][0]
    return kind(policy, of_spaces(observation, action), seed=0, device="cpu", **kwargs, **more)


def parameters(model) -> list[th.Tensor]:
    return [tensor.clone() for tensor in model.policy.state_dict().values()]


def same(first: list[th.Tensor], second: list[th.Tensor]) -> bool:
    return all(th.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learns_from_every_observation_space(algorithm, observation):
    model = make(algorithm, observation, "discrete")
    before = parameters(model)
    model.learn(40)
    assert not same(parameters(model), before)
    assert all(th.isfinite(tensor).all() for tensor in parameters(model))


@pytest.mark.parametrize("action", ACTION_SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_save_load_continue_on_every_action_space(algorithm, action):
    """A loaded model predicts the same and, from the same random state, trains on to the same weights, bit for bit."""
    model = make(algorithm, "box", action)
    model.learn(40)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = type(model).load(file, env=of_spaces("box", action), device="cpu")
    assert same(parameters(loaded), parameters(model))
    observations = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    model.set_env(of_spaces("box", action))
    for continued in (model, loaded):
        continued.set_random_seed(5)
        continued.learn(40, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps > 40
    assert same(parameters(loaded), parameters(model))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_the_user_chose_survives_the_zip(algorithm, tmp_path):
    model = make(algorithm, "box", "discrete", learning_rate=LinearSchedule(1e-2, 1e-3, 1.0), gamma=0.9)
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model.zip")
    kwargs = ALGORITHMS[algorithm][1]
    assert {name: getattr(loaded, name) for name in kwargs} == kwargs
    assert loaded.gamma == 0.9 and loaded.lr_schedule(0.0) == pytest.approx(1e-3)


def test_both_optimizers_of_baseline_pg_are_saved(tmp_path):
    model = make("baseline_pg", "box", "discrete", value_learning_rate=LinearSchedule(1e-2, 1e-3, 1.0))
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = BaselinePG.load(tmp_path / "model", device="cpu")
    for name in ("optimizer", "value_optimizer"):
        ours, theirs = (getattr(m.policy, name).state_dict()["state"] for m in (model, loaded))
        assert len(ours) > 0 and ours.keys() == theirs.keys()
        for key in ours:
            assert th.equal(ours[key]["exp_avg"], theirs[key]["exp_avg"])
    assert set(model.get_parameters()) == {"policy", "policy.optimizer", "policy.value_optimizer"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_weights(algorithm):
    found = []
    for _ in range(2):
        model = make(algorithm, "box", "box")
        model.learn(60)
        found.append(parameters(model))
    assert same(*found)


def test_the_callers_arguments_are_left_alone():
    policy_kwargs = dict(net_arch=dict(pi=[8], vf=[8]), optimizer_kwargs=dict(eps=1e-4))
    before = repr(policy_kwargs)
    for algorithm in ALGORITHMS:
        make(algorithm, "box", "discrete", policy_kwargs=policy_kwargs).learn(8)
        assert repr(policy_kwargs) == before


def test_a_zip_of_fixed_steps_loads_with_trajectories_and_back(tmp_path):
    model = make("ppo_steps", "dict", "discrete")
    model.learn(24)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=of_spaces("dict", "discrete"), n_trajectories=3)
    loaded.learn(24)
    assert loaded.rollout_buffer.n_trajectories == 3
    loaded.save(tmp_path / "again")
    assert PPO.load(tmp_path / "again", env=of_spaces("dict", "discrete"), n_trajectories=None).learn(24).rollout_buffer.full


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_number_of_envs_at_load(algorithm, tmp_path):
    model = make(algorithm, "box", "discrete")
    model.learn(24)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=of_spaces("box", "discrete", n_envs=2))
    assert loaded.learn(24).rollout_buffer.n_envs == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_unsupported_action_space(algorithm):
    kind, kwargs = ALGORITHMS[algorithm]
    env = SpacesEnv(VECTOR, spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))))
    with pytest.raises(AssertionError, match="only supports"):
        kind("MlpPolicy", env, **kwargs)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_unsupported_observation_space(algorithm):
    kind, kwargs = ALGORITHMS[algorithm]
    env = SpacesEnv(spaces.Tuple((spaces.Discrete(2), VECTOR)), spaces.Discrete(2))
    with pytest.raises(NotImplementedError, match="observation space is not supported"):
        kind("MlpPolicy", env, **kwargs)
