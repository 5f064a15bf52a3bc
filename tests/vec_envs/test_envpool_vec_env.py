"""
EnvPool's envs have gymnasium's dynamics, and the transitions of pools of one env each.

These tests run where EnvPool is installed: it is no dependency.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from crashalgos import PPO, BaselinePG
from crashalgos.resume import CheckpointError, ResumeCallback
from crashalgos.vec_envs import EnvPoolVecEnv
from tests.helpers.algorithms import each_variant
from tests.helpers.kill import Kill, Killed
from tests.helpers.trace import differences, learned
from tests.helpers.training import LIMIT, N_ENVS, train

envpool = pytest.importorskip("envpool")


def first(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: first(of_key) for key, of_key in observations.items()}
    return observations[0].copy()


def assert_same(one: Any, other: Any) -> None:
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


class PoolOfOne(gym.Env):
    """One env of EnvPool, which is reset on demand and made anew for a seed."""

    def __init__(self, task_id: str, **kwargs: Any) -> None:
        self.make = lambda seed: envpool.make(task_id, env_type="gymnasium", num_envs=1, seed=seed, **kwargs)
        self.pool = self.make(0)
        self.observation_space, self.action_space = self.pool.observation_space, self.pool.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self.pool = self.make(seed)
        return first(self.pool.reset()[0]), {}

    def step(self, action):
        observations, rewards, terminated, truncated, _ = self.pool.step(np.array([action]))
        return first(observations), rewards[0], terminated[0], truncated[0], {}


def of_pools(task_id: str, n_envs: int = N_ENVS, **kwargs: Any) -> VecEnv:
    return DummyVecEnv([lambda: PoolOfOne(task_id, **kwargs)] * n_envs)


TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "CartPole-v1": ("CartPole-v1", {}),
    "CartPole-v1, a limit": ("CartPole-v1", {"max_episode_steps": LIMIT}),
    "Pendulum-v1": ("Pendulum-v1", {"max_episode_steps": 20}),
    "MountainCarContinuous-v0": ("MountainCarContinuous-v0", {"max_episode_steps": 35}),
    "a dict": ("CheetahRun-v1", {"max_episode_steps": 30}),
}


@pytest.mark.parametrize("task", TASKS)
def test_each_env_is_a_pool_of_its_own(task):
    task_id, kwargs = TASKS[task]
    env, oracle = EnvPoolVecEnv(task_id, N_ENVS, **kwargs), of_pools(task_id, **kwargs)
    env.action_space.seed(0)
    for vec_env in (env, oracle):
        vec_env.seed(11)
    assert_same(env.reset(), oracle.reset())
    n_episodes = 0
    for _ in range(300):
        actions = np.array([env.action_space.sample() for _ in range(N_ENVS)])
        found, expected = env.step(actions), oracle.step(actions)
        for one, other in zip(found[:3], expected[:3], strict=True):
            assert_same(one, other)
        for done, info, expected_info in zip(found[2], found[3], expected[3], strict=True):
            assert info["TimeLimit.truncated"] == expected_info["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == done
            n_episodes += done
            if done:
                assert_same(info["terminal_observation"], expected_info["terminal_observation"])
    assert n_episodes >= 300 * N_ENVS / 40


def set_cartpole(env: Any, observation: np.ndarray) -> None:
    env.state, env.steps_beyond_terminated = observation.astype(float), None


def set_mountain_car(env: Any, observation: np.ndarray) -> None:
    env.state = observation.astype(float)


@pytest.mark.parametrize(
    ("task_id", "limit", "put", "starts"),
    [
        ("CartPole-v1", 25, set_cartpole, (np.full(4, -0.05), np.full(4, 0.05))),
        ("MountainCarContinuous-v0", 40, set_mountain_car, (np.array([-0.6, 0]), np.array([-0.4, 0]))),
    ],
)
def test_every_step_is_one_of_gymnasiums_env(task_id, limit, put, starts):
    """No step is wasted, the final observation is the one after the last action, and limits are exact."""
    env, reference = EnvPoolVecEnv(task_id, 4, seed=3, max_episode_steps=limit), gym.make(task_id).unwrapped
    reference.reset()
    reference.action_space.seed(0)
    observations = env.reset()
    lengths = np.zeros(4, dtype=int)
    ends = []
    for _ in range(400):
        actions = np.array([reference.action_space.sample() for _ in range(4)])
        new_observations, rewards, dones, infos = env.step(actions)
        lengths += 1
        for i in range(4):
            put(reference, observations[i])
            expected, reward, terminated, *_ = reference.step(actions[i])
            assert rewards[i] == pytest.approx(reward, abs=1e-6)
            np.testing.assert_allclose(infos[i].get("terminal_observation", new_observations[i]), expected, atol=1e-6)
            assert dones[i] == (terminated or lengths[i] == limit)
            # EnvPool does not tell that the task, too, ends the episode in the step of the limit
            assert infos[i]["TimeLimit.truncated"] == (lengths[i] == limit)
            if dones[i]:
                assert (starts[0] <= new_observations[i] + 1e-6).all() and (new_observations[i] - 1e-6 <= starts[1]).all()
                ends.append(lengths[i])
                lengths[i] = 0
        observations = new_observations
    assert ends.count(limit) >= 10


def test_values_of_final_observations_are_bootstrapped():
    class Ends(BaseCallback):
        """Keeps of each episode's end: step, env, reward, final observation."""

        def _on_step(self) -> bool:
            for i in np.flatnonzero(self.locals["dones"]):
                ends.append(
                    (self.locals["n_steps"], i, self.locals["rewards"][i], self.locals["infos"][i]["terminal_observation"])
                )
            return True

        def _on_rollout_end(self) -> None:
            rewards, policy = self.model.rollout_buffer.rewards, self.model.policy
            for step, i, reward, final in ends:
                value = policy.predict_values(policy.obs_to_tensor(final)[0]).item()
                assert rewards[step, i] == pytest.approx(reward + self.model.gamma * value, abs=1e-6)
                assert abs(value) > 1e-3

    ends: list[tuple[int, int, float, np.ndarray]] = []
    env = EnvPoolVecEnv("Pendulum-v1", N_ENVS, max_episode_steps=7)
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0).learn(16 * N_ENVS, callback=Ends())
    assert [(step, i) for step, i, *_ in ends] == [(step, i) for step in (6, 13) for i in range(N_ENVS)]


@each_variant
def test_a_run_is_one_on_pools_of_one_to_the_last_bit(variant):
    kwargs = {"max_episode_steps": LIMIT}
    found = train(variant, VecMonitor(EnvPoolVecEnv("CartPole-v1", N_ENVS, **kwargs)))
    expected = train(variant, VecMonitor(of_pools("CartPole-v1", **kwargs)))
    assert differences(expected, found) == []
    assert max(length for _, length in expected["episodes"]) == LIMIT


def test_with_vec_normalize():
    def around(env: VecEnv) -> VecEnv:
        return VecNormalize(VecMonitor(env), gamma=0.9)

    kwargs = {"max_episode_steps": LIMIT}
    found, expected = (
        train("baseline_pg", around(make("Pendulum-v1", N_ENVS, **kwargs))) for make in (EnvPoolVecEnv, of_pools)
    )
    assert differences(expected, found) == []


def test_evaluation_sees_whole_episodes():
    env = VecMonitor(EnvPoolVecEnv("CartPole-v1", N_ENVS, max_episode_steps=LIMIT))
    model = PPO("MlpPolicy", env, seed=0)
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=20, return_episode_rewards=True)
    assert returns == lengths and max(lengths) <= LIMIT and len(lengths) == 20


def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path):
    def learn(name: str, kill_at: int | None = None, n_envs: int = N_ENVS, task_id: str = "CartPole-v1") -> Any:
        env = VecMonitor(EnvPoolVecEnv(task_id, n_envs))
        model = BaselinePG("MlpPolicy", env, n_trajectories=3, seed=3, device="cpu")
        with suppress(Killed):
            model.learn(600, callback=[ResumeCallback(tmp_path / name, 150), Kill(kill_at)])
        return model

    undisturbed = learn("undisturbed")
    for kill_at in (250, 450):
        learn("killed", kill_at)
    assert differences(learned(undisturbed), learned(learn("killed"))) == []
    with pytest.raises(CheckpointError, match=r"env\.id was 'CartPole-v1', is 'CartPole-v0'"):
        learn("killed", task_id="CartPole-v0")


# ------------------------------------------------------------------ contract


def test_seeds():
    three, one = EnvPoolVecEnv("CartPole-v1", 3, seed=5), EnvPoolVecEnv("CartPole-v1", 1, seed=6)
    first, second = three.reset(), three.reset()
    np.testing.assert_array_equal(first[1:2], one.reset())
    assert (first != second).all()
    # At the next reset, once
    assert three.seed(5) == [5, 6, 7]
    np.testing.assert_array_equal(three.reset(), first)
    np.testing.assert_array_equal(three.reset(), second)
    # SB3 draws seeds of 32 bits without a sign
    three.seed(2**32 - 4)
    assert three.reset().shape == (3, 4)
    # Without a seed, no two are alike
    assert (EnvPoolVecEnv("CartPole-v1", 3).reset() != EnvPoolVecEnv("CartPole-v1", 3).reset()).all()


def test_what_it_has_given_stays_as_it_was():
    env = EnvPoolVecEnv("CartPole-v1", 3)
    given = [env.reset()]
    kept = [given[0].copy()]
    for _ in range(50):
        observations, rewards, *_ = env.step(np.zeros(3, dtype=int))
        given += [observations, rewards]
        kept += [observations.copy(), rewards.copy()]
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_pools_that_were_replaced_are_gone():
    def n_threads() -> int:
        return len(os.listdir("/proc/self/task"))

    env = EnvPoolVecEnv("CartPole-v1", 3, num_threads=2)
    env.reset()
    before = n_threads()
    for seed in range(20):
        env.seed(seed)
        env.reset()
    assert n_threads() <= before + 2


def test_pictures():
    env = EnvPoolVecEnv("CartPole-v1", 3, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array" and [image.shape for image in env.get_images()] == [(400, 600, 3)] * 3
    assert env.render().shape == (800, 1200, 3)
    assert EnvPoolVecEnv("CartPole-v1", 2).get_images() == [None] * 2


def test_what_cpp_does_not_show():
    env = EnvPoolVecEnv("CartPole-v1", 3)
    assert env.get_attr("spec", 1)[0].id == "CartPole-v1" and env.env_is_wrapped(gym.Wrapper) == [False] * 3
    assert not env.has_attr("state")
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: env.get_attr("state"), "show render_mode and spec alone, not 'state'"),
        (lambda: env.set_attr("state", 1), "no attribute to set, got 'state': pass it to the constructor"),
        (lambda: env.env_method("close"), "no method to call, got 'close'"),
    ]
    for call, message in calls:
        with pytest.raises(AttributeError, match=message):
            call()
    env.set_options({"low": 1})
    with pytest.raises(ValueError, match=r"`options` must be empty for EnvPool's envs, got \[{'low': 1}"):
        env.reset()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(task_id="CartPol-v1"), r"`task_id` must be one of envpool.list_all_envs\(\), got 'CartPol-v1'"),
        (dict(num_envs=0), "`num_envs` must be a whole number of at least 1, got 0"),
        (dict(seed=-1), "`seed` must be a whole number of at least 0, got -1"),
        (dict(batch_size=2), "`batch_size` is set by EnvPoolVecEnv, got 2: leave it out"),
        (dict(env_type="dm"), "`env_type` is set by EnvPoolVecEnv, got 'dm': leave it out"),
    ],
)
def test_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        EnvPoolVecEnv(**{"task_id": "CartPole-v1", "num_envs": 3, **arguments})  # type: ignore[arg-type]


def test_threads_play_no_part():
    def steps(num_threads: int) -> list[np.ndarray]:
        env = EnvPoolVecEnv("CartPole-v1", 8, seed=1, num_threads=num_threads)
        return [env.reset(), *(env.step(np.arange(8) % 2)[0] for _ in range(100))]

    for one, other in zip(steps(1), steps(4), strict=True):
        np.testing.assert_array_equal(one, other)
