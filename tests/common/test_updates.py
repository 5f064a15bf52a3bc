"""One update, by hand: what is added, scaled, clipped, in which mode the networks run, and which figures are logged."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.losses import SIX_CASES
from tests.helpers.envs import ScriptedEnv, of_spaces, scripted

SGD = dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={})


class OneState(gym.Env):
    """One state, two actions; the rewards 1, 2, 4 whatever is done. A policy of biases alone: π = softmax(bias)."""

    observation_space = spaces.Box(-1, 1, (1,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, dtype=np.float32), float(2 ** (self.t - 1)), self.t == 3, False, {}


def trained(algorithm, n_trajectories=1, *, bias=(0.0, 0.0), learning_rate=0.5, **kwargs):
    model = algorithm(
        "MlpPolicy",
        OneState(),
        learning_rate=learning_rate,
        n_trajectories=n_trajectories,
        gamma=1.0,
        policy_kwargs=SGD,
        seed=3,
        device="cpu",
        **kwargs,
    )
    with th.no_grad():
        model.policy.action_net.bias.copy_(th.tensor(bias))
        if algorithm is not REINFORCE:
            model.policy.value_net.bias.zero_()
    model.learn(1)
    return model


def moved(model, bias=(0.0, 0.0)) -> np.ndarray:
    return model.policy.action_net.bias.detach().numpy() - np.array(bias)


def policy_gradient(actions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ_t ∇ln π(a_t) · weight_t for π = (1/2, 1/2): ∇ln π(a) is 1/2 for a's own bias and −1/2 for the other's."""
    signs = np.where(actions.flatten() == 0, 1.0, -1.0)
    return float((signs * weights).sum()) / 2 * np.array([1.0, -1.0])


def test_one_step_of_reinforce():
    # R_t = 7, 6, 4; learning rate 1/2; N = 2
    model = trained(REINFORCE, 2)
    actions = model.rollout_buffer.actions
    expected = 0.5 * policy_gradient(actions, np.array([7, 6, 4] * 2)) / 2
    np.testing.assert_allclose(moved(model), expected, rtol=1e-6)
    assert model.logger.name_to_value["train/policy_gradient_loss"] == pytest.approx(2 * 17 * math.log(2) / 2, rel=1e-6)


def test_baseline_first_then_normalisation_over_all_steps_in_chunks():
    # R_t − b = 7, 6, 4 minus 0, 1, 2 = 7, 5, 2 | 7, 5, 2: mean 14/3, Σ(…)² = 2 · (49 + 25 + 4) − 6 · 196/9 = 76/3,
    # standard deviation √(76/15)
    steps = np.array([0.0, 1.0, 2.0] * 2)
    model = trained(REINFORCE, 2, baseline=lambda obs: steps, normalize_weights=True, batch_size=4)
    weights = (np.array([7, 5, 2] * 2) - 14 / 3) / math.sqrt(76 / 15)
    np.testing.assert_allclose(model.rollout_buffer.advantages, weights, rtol=1e-6)
    np.testing.assert_allclose(
        moved(model), 0.5 * policy_gradient(model.rollout_buffer.actions, weights) / 2, rtol=1e-5, atol=1e-7
    )


def test_baseline_pg_normalises_its_advantages():
    # V = 0: A = 7, 6, 4, mean 17/3, Σ(…)² = 101 − 289/3 = 14/3, standard deviation √(7/3)
    model = trained(BaselinePG, value_learning_rate=0.0, normalize_advantage=True)
    np.testing.assert_allclose(model.rollout_buffer.advantages, (np.array([7, 6, 4]) - 17 / 3) / math.sqrt(7 / 3), rtol=1e-5)


@pytest.mark.parametrize(("algorithm", "kwargs"), [(REINFORCE, {}), (BaselinePG, dict(value_learning_rate=0.0))])
def test_entropy_bonus_is_a_sum_over_t_and_a_mean_over_n(algorithm, kwargs):
    """
    All weights 0 (baseline = R_t), so that entropy alone moves θ, upwards: for biases (x, 0), π = σ(x),
    ∂H/∂x = −x π(1 − π). N = 2 trajectories of 3 steps: 3 · ∂H/∂x, times the rates.
    """
    x, ent_coef = 1.5, 0.3
    pi = 1 / (1 + math.exp(-x))
    if algorithm is REINFORCE:
        kwargs = dict(baseline=lambda obs: np.array([7.0, 6.0, 4.0] * 2))
        model = trained(algorithm, 2, bias=(x, 0.0), ent_coef=ent_coef, **kwargs)
    else:
        without = trained(algorithm, 2, bias=(x, 0.0), **kwargs)
        model = trained(algorithm, 2, bias=(x, 0.0), ent_coef=ent_coef, **kwargs)
    change = moved(model, (x, 0.0)) - (0 if algorithm is REINFORCE else moved(without, (x, 0.0)))
    expected = 0.5 * ent_coef * 3 * -x * pi * (1 - pi)
    np.testing.assert_allclose(change, [expected, -expected], rtol=1e-4)
    entropy = -pi * math.log(pi) - (1 - pi) * math.log(1 - pi)
    assert model.logger.name_to_value["train/entropy_loss"] == pytest.approx(-entropy, rel=1e-5)


@pytest.mark.parametrize("algorithm", [REINFORCE, BaselinePG])
def test_max_grad_norm_bounds_the_step_on_theta_alone(algorithm):
    kwargs = {} if algorithm is REINFORCE else dict(value_learning_rate=0.1, n_value_epochs=1)
    free, bounded = trained(algorithm, **kwargs), trained(algorithm, max_grad_norm=0.01, **kwargs)
    assert np.linalg.norm(moved(free)) > 0.1
    assert np.linalg.norm(moved(bounded)) == pytest.approx(0.5 * 0.01, rel=1e-3)
    # What is logged is the norm before clipping
    for model in (free, bounded):
        assert model.logger.name_to_value["train/grad_norm"] == pytest.approx(np.linalg.norm(moved(free)) / 0.5, rel=1e-4)
    if algorithm is BaselinePG:
        assert th.equal(free.policy.value_net.bias, bounded.policy.value_net.bias)
        # One step on the mean of (R − 0)² over R = 7, 6, 4, by 0.1: 0.1 · 2 · 17/3
        assert bounded.policy.value_net.bias.item() == pytest.approx(0.2 * 17 / 3, rel=1e-5)


def test_six_cases_are_of_the_advantages_as_used_in_the_loss():
    """V = 0, so that every A = 7, 6, 4 is positive; normalised, two are positive (7 and 6 over 17/3) and one negative."""
    for normalize, expected in ((False, (1.0, 0.0)), (True, (2 / 3, 1 / 3))):
        model = trained(PPO, n_epochs=1, batch_size=10, gae_lambda=1.0, normalize_advantage=normalize)
        shares = [model.logger.name_to_value[f"train/cases/{case}"] for case in SIX_CASES]
        assert shares == pytest.approx([0, expected[0], 0, 0, expected[1], 0, 0])


def test_six_cases_are_averaged_over_minibatches_not_samples():
    """M = 3 in minibatches of 2 and 1, whose shares count alike; θ does not move, so ρ = 1."""
    model = trained(PPO, learning_rate=0.0, n_epochs=2, batch_size=2, gae_lambda=1.0, normalize_advantage=True)
    # Normalised, one of the two is positive and one negative; a minibatch of one is not normalised: positive
    shares = [model.logger.name_to_value[f"train/cases/{case}"] for case in SIX_CASES]
    assert shares == pytest.approx([0, (0.5 + 1) / 2, 0, 0, 0.5 / 2, 0, 0])


@pytest.mark.parametrize(("target_kl", "stops"), [(0.67, True), (0.69, False)])
def test_target_kl_is_multiplied_by_one_and_a_half(target_kl, stops, monkeypatch):
    from crashalgos.common import losses

    monkeypatch.setattr(losses, "kl_k3", lambda ratios, log_ratios: th.tensor(1.02))  # 1.5 · 0.68
    model = trained(PPO, n_epochs=3, batch_size=10, target_kl=target_kl)
    assert model._n_updates == (1 if stops else 3)


class Modes(FlattenExtractor):
    """Records in which mode it was used."""

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


@pytest.mark.parametrize("algorithm", [REINFORCE, BaselinePG, PPO])
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


class TwiceTheReward(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def test_trajectory_returns_are_monitors_where_it_has_them():
    from stable_baselines3.common.monitor import Monitor

    for make, expected in (
        (lambda: TwiceTheReward(Monitor(ScriptedEnv(0, [3]))), 3),
        (lambda: TwiceTheReward(ScriptedEnv(0, [3])), 6),
    ):
        model = REINFORCE("MlpPolicy", DummyVecEnv([make]), n_trajectories=2, device="cpu")
        logged = {}

        class Keep(BaseCallback):
            def _on_step(self) -> bool:
                return True

            def _on_rollout_end(self, logged=logged) -> None:
                logged.update(self.logger.name_to_value)

        model.learn(1, callback=Keep())
        assert logged["rollout/trajectory_return_mean"] == expected


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), 1])
def test_numpy_numbers_are_numbers(number):
    for algorithm in (REINFORCE, BaselinePG, PPO):
        kwargs = dict(value_learning_rate=number) if algorithm is BaselinePG else {}
        algorithm("MlpPolicy", scripted([[3]]), n_trajectories=np.int64(2), ent_coef=number, device="cpu", **kwargs).learn(1)


def test_a_schedule_below_zero_progress_is_sb3s_with_a_warning():
    model = PPO("MlpPolicy", scripted([[3]]), n_steps=64, learning_rate=lambda p: p * 3e-4, device="cpu")
    with pytest.warns(UserWarning, match="`learning_rate` is -8.4"):
        model.learn(100)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(-8.4e-5)


def test_a_baseline_that_writes_into_its_argument_changes_nothing():
    def ruthless(observations: np.ndarray) -> np.ndarray:
        observations *= 0
        return np.zeros(len(observations))

    model = REINFORCE("MlpPolicy", scripted([[3]]), n_trajectories=2, baseline=ruthless, device="cpu")
    model.learn(1)
    assert model.rollout_buffer.observations.any()


def test_extractors_must_not_share_a_module_in_any_way():
    shared = th.nn.Linear(3, 3)

    class Extractor(FlattenExtractor):
        def __init__(self, observation_space: spaces.Space, net: th.nn.Module) -> None:
            super().__init__(observation_space)
            self.net = net

    policy_kwargs = dict(features_extractor_class=Extractor, features_extractor_kwargs=dict(net=shared))
    with pytest.raises(ValueError, match="must not have a module in common"):
        BaselinePG("MlpPolicy", of_spaces("box", "box"), policy_kwargs=policy_kwargs, device="cpu")


def test_one_joint_step_is_two_steps_for_networks_of_their_own():
    """Without a bound on the norm, ``vf_coef`` changes nothing for the actor, and for the critic Adam's epsilon alone."""

    def after_one_update(vf_coef: float) -> dict[str, th.Tensor]:
        model = PPO(
            "MlpPolicy", of_spaces("box", "box"), n_trajectories=6, vf_coef=vf_coef, max_grad_norm=None, seed=0, device="cpu"
        )
        start = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
        model.learn(1)
        return {name: tensor - start[name] for name, tensor in model.policy.state_dict().items()}

    weak, strong = after_one_update(0.5), after_one_update(5.0)
    for name in weak:
        if "value" in name:
            assert th.linalg.norm(weak[name] - strong[name]) < 0.05 * th.linalg.norm(weak[name])
        else:
            assert th.equal(weak[name], strong[name])
