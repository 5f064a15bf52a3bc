"""What follows the last step: nothing after `terminated`, γV(final observation) after `truncated` where there is a critic."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.vec_env import VecEnvWrapper

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.envs import scripted

GAMMA = 0.5


def with_known_values(model):
    """V(s) = 10 · t + 1 for the observation (env, episode, t)."""
    policy = model.policy
    with th.no_grad():
        for parameter in policy.mlp_extractor.value_net.parameters():
            parameter.zero_()
        policy.value_net.weight.copy_(th.tensor([[0.0, 0.0, 10.0]]))
        policy.value_net.bias.fill_(1.0)
    return model


def rollout(algorithm, env, n_trajectories, **kwargs):
    model = algorithm(
        "MlpPolicy", env, learning_rate=0.0, n_trajectories=n_trajectories, gamma=GAMMA, device="cpu", seed=0,
        policy_kwargs=dict(net_arch=[]), **kwargs,
    )  # fmt: skip
    if algorithm is not REINFORCE:
        with_known_values(model)
    model.learn(1)
    return model.rollout_buffer


@pytest.mark.parametrize("algorithm", [BaselinePG, PPO])
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("terminated", [1.5, 1.0]),
        ("both", [1.5, 1.0]),
        # V(s_3) = 21: 1 + (1 + 21/2)/2 and 1 + 21/2
        ("truncated", [6.75, 11.5]),
    ],
)
def test_ends_of_an_episode(algorithm, end, expected):
    kwargs = dict(value_learning_rate=0.0) if algorithm is BaselinePG else {}
    buffer = rollout(algorithm, scripted([[2]], end), 1, gae_lambda=1.0, **kwargs)
    np.testing.assert_allclose(buffer.returns, expected, rtol=1e-6)
    assert buffer.rewards.tolist() == [1, 1]  # V is never added to the rewards
    assert buffer.truncated.tolist() == ([0] if end == "truncated" else [])


def test_a_cut_counts_as_truncated_with_the_observation_after_the_last_step():
    buffer = rollout(BaselinePG, scripted([[10]]), 2, max_trajectory_steps=2, value_learning_rate=0.0)
    assert buffer.final_observations().tolist() == [[0, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(buffer.returns, [6.75, 11.5] * 2, rtol=1e-6)
    # An episode that ends where it would have been cut has ended
    buffer = rollout(BaselinePG, scripted([[2]]), 2, max_trajectory_steps=2, value_learning_rate=0.0)
    assert len(buffer.truncated) == 0


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_without_a_critic_the_return_ends(end):
    assert rollout(REINFORCE, scripted([[2]], end), 1).returns.tolist() == [1.5, 1.0]


class ForgetsFinalObservations(VecEnvWrapper):
    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            info.pop("terminal_observation", None)
        return observations, rewards, dones, infos


@pytest.mark.parametrize("algorithm", [REINFORCE, BaselinePG, PPO])
def test_a_truncated_trajectory_without_its_final_observation_is_refused(algorithm):
    with pytest.raises(ValueError, match=r'infos\[i\]\["terminal_observation"\].* adapters'):
        rollout(algorithm, ForgetsFinalObservations(scripted([[2]], "truncated")), 1)


def test_one_that_terminated_needs_none():
    assert rollout(BaselinePG, ForgetsFinalObservations(scripted([[2]])), 1, value_learning_rate=0.0).size() == 2


def test_with_n_steps_a_warning_says_that_it_ends_there_as_in_sb3():
    def rewards(algorithm):
        env = ForgetsFinalObservations(scripted([[2]], "truncated"))
        return algorithm("MlpPolicy", env, n_steps=4, batch_size=4, device="cpu", seed=0).learn(4).rollout_buffer.rewards

    with pytest.warns(UserWarning, match="terminal_observation.*As in SB3, it counts as terminated"):
        found = rewards(PPO)
    np.testing.assert_array_equal(found, rewards(SB3PPO))


def test_value_targets_are_lambda_returns_as_collected():
    """λ = 0: r + γV(s'), with V(s_t) = 1, 11, 21 for t = 0, 1, 2."""
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
    """SGD with rate 0.1 on (1/2)Σ(R − V)², from V = (1, 11), R = (6.75, 11.5): bias + 0.1 · (5.75 + 0.5)."""
    model = BaselinePG(
        "MlpPolicy", scripted([[2]], "truncated"), learning_rate=0.0, n_trajectories=1, gamma=GAMMA, gae_lambda=1.0,
        value_learning_rate=0.1, n_value_epochs=1, value_batch_size=2, device="cpu", seed=0,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={}),
    )  # fmt: skip
    with_known_values(model).learn(1)
    assert model.policy.value_net.bias.item() == pytest.approx(1 + 0.625, rel=1e-5)
    assert model.policy.value_net.weight[0, 2].item() == pytest.approx(10 + 0.1 * 0.5, rel=1e-5)
