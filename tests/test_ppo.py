"""PPO: SB3's weights with `n_steps`, every sample once an epoch with trajectories, the six cases."""

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common import losses
from crashalgos.common.losses import SIX_CASES
from tests.helpers.envs import of_spaces, scripted


@pytest.mark.parametrize(
    ("env_id", "n_envs", "settings"),
    [
        ("CartPole-v1", 3, dict(n_steps=50, batch_size=64, target_kl=0.01, clip_range_vf=0.2, ent_coef=0.01)),
        ("Pendulum-v1", 2, dict(n_steps=210, learning_rate=lambda p: p * 1e-3)),
        ("Pendulum-v1", 1, dict(n_steps=64, use_sde=True, sde_sample_freq=4, normalize_advantage=False)),
    ],
)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_fixed_steps_give_sb3s_weights_and_figures(env_id, n_envs, settings):
    found = []
    for kind in (sb3.PPO, PPO):
        model = kind("MlpPolicy", make_vec_env(env_id, n_envs), n_epochs=3, seed=0, device="cpu", **settings)
        model.learn(1000)
        found.append((model.policy.state_dict(), dict(model.logger.name_to_value)))
    (weights, logged), (our_weights, our_logged) = found
    assert all(th.equal(weights[name], our_weights[name]) for name in weights)
    assert {name: our_logged[name] for name in logged} == logged


class Minibatches(BaseCallback):
    """Records the observations of every minibatch of the updates."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def _on_step(self) -> bool:
        return True

    def _on_training_start(self) -> None:
        evaluate = self.model.policy.evaluate_actions

        def recorded(observations, actions):
            self.seen.append(observations.numpy().copy())
            return evaluate(observations, actions)

        self.model.policy.evaluate_actions = recorded


def test_every_sample_once_an_epoch_in_minibatches_that_differ_by_at_most_one():
    # 3 trajectories of 5, 7 and 5 steps: M = 17 in ⌈17/5⌉ = 4 parts of 5, 4, 4, 4
    model = PPO("MlpPolicy", scripted([[5], [7]]), n_trajectories=3, batch_size=5, n_epochs=2, device="cpu", seed=0)
    minibatches = Minibatches()
    model.learn(1, callback=minibatches)
    assert [len(batch) for batch in minibatches.seen] == [5, 4, 4, 4] * 2
    everything = sorted(map(tuple, model.rollout_buffer.observations))
    orders = [np.concatenate(minibatches.seen[:4]), np.concatenate(minibatches.seen[4:])]
    assert all(sorted(map(tuple, order)) == everything for order in orders)
    assert not np.array_equal(*orders)


def test_six_cases_are_logged_and_sum_to_one():
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 4), n_trajectories=8, learning_rate=1e-2, seed=0, device="cpu")
    model.learn(400)
    shares = {case: model.logger.name_to_value[f"train/cases/{case}"] for case in SIX_CASES}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert shares["pos_above"] > 0 and shares["neg_below"] > 0 and shares["pos_inside"] > 0
    outside = shares["pos_below"] + shares["pos_above"] + shares["neg_below"] + shares["neg_above"] + 0.0
    # SB3's clip_fraction is the share outside the range whatever A is
    assert outside == pytest.approx(model.logger.name_to_value["train/clip_fraction"], abs=1e-3)


def test_first_minibatch_is_inside_the_range():
    model = PPO("MlpPolicy", scripted([[5]]), n_trajectories=2, batch_size=100, n_epochs=1, device="cpu", seed=0)
    model.learn(1)
    logged = model.logger.name_to_value
    assert logged["train/cases/pos_inside"] + logged["train/cases/neg_inside"] == pytest.approx(1.0)
    # A matrix product of many rows rounds as one of each row on some CPUs, and on others does not
    assert logged["train/approx_kl"] == pytest.approx(0.0, abs=1e-6) and logged["train/clip_fraction"] == 0


def test_kl_estimators_are_means_over_all_minibatches_and_sb3s_is_over_the_last_epoch(monkeypatch):
    seen: dict[str, list[float]] = {"kl_k1": [], "kl_k3": []}

    def record(name):
        estimate = getattr(losses, name)

        def recorded(*args):
            seen[name].append(estimate(*args).item())
            return estimate(*args)

        monkeypatch.setattr(losses, name, recorded)

    record("kl_k1")
    record("kl_k3")
    model = PPO("MlpPolicy", scripted([[5], [7]]), n_steps=16, batch_size=8, n_epochs=3, device="cpu", seed=0)
    model.learn(1)
    logged = model.logger.name_to_value
    assert len(seen["kl_k1"]) == len(seen["kl_k3"]) == 12
    assert logged["train/kl_k1"] == pytest.approx(np.mean(seen["kl_k1"]), rel=1e-9)
    assert logged["train/kl_k3"] == pytest.approx(np.mean(seen["kl_k3"]), rel=1e-9)
    assert logged["train/approx_kl"] == pytest.approx(np.mean(seen["kl_k3"][-4:]), rel=1e-5)


def test_target_kl_stops_the_update(capsys):
    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 2), n_trajectories=4, learning_rate=0.1, target_kl=1e-3, batch_size=16,
        verbose=1, seed=0, device="cpu",
    )  # fmt: skip
    model.learn(1)
    assert model._n_updates < model.n_epochs
    assert "due to reaching max kl" in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", [REINFORCE, BaselinePG, PPO])
def test_entropy_coefficient_takes_a_schedule(algorithm):
    """A constant schedule is the number; a schedule that ends at 0 is not."""

    def trained(ent_coef) -> th.Tensor:
        model = algorithm("MlpPolicy", of_spaces("box", "box"), n_trajectories=3, ent_coef=ent_coef, seed=0, device="cpu")
        return th.nn.utils.parameters_to_vector(model.learn(60).policy.parameters())

    assert th.equal(trained(0.1), trained(lambda progress: 0.1))
    assert not th.equal(trained(0.1), trained(lambda progress: 0.1 * progress))


def test_no_norm_clipping():
    for max_grad_norm, bounded in ((1e-3, True), (None, False)):
        model = PPO(
            "MlpPolicy", scripted([[5]]), n_trajectories=2, max_grad_norm=max_grad_norm, n_epochs=1, device="cpu", seed=0,
            batch_size=100, learning_rate=0.0,
        )  # fmt: skip
        model.learn(1)
        norm = th.nn.utils.get_total_norm([parameter.grad for parameter in model.policy.parameters()])
        assert (norm.item() <= 1.001e-3) == bounded
        assert model.logger.name_to_value["train/grad_norm"] > 1e-2  # before clipping
