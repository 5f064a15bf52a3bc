"""BaselinePG: the critic's targets and regression, the order of the two steps, the arguments."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule

from crashalgos import BaselinePG
from tests.helpers.algorithms import assert_refused
from tests.helpers.envs import of_spaces, scripted
from tests.helpers.known_values import GAMMA, rollout, with_known_values
from tests.helpers.one_state import updated


def test_baseline_pg_normalises_its_advantages():
    # V = 0: A = 7, 6, 4, mean 17/3, Σ(…)² = 101 − 289/3 = 14/3, standard deviation √(7/3)
    model = updated(BaselinePG, value_learning_rate=0.0, normalize_advantage=True)
    np.testing.assert_allclose(model.rollout_buffer.advantages, (np.array([7, 6, 4]) - 17 / 3) / math.sqrt(7 / 3), rtol=1e-5)


def test_value_targets_are_lambda_returns_as_collected():
    """With λ = 0 the target is r + γV(s'), with V(s_t) = 1, 11, 21 for t = 0, 1, 2."""
    buffer = rollout(BaselinePG, scripted([[2]], "truncated"), 1, gae_lambda=0.0, value_learning_rate=0.0)
    np.testing.assert_allclose(buffer.returns, [1 + 11 / 2, 1 + 21 / 2], rtol=1e-6)


def advantages_after_one_update(fit_value_first: bool):
    model = BaselinePG(
        "MlpPolicy", scripted([[2]], "truncated"), learning_rate=0.0, n_trajectories=1, gamma=GAMMA, gae_lambda=1.0,
        value_learning_rate=0.1, n_value_epochs=3, value_batch_size=2, fit_value_first=fit_value_first, device="cpu", seed=0,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={}),
    )  # fmt: skip
    with_known_values(model).learn(1)
    return model.rollout_buffer.advantages, model.rollout_buffer.returns, model


def test_advantages_use_the_improved_values_bootstraps_included():
    advantages, targets, model = advantages_after_one_update(fit_value_first=True)
    np.testing.assert_allclose(targets, [6.75, 11.5], rtol=1e-6)  # with V as collected
    observations = th.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    v1, v2, v3 = model.policy.predict_values(observations).flatten().tolist()
    assert abs(v3 - 21) > 0.1
    np.testing.assert_allclose(advantages, [1 + (1 + v3 / 2) / 2 - v1, 1 + v3 / 2 - v2], rtol=1e-5)


def test_the_other_order_uses_the_values_as_collected():
    advantages, targets, _ = advantages_after_one_update(fit_value_first=False)
    np.testing.assert_allclose(targets, [6.75, 11.5], rtol=1e-6)
    np.testing.assert_allclose(advantages, [6.75 - 1, 11.5 - 11], rtol=1e-6)


def test_one_value_step_is_the_gradient_of_the_mean_squared_error():
    """
    One SGD step of rate 0.1 on (1/2)Σ(R − V)² moves the bias by 0.1 · (5.75 + 0.5).

    Before it V = (1, 11), and R = (6.75, 11.5).
    """
    model = BaselinePG(
        "MlpPolicy", scripted([[2]], "truncated"), learning_rate=0.0, n_trajectories=1, gamma=GAMMA, gae_lambda=1.0,
        value_learning_rate=0.1, n_value_epochs=1, value_batch_size=2, device="cpu", seed=0,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={}),
    )  # fmt: skip
    with_known_values(model).learn(1)
    assert model.policy.value_net.bias.item() == pytest.approx(1 + 0.625, rel=1e-5)
    assert model.policy.value_net.weight[0, 2].item() == pytest.approx(10 + 0.1 * 0.5, rel=1e-5)


def test_each_loss_moves_its_own_network():
    def moved(**rates):
        model = BaselinePG("MlpPolicy", of_spaces("box", "box"), n_trajectories=3, seed=0, device="cpu", **rates)
        before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
        model.learn(1)
        changed = {name for name, tensor in model.policy.state_dict().items() if not th.equal(tensor, before[name])}
        return {name for name in changed if "value_net" in name}, {name for name in changed if "value_net" not in name}

    critic, actor = moved(learning_rate=0.0)
    assert critic and not actor
    critic, actor = moved(value_learning_rate=0.0)
    assert actor and not critic


def test_schedules_of_both_rates():
    model = BaselinePG(
        "MlpPolicy", scripted([[5]]), learning_rate=lambda p: 1e-2 * p, value_learning_rate=lambda p: 2e-2 * p,
        n_trajectories=2, device="cpu",
    )  # fmt: skip
    model.learn(40)  # rollouts of 10 steps: the last update is made at progress 0
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.0 == model.policy.value_optimizer.param_groups[0]["lr"]
    model.learn(15)  # 20 steps: progress is clamped at 0, where the schedule would turn negative
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.0


def test_both_optimizers_are_saved(tmp_path):
    model = BaselinePG(
        "MlpPolicy", of_spaces("box", "discrete"), n_trajectories=4, gae_lambda=0.9, n_value_epochs=2, value_batch_size=8,
        value_learning_rate=LinearSchedule(1e-2, 1e-3, 1.0), seed=0, device="cpu",
    )  # fmt: skip
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = BaselinePG.load(tmp_path / "model", device="cpu")
    for name in ("optimizer", "value_optimizer"):
        ours, theirs = (getattr(m.policy, name).state_dict()["state"] for m in (model, loaded))
        assert len(ours) > 0 and ours.keys() == theirs.keys()
        for key in ours:
            assert th.equal(ours[key]["exp_avg"], theirs[key]["exp_avg"])
    assert set(model.get_parameters()) == {"policy", "policy.optimizer", "policy.value_optimizer"}


def test_wrong_arguments():
    for name in ("n_value_epochs", "value_batch_size"):
        assert_refused(BaselinePG, f"`{name}` must be a whole number of at least 1, got 0", **{name: 0})
    assert_refused(BaselinePG, "`value_learning_rate` must be a number of at least 0, got -1", value_learning_rate=-1)


def test_an_extractor_with_parameters_cannot_be_shared():
    shared = dict(share_features_extractor=True)
    assert_refused(
        BaselinePG,
        "`share_features_extractor` must be False, got True.*NatureCNN has parameters",
        policy="CnnPolicy",
        env=of_spaces("image", "discrete"),
        policy_kwargs=shared,
    )
    # One without parameters can
    BaselinePG("MlpPolicy", scripted([[3]]), policy_kwargs=shared, device="cpu")


def test_extractors_must_not_share_a_module_in_any_way():
    shared = th.nn.Linear(3, 3)

    class Extractor(FlattenExtractor):
        def __init__(self, observation_space: spaces.Space, net: th.nn.Module) -> None:
            super().__init__(observation_space)
            self.net = net

    policy_kwargs = dict(features_extractor_class=Extractor, features_extractor_kwargs=dict(net=shared))
    with pytest.raises(ValueError, match="must not have a module in common"):
        BaselinePG("MlpPolicy", of_spaces("box", "box"), policy_kwargs=policy_kwargs, device="cpu")
