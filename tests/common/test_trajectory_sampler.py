"""Which trajectories are the sample: by hand for scripted episodes, by statistics for random ones."""

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from crashalgos.common import trajectory_sampler
from crashalgos.common.trajectory_sampler import TrajectorySampler
from tests.helpers.envs import RandomLengthEnv, scripted
from tests.helpers.rollouts import collect


def test_first_started_are_the_sample():
    """
    With N = 5, the first five trajectories started in three envs are the sample.

    Numbers 0, 1, 2 start at once. env 0 ends after step 2 and takes 3, env 2 after step 3 and takes 4. env 0 ends 3 after
    step 4 and idles for 3 steps, env 1 ends 1 after step 5 and idles for 2, env 2 ends 4 after step 7.
    """
    env = scripted([[2], [5, 1], [3, 4]])
    model, rollouts = collect(env, 5)
    observations, lengths, mask = rollouts.samples[0]
    assert lengths.tolist() == [2, 5, 3, 2, 4]
    expected = [
        (index, episode, t)
        for index, episode, length in [(0, 0, 2), (1, 0, 5), (2, 0, 3), (0, 1, 2), (2, 1, 4)]
        for t in range(length)
    ]
    assert [tuple(row) for row in observations.astype(int)] == expected
    assert mask.T.astype(int).tolist() == [[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0], [1] * 7]
    logged = rollouts.logged[0]
    assert rollouts.timesteps[0] == 21
    assert logged["rollout/discarded_steps"] == 5
    assert logged["rollout/trajectory_length_mean"] == logged["rollout/trajectory_return_mean"] == 16 / 5
    # env 0 finished a third episode while it idled: it is not among the episodes of the sample
    assert sorted(info["l"] for info in model.ep_info_buffer) == [2, 2, 3, 4, 5]


def test_ties_go_to_the_lower_env():
    _, rollouts = collect(scripted([[3], [3], [3]]), 5)
    observations, lengths, _ = rollouts.samples[0]
    first_rows = np.cumsum(lengths) - lengths
    assert observations[first_rows, 0].tolist() == [0, 1, 2, 0, 1]


def test_a_cut_env_waits_for_its_own_episode():
    """
    An env that is cut takes no number before its own episode ends.

    Cut at 3, N = 4. env 0: 0 is cut after step 3, its episode continues to step 5. env 1: 1, 2, 3 of two steps each, which
    takes all numbers before env 0 could have one. 6 steps of 2 envs, 9 of them in the sample.
    """
    _, rollouts = collect(scripted([[5], [2]]), 4, max_trajectory_steps=3)
    observations, lengths, mask = rollouts.samples[0]
    assert lengths.tolist() == [3, 2, 2, 2]
    assert observations[:, 0].tolist() == [0] * 3 + [1] * 6
    assert mask.shape == (6, 2) and rollouts.logged[0]["rollout/discarded_steps"] == 3


def test_a_cut_env_takes_a_number_after_its_own_episode():
    """
    An env that was cut takes the next number when its own episode ends.

    Cut at 3, N = 4. env 0: 0 is cut after step 3, its episode ends with step 4, and it takes 3, cut after step 7. env 1: 1
    ends after step 2, 2 after step 5. 7 steps of 2 envs, 11 of them in the sample.
    """
    _, rollouts = collect(scripted([[4], [2, 3]]), 4, max_trajectory_steps=3)
    observations, lengths, mask = rollouts.samples[0]
    assert lengths.tolist() == [3, 2, 3, 3]
    first_rows = np.cumsum(lengths) - lengths
    assert observations[first_rows].astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mask.T.astype(int).tolist() == [[1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
    assert rollouts.timesteps[0] == 14


def test_one_env_is_cut_and_reset():
    _, rollouts = collect(scripted([[10]]), 2, max_trajectory_steps=3)
    assert rollouts.timesteps[0] == 6
    assert rollouts.samples[0][0][:, 1].tolist() == [0] * 3 + [1] * 3


def first_finished(env: VecEnv, n_trajectories: int, n_rollouts: int) -> np.ndarray:
    """Gives the counter-example: the mean returns of the episodes that finish first after a reset."""
    returns = []
    for _ in range(n_rollouts):
        env.reset()
        finished: list[float] = []
        while len(finished) < n_trajectories:
            _, _, _, infos = env.step(np.zeros(env.num_envs, dtype=int))
            finished += [info["episode"]["r"] for info in infos if "episode" in info]
        returns.append(np.mean(finished[:n_trajectories]))
    return np.array(returns)


def standard_errors_off(returns: np.ndarray, true_mean: float) -> float:
    return abs(returns.mean() - true_mean) / (returns.std(ddof=1) / np.sqrt(len(returns)))


@pytest.mark.parametrize("n_envs", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8))])
def test_sampling_is_unbiased(n_envs):
    n_trajectories, n_rollouts = 10, 300
    env = make_vec_env(RandomLengthEnv, n_envs, seed=1)
    _, rollouts = collect(env, n_trajectories, n_rollouts, policy_kwargs=dict(net_arch=[]))
    returns = np.array([logged["rollout/trajectory_return_mean"] for logged in rollouts.logged])
    assert len(returns) == n_rollouts
    assert standard_errors_off(returns, 10.5) < 3.5


@pytest.mark.parametrize("n_envs", [3, 8])
def test_first_finished_would_be_biased(n_envs):
    returns = first_finished(make_vec_env(RandomLengthEnv, n_envs, seed=1), 10, 300)
    assert returns.mean() < 10.5
    assert standard_errors_off(returns, 10.5) > 6


def test_same_seed_same_sample():
    samples = []
    for _ in range(2):
        _, rollouts = collect(make_vec_env("CartPole-v1", 3, seed=7), 7, n_rollouts=2)
        samples.append(rollouts.samples)
    for (observations, lengths, mask), (again, lengths_again, mask_again) in zip(*samples, strict=True):
        np.testing.assert_array_equal(observations, again)
        np.testing.assert_array_equal(lengths, lengths_again)
        np.testing.assert_array_equal(mask, mask_again)


def test_endless_env_raises(monkeypatch):
    monkeypatch.setattr(trajectory_sampler, "ENDLESS_TRAJECTORY_STEPS", 50)
    with pytest.raises(RuntimeError, match=r"has not ended after 50 steps.*`max_trajectory_steps`"):
        collect(scripted([[3], [np.inf]]), 4)
    # One that ends with the last step allowed has ended; one step more is too many
    collect(scripted([[50]]), 1)
    with pytest.raises(RuntimeError, match="has not ended"):
        collect(scripted([[51]]), 1)
    # The limit is for those that collect: an env that idles may go on for ever
    with pytest.warns(UserWarning, match="idle"):
        collect(scripted([[40], [np.inf]]), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("n_envs", "n_trajectories"), [(1, 3), (2, 5), (3, 10), (8, 10), (8, 4)])
def test_the_sampler_is_unbiased_over_very_many_rollouts(n_envs, n_trajectories):
    """Over 20,000 rollouts of random lengths the mean is 10.5 within 3.5 standard errors."""
    rng = np.random.default_rng(n_envs * 100 + n_trajectories)
    returns = np.empty(20_000)
    for i in range(len(returns)):
        sampler = TrajectorySampler(n_envs, n_trajectories)
        left = rng.choice([1, 20], n_envs)
        while not sampler.complete:
            left -= 1
            dones = left == 0
            sampler.release(sampler.step(np.ones(n_envs), dones), dones)
            left[dones] = rng.choice([1, 20], int(dones.sum()))
        returns[i] = sampler.returns.mean()
    assert standard_errors_off(returns, 10.5) < 3.5


def test_flags_may_be_whole_numbers():
    """SubprocVecEnv stacks what the envs give, which may be 0 and 1; env 2 of three ends at step 2."""
    for dtype in (bool, int):
        sampler = TrajectorySampler(3, 4)
        for step in range(1, 6):
            dones = np.array([step == 5, step == 5, step in (2, 5)]).astype(dtype)
            sampler.release(sampler.step(np.ones(3), dones), dones)
        assert sampler.complete and sampler.lengths.tolist() == sampler.returns.tolist() == [5, 5, 2, 3]
