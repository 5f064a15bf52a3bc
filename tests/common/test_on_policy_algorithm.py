"""Every algorithm: all kinds of spaces, saving and loading, a second `learn`, the caller's objects."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule

from crashalgos import PPO, BaselinePG
from tests.helpers.algorithms import VARIANTS, each_algorithm, each_variant
from tests.helpers.envs import ACTION_SPACES, OBSERVATION_SPACES, VECTOR, SpacesEnv, of_spaces, scripted

#: PPO in both kinds of rollout
SETTINGS: dict[str, dict[str, Any]] = {
    "reinforce": dict(n_trajectories=4, baseline="mean", normalize_weights=True, ent_coef=0.01),
    "baseline_pg": dict(n_trajectories=4, gae_lambda=0.9, n_value_epochs=2, value_batch_size=8),
    "ppo_trajectories": dict(n_trajectories=4, batch_size=8, n_epochs=2),
    "ppo_steps": dict(n_steps=8, batch_size=8, n_epochs=2),
}


def make(variant: str, observation: str, action: str, **more):
    policy = OBSERVATION_SPACES[observation][0]
    return VARIANTS[variant](policy, of_spaces(observation, action), seed=0, device="cpu", **SETTINGS[variant], **more)


def parameters(model) -> list[th.Tensor]:
    return [tensor.clone() for tensor in model.policy.state_dict().values()]


def same(first: list[th.Tensor], second: list[th.Tensor]) -> bool:
    return all(th.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@each_variant
def test_learns_from_every_observation_space(variant, observation):
    model = make(variant, observation, "discrete")
    before = parameters(model)
    model.learn(40)
    assert not same(parameters(model), before)
    assert all(th.isfinite(tensor).all() for tensor in parameters(model))


@pytest.mark.parametrize("action", ACTION_SPACES)
@each_variant
def test_save_load_continue_on_every_action_space(variant, action):
    """A loaded model predicts the same, and from the same random state trains to the same weights."""
    model = make(variant, "box", action)
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


@each_variant
def test_what_the_user_chose_survives_the_zip(variant, tmp_path):
    model = make(variant, "box", "discrete", learning_rate=LinearSchedule(1e-2, 1e-3, 1.0), gamma=0.9)
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model.zip")
    kwargs = SETTINGS[variant]
    assert {name: getattr(loaded, name) for name in kwargs} == kwargs
    assert loaded.gamma == 0.9 and loaded.lr_schedule(0.0) == pytest.approx(1e-3)


@each_variant
def test_same_seed_same_weights(variant):
    found = []
    for _ in range(2):
        model = make(variant, "box", "box")
        model.learn(60)
        found.append(parameters(model))
    assert same(*found)


def test_the_callers_arguments_are_left_alone():
    policy_kwargs = dict(net_arch=dict(pi=[8], vf=[8]), optimizer_kwargs=dict(eps=1e-4))
    before = repr(policy_kwargs)
    for variant in VARIANTS:
        make(variant, "box", "discrete", policy_kwargs=policy_kwargs).learn(8)
        assert repr(policy_kwargs) == before


@each_algorithm
@pytest.mark.filterwarnings("ignore")
def test_nothing_passed_in_is_changed(algorithm, tmp_path):
    space = spaces.Dict({"image": spaces.Box(0, 1, (3, 36, 36), dtype=np.float32), "vector": VECTOR})
    env = make_vec_env(lambda: SpacesEnv(copy.deepcopy(space), spaces.Discrete(2)), 2)
    policy_kwargs = dict(
        net_arch=dict(pi=[8, 4], vf=[8]),
        optimizer_kwargs=dict(weight_decay=0.1),
        features_extractor_class=CombinedExtractor,
        features_extractor_kwargs=dict(cnn_output_dim=8),
        normalize_images=False,
    )
    passed: dict[str, Any] = dict(policy_kwargs=policy_kwargs)
    if algorithm is PPO:
        passed |= dict(n_trajectories=None, n_steps=8, rollout_buffer_kwargs={}, batch_size=8)
    before = copy.deepcopy(passed)
    model = algorithm("MultiInputPolicy", env, device="cpu", **{"n_trajectories": 2, **passed}).learn(20)
    assert passed == before
    model.save(tmp_path / "model")
    algorithm.load(tmp_path / "model", policy_kwargs=policy_kwargs, env=env).learn(20)
    assert passed == before
    # Yet the policy has what SB3 adds to it
    assert model.policy.features_extractor_kwargs == dict(cnn_output_dim=8, normalized_image=True)


@each_variant
def test_another_number_of_envs_at_load(variant, tmp_path):
    model = make(variant, "box", "discrete")
    model.learn(24)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=of_spaces("box", "discrete", n_envs=2))
    assert loaded.learn(24).rollout_buffer.n_envs == 2


@each_variant
def test_unsupported_action_space(variant):
    env = SpacesEnv(VECTOR, spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))))
    with pytest.raises(AssertionError, match="only supports"):
        VARIANTS[variant]("MlpPolicy", env, **SETTINGS[variant])


@each_variant
def test_unsupported_observation_space(variant):
    env = SpacesEnv(spaces.Tuple((spaces.Discrete(2), VECTOR)), spaces.Discrete(2))
    with pytest.raises(NotImplementedError, match="observation space is not supported"):
        VARIANTS[variant]("MlpPolicy", env, **SETTINGS[variant])


class Modes(FlattenExtractor):
    """Records the mode (training or evaluation) of each forward pass."""

    seen: list[tuple[str, bool]]

    def forward(self, observations: th.Tensor) -> th.Tensor:
        Modes.seen.append((Modes.phase, self.training))
        return super().forward(observations)


class Phases(BaseCallback):
    def _on_rollout_start(self) -> None:
        Modes.phase = "rollout"

    def _on_rollout_end(self) -> None:
        Modes.phase = "update"

    def _on_step(self) -> bool:
        return True


@each_algorithm
def test_networks_are_in_training_mode_for_gradients_alone(algorithm):
    Modes.seen, Modes.phase = [], ""
    kwargs = dict(n_value_epochs=1) if algorithm is BaselinePG else dict(n_epochs=1) if algorithm is PPO else {}
    env = scripted([[2]], "truncated")
    policy_kwargs = dict(features_extractor_class=Modes)
    model = algorithm("MlpPolicy", env, n_trajectories=2, policy_kwargs=policy_kwargs, device="cpu", **kwargs)
    Modes.seen.clear()
    model.learn(1, callback=Phases())
    assert {training for phase, training in Modes.seen if phase == "rollout"} == {False}
    update = [training for phase, training in Modes.seen if phase == "update"]
    if algorithm is BaselinePG:
        # The regression; V of the sample and of the final observations, to be read; the step on θ, which runs no critic
        assert update == [True, False, False, True]
    else:
        assert set(update) == {True}


@each_algorithm
def test_entropy_coefficient_takes_a_schedule(algorithm):
    """A constant schedule gives the weights of the number; a schedule that ends at 0 does not."""

    def trained(ent_coef) -> th.Tensor:
        model = algorithm("MlpPolicy", of_spaces("box", "box"), n_trajectories=3, ent_coef=ent_coef, seed=0, device="cpu")
        return th.nn.utils.parameters_to_vector(model.learn(60).policy.parameters())

    assert th.equal(trained(0.1), trained(lambda progress: 0.1))
    assert not th.equal(trained(0.1), trained(lambda progress: 0.1 * progress))
