"""When envs are reset, what is logged, and what follows the last step of a trajectory."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from tests.helpers.algorithms import (
    ALGORITHMS,
    each_actor_critic,
    each_algorithm,
)
from tests.helpers.envs import ScriptedEnv, scripted
from tests.helpers.known_values import rollout
from tests.helpers.rollouts import Rollouts, collect


@each_algorithm
def test_envs_start_afresh_only_where_they_must(algorithm):
    # Both envs end together, so nothing is reset but by the episodes' own ends: 1 at the start, 2 in each rollout
    env = scripted([[3], [3]])
    collect(env, 4, n_rollouts=2, algorithm=algorithm)
    assert [inner.unwrapped.resets for inner in env.envs] == [5, 5]
    # env 1 is in the middle of its second episode when the first rollout ends (after 3 steps), and is reset with env 0
    env = scripted([[3], [2]])
    _, rollouts = collect(env, 2, n_rollouts=2, algorithm=algorithm)
    assert rollouts.samples[1][0].astype(int).tolist() == [[0, 2, 0], [0, 2, 1], [0, 2, 2], [1, 2, 0], [1, 2, 1]]


def test_all_envs_reset_together_when_none_collects():
    env = scripted([[np.inf], [np.inf]])
    _, rollouts = collect(env, 5, max_trajectory_steps=3)
    observations, lengths, _ = rollouts.samples[0]
    assert lengths.tolist() == [3] * 5
    first_rows = np.cumsum(lengths) - lengths
    assert observations[first_rows].astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]]
    assert rollouts.timesteps[0] == 18 and rollouts.logged[0]["rollout/discarded_steps"] == 3
    assert rollouts.logged[0]["rollout/trajectory_return_mean"] == 3


def test_early_resets_forbidden():
    lengths = [[3], [2]]
    for kwargs in (dict(n_trajectories=2), dict(n_trajectories=1, max_trajectory_steps=2)):
        env = scripted(lengths if kwargs["n_trajectories"] == 2 else [[3]], allow_early_resets=False)
        with pytest.raises(ValueError, match="allow_early_resets"):
            REINFORCE("MlpPolicy", env, device="cpu", **kwargs)
    # One env whose episodes are whole needs no early reset
    collect(scripted([[3]], allow_early_resets=False), 2, n_rollouts=2)
    model = REINFORCE("MlpPolicy", scripted(lengths), device="cpu", n_trajectories=2)
    with pytest.raises(ValueError, match="allow_early_resets"):
        model.set_env(scripted(lengths, allow_early_resets=False))


def test_more_envs_than_trajectories():
    with pytest.warns(UserWarning, match="n_envs=3 is more than n_trajectories=2: envs 2 to 2 idle"):
        _, rollouts = collect(scripted([[2], [2], [2]]), 2)
    assert rollouts.samples[0][1].tolist() == [2, 2]


def test_learning_stopped_in_a_rollout_starts_afresh_next_time():
    class StopAt(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 1

    env = scripted([[4], [4]])
    model = REINFORCE("MlpPolicy", env, n_trajectories=2, device="cpu", seed=0)
    model.learn(100, callback=StopAt())
    assert model._n_updates == 0
    rollouts = Rollouts(1)
    model.learn(100, callback=rollouts, reset_num_timesteps=False)
    assert rollouts.samples[0][0][:, 2].tolist() == [0, 1, 2, 3] * 2


def test_vec_normalize_and_frame_stack():
    env = VecNormalize(VecFrameStack(scripted([[2], [3]]), 2), gamma=0.9)
    _, rollouts = collect(env, 3, n_rollouts=2)
    observations, lengths, _ = rollouts.samples[0]
    assert observations.shape == (2 + 3 + 2, 6) and lengths.tolist() == [2, 3, 2]
    assert np.abs(observations).max() <= env.clip_obs
    # Returns are those of the env, not the normalised ones
    assert rollouts.logged[0]["rollout/trajectory_return_mean"] == 7 / 3


@pytest.mark.parametrize("algorithm", [ALGORITHMS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in ALGORITHMS[1:])])
def test_subprocesses_sample_what_one_process_samples(algorithm):
    def first_sample(vec_env_cls) -> tuple:
        env = make_vec_env("CartPole-v1", 2, seed=3, vec_env_cls=vec_env_cls)
        _, rollouts = collect(env, 5, algorithm=algorithm)
        env.close()
        return rollouts.samples[0]

    for one, other in zip(first_sample(DummyVecEnv), first_sample(SubprocVecEnv), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unmonitored_and_cut_trajectories_report_unnormalised_rewards():
    env = VecNormalize(scripted([[np.inf]]), norm_obs=False)
    _, rollouts = collect(env, 2, max_trajectory_steps=4)
    assert rollouts.logged[0]["rollout/trajectory_return_mean"] == 4


class TwiceTheReward(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def test_trajectory_returns_are_monitors_where_it_has_them():
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


def test_callbacks_see_what_they_see_in_sb3():
    class Names(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.step_names: set[str] = set()
            self.end_names: set[str] = set()
            self.order: list[tuple[int, int]] = []

        def _on_step(self) -> bool:
            self.step_names = set(self.locals) if self.n_calls == 1 else self.step_names
            self.order.append((self.locals["n_steps"], self.model.num_timesteps))
            return True

        def _on_rollout_end(self) -> None:
            self.end_names |= set(self.locals)

    theirs, ours, trajectories_ = Names(), Names(), Names()
    settings = dict(n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")
    SB3PPO("MlpPolicy", scripted([[3], [5]]), **settings).learn(16, callback=theirs)
    PPO("MlpPolicy", scripted([[3], [5]]), **settings).learn(16, callback=ours)
    PPO("MlpPolicy", scripted([[3], [5]]), **settings, n_trajectories=2).learn(16, callback=trajectories_)
    assert ours.step_names == theirs.step_names == trajectories_.step_names
    assert ours.order == theirs.order
    assert theirs.end_names - ours.end_names <= {"idx", "done", "terminal_obs", "terminal_value"}


def test_policy_forward_is_what_samples():
    model = REINFORCE("MlpPolicy", scripted([[2]]), n_trajectories=2, device="cpu")
    calls = []
    forward = model.policy.forward
    model.policy.forward = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    model.learn(1)
    assert len(calls) == 4


@each_actor_critic
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


@each_algorithm
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
