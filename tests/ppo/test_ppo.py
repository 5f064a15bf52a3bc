"""PPO: SB3's weights with `n_steps`, minibatches of trajectories, the six cases, the bounds of an update."""

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO
from crashalgos.common import losses
from crashalgos.common.losses import SIX_CASES
from tests.helpers.envs import of_spaces, scripted
from tests.helpers.one_state import updated


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


def test_six_cases_are_of_the_advantages_as_used_in_the_loss():
    """With V = 0 every A = 7, 6, 4 is positive; normalised, 7 and 6 are above their mean 17/3, and 4 below."""
    for normalize, expected in ((False, (1.0, 0.0)), (True, (2 / 3, 1 / 3))):
        model = updated(PPO, n_epochs=1, batch_size=10, gae_lambda=1.0, normalize_advantage=normalize)
        shares = [model.logger.name_to_value[f"train/cases/{case}"] for case in SIX_CASES]
        assert shares == pytest.approx([0, expected[0], 0, 0, expected[1], 0, 0])


def test_six_cases_are_averaged_over_minibatches_not_samples():
    """The shares of minibatches of 2 and 1 count alike; θ does not move, so ρ = 1."""
    model = updated(PPO, learning_rate=0.0, n_epochs=2, batch_size=2, gae_lambda=1.0, normalize_advantage=True)
    # Normalised, one of the two is positive and one negative; a minibatch of one is not normalised: positive
    shares = [model.logger.name_to_value[f"train/cases/{case}"] for case in SIX_CASES]
    assert shares == pytest.approx([0, (0.5 + 1) / 2, 0, 0, 0.5 / 2, 0, 0])


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


@pytest.mark.parametrize(("target_kl", "stops"), [(0.67, True), (0.69, False)])
def test_target_kl_is_multiplied_by_one_and_a_half(target_kl, stops, monkeypatch):
    monkeypatch.setattr(losses, "kl_k3", lambda ratios, log_ratios: th.tensor(1.02))  # 1.5 · 0.68
    model = updated(PPO, n_epochs=3, batch_size=10, target_kl=target_kl)
    assert model._n_updates == (1 if stops else 3)


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


def test_one_joint_step_is_two_steps_for_networks_of_their_own():
    """
    Without a bound on the norm, ``vf_coef`` changes nothing for the actor, and little for the critic.

    What changes for the critic is the weight of Adam's epsilon.
    """

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


def test_a_schedule_below_zero_progress_is_sb3s_with_a_warning():
    model = PPO("MlpPolicy", scripted([[3]]), n_steps=64, learning_rate=lambda p: p * 3e-4, device="cpu")
    with pytest.warns(UserWarning, match="`learning_rate` is -8.4"):
        model.learn(100)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(-8.4e-5)


def test_a_zip_of_fixed_steps_loads_with_trajectories_and_back(tmp_path):
    model = PPO("MultiInputPolicy", of_spaces("dict", "discrete"), n_steps=8, batch_size=8, n_epochs=2, seed=0, device="cpu")
    model.learn(24)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=of_spaces("dict", "discrete"), n_trajectories=3)
    loaded.learn(24)
    assert loaded.rollout_buffer.n_trajectories == 3
    loaded.save(tmp_path / "again")
    assert PPO.load(tmp_path / "again", env=of_spaces("dict", "discrete"), n_trajectories=None).learn(24).rollout_buffer.full
