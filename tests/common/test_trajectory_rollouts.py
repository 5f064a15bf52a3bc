"""Which trajectories are the sample: by hand for scripted episodes, and by statistics for random ones."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common import trajectory_sampler as trajectories
from tests.helpers.envs import RandomLengthEnv, scripted


class Rollouts(BaseCallback):
    """Keeps what each rollout logged, and stops after a number of them."""

    def __init__(self, n_rollouts: int) -> None:
        super().__init__()
        self.n_rollouts = n_rollouts
        self.logged: list[dict[str, float]] = []
        self.samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.timesteps: list[int] = []

    def _on_step(self) -> bool:
        return len(self.logged) < self.n_rollouts

    def _on_rollout_end(self) -> None:
        self.logged.append(dict(self.logger.name_to_value))
        buffer = self.model.rollout_buffer
        self.samples.append((buffer.observations.copy(), buffer.lengths.copy(), buffer.mask.copy()))
        self.timesteps.append(self.model.num_timesteps)


def collect(env: VecEnv, n_trajectories: int, n_rollouts: int = 1, algorithm=REINFORCE, **kwargs) -> tuple:
    model = algorithm("MlpPolicy", env, n_trajectories=n_trajectories, seed=0, device="cpu", **kwargs)
    rollouts = Rollouts(n_rollouts)
    model.learn(10**9, callback=rollouts)
    return model, rollouts


def test_first_started_are_the_sample():
    """
    Three envs, N = 5. Numbers 0, 1, 2 start at once; env 0 ends after step 2 and takes 3, env 2 after step 3 and takes 4.
    env 0 ends 3 after step 4 and idles for 3 steps, env 1 ends 1 after step 5 and idles for 2, env 2 ends 4 after step 7.
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


@pytest.mark.parametrize("algorithm", [REINFORCE, BaselinePG, PPO])
def test_envs_start_afresh_only_where_they_must(algorithm):
    # Both envs end together, so nothing is reset but by the episodes' own ends: 1 at the start, 2 in each rollout
    env = scripted([[3], [3]])
    collect(env, 4, n_rollouts=2, algorithm=algorithm)
    assert [inner.unwrapped.resets for inner in env.envs] == [5, 5]
    # env 1 is in the middle of its second episode when the first rollout ends (after 3 steps), and is reset with env 0
    env = scripted([[3], [2]])
    _, rollouts = collect(env, 2, n_rollouts=2, algorithm=algorithm)
    assert rollouts.samples[1][0].astype(int).tolist() == [[0, 2, 0], [0, 2, 1], [0, 2, 2], [1, 2, 0], [1, 2, 1]]


def test_a_cut_env_waits_for_its_own_episode():
    """
    Cut at 3, N = 4. env 0: 0 is cut after step 3, its episode goes on to step 5. env 1: 1, 2, 3 of two steps each, which
    takes all numbers before env 0 could have one. 6 steps of 2 envs, 9 of them in the sample.
    """
    _, rollouts = collect(scripted([[5], [2]]), 4, max_trajectory_steps=3)
    observations, lengths, mask = rollouts.samples[0]
    assert lengths.tolist() == [3, 2, 2, 2]
    assert observations[:, 0].tolist() == [0] * 3 + [1] * 6
    assert mask.shape == (6, 2) and rollouts.logged[0]["rollout/discarded_steps"] == 3


def test_a_cut_env_takes_a_number_after_its_own_episode():
    """
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


def test_all_envs_reset_together_when_none_collects():
    env = scripted([[np.inf], [np.inf]])
    _, rollouts = collect(env, 5, max_trajectory_steps=3)
    observations, lengths, _ = rollouts.samples[0]
    assert lengths.tolist() == [3] * 5
    first_rows = np.cumsum(lengths) - lengths
    assert observations[first_rows].astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]]
    assert rollouts.timesteps[0] == 18 and rollouts.logged[0]["rollout/discarded_steps"] == 3
    assert rollouts.logged[0]["rollout/trajectory_return_mean"] == 3


def test_one_env_is_cut_and_reset():
    _, rollouts = collect(scripted([[10]]), 2, max_trajectory_steps=3)
    assert rollouts.timesteps[0] == 6
    assert rollouts.samples[0][0][:, 1].tolist() == [0] * 3 + [1] * 3


def first_finished(env: VecEnv, n_trajectories: int, n_rollouts: int) -> np.ndarray:
    """The counter-example: as many episodes as were first to finish, after a reset of all envs."""
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
    monkeypatch.setattr(trajectories, "ENDLESS_TRAJECTORY_STEPS", 50)
    with pytest.raises(RuntimeError, match=r"has not ended after 50 steps.*`max_trajectory_steps`"):
        collect(scripted([[3], [np.inf]]), 4)
    # One that ends with the last step allowed has ended; one step more is too many
    collect(scripted([[50]]), 1)
    with pytest.raises(RuntimeError, match="has not ended"):
        collect(scripted([[51]]), 1)
    # The limit is for those that collect: an env that idles may go on for ever
    with pytest.warns(UserWarning, match="idle"):
        collect(scripted([[40], [np.inf]]), 1)


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


def test_training_stopped_in_a_rollout_starts_afresh_next_time():
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


@pytest.mark.parametrize("algorithm", [REINFORCE, *(pytest.param(a, marks=pytest.mark.slow) for a in (BaselinePG, PPO))])
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


def test_callbacks_see_what_they_see_in_sb3():
    from stable_baselines3 import PPO as SB3PPO

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


@pytest.mark.slow
@pytest.mark.parametrize(("n_envs", "n_trajectories"), [(1, 3), (2, 5), (3, 10), (8, 10), (8, 4)])
def test_the_sampler_is_unbiased_over_very_many_rollouts(n_envs, n_trajectories):
    """The bookkeeping alone, on lengths drawn anew: mean 10.5 within 3.5 standard errors over 20,000 rollouts."""
    rng = np.random.default_rng(n_envs * 100 + n_trajectories)
    returns = np.empty(20_000)
    for i in range(len(returns)):
        sampler = trajectories.TrajectorySampler(n_envs, n_trajectories)
        left = rng.choice([1, 20], n_envs)
        while not sampler.complete:
            left -= 1
            dones = left == 0
            sampler.release(sampler.step(np.ones(n_envs), dones), dones)
            left[dones] = rng.choice([1, 20], int(dones.sum()))
        returns[i] = sampler.returns.mean()
    assert standard_errors_off(returns, 10.5) < 3.5


def test_flags_may_be_whole_numbers():
    """SubprocVecEnv stacks what the envs give: 0 and 1 of an env that is not careful. Three envs, env 2 ends at step 2."""
    for dtype in (bool, int):
        sampler = trajectories.TrajectorySampler(3, 4)
        for step in range(1, 6):
            dones = np.array([step == 5, step == 5, step in (2, 5)]).astype(dtype)
            sampler.release(sampler.step(np.ones(3), dones), dones)
        assert sampler.complete and sampler.lengths.tolist() == sampler.returns.tolist() == [5, 5, 2, 3]
