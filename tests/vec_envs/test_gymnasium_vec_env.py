"""A vector env of gymnasium has the transitions of SB3's DummyVecEnv over the same envs."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import vector as vector_wrappers
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from crashalgos.vec_envs import GymnasiumVecEnv
from tests.helpers.envs import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

Episode = tuple[int, str]
MODES = list(AutoresetMode)
BOX = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float32)


class EventfulEnv(gym.Env):
    """
    Observations that depend on the seed, and infos of every kind, some of them at some steps alone.

    :param episodes: length and end of each: "terminated", "truncated" or "both"; they repeat
    :param dict_observations: whether the observation is a dict
    """

    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    difficulty = 1

    def __init__(self, episodes: list[Episode], dict_observations: bool = False, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Dict({"which": spaces.Discrete(9), "box": BOX}) if dict_observations else BOX
        self.episodes, self.render_mode = episodes, render_mode
        self.calls = {"step": 0, "reset": 0}

    def _observation(self) -> Any:
        box = self.np_random.normal(size=3).astype(np.float32)
        return {"which": self.t % 9, "box": box} if isinstance(self.observation_space, spaces.Dict) else box

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.length, self.end = self.episodes[self.calls["reset"] % len(self.episodes)]
        self.calls["reset"] += 1
        self.t = 0
        return self._observation(), {"episode_number": self.calls["reset"], "start": (options or {}).get("start", 0.5)}

    def step(self, action):
        self.calls["step"] += 1
        self.t += 1
        over = self.t == self.length
        info: dict[str, Any] = {"t": self.t, "state": np.arange(2) + self.t, "of": {"action": float(action)}}
        if self.t % 2:
            info["odd"] = "yes"
        terminated, truncated = over and self.end != "truncated", over and self.end != "terminated"
        return self._observation(), self.np_random.normal() + action, terminated, truncated, info

    def render(self):
        return np.full((2, 2, 3), self.t, dtype=np.uint8)

    def times(self, factor: int) -> int:
        return factor * self.calls["reset"]


def equal(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in other)
    return bool(np.array_equal(one, other))


def assert_same(one: Any, other: Any) -> None:
    assert equal(one, other), (one, other)


def assert_same_transitions(env: VecEnv, oracle: VecEnv, n_steps: int, seed: int = 0) -> None:
    """Steps both with the same actions, and compares all that SB3 could read."""
    env.action_space.seed(seed)
    for vec_env in (env, oracle):
        vec_env.seed(seed)
    assert_same(env.reset(), oracle.reset())
    for _ in range(n_steps):
        assert_same(dict(enumerate(env.reset_infos)), dict(enumerate(oracle.reset_infos)))
        actions = np.array([env.action_space.sample() for _ in range(env.num_envs)])
        observations, rewards, dones, infos = env.step(actions)
        expected_observations, expected_rewards, expected_dones, expected_infos = oracle.step(actions)
        assert_same(observations, expected_observations)
        assert_same(rewards, expected_rewards)
        assert rewards.dtype == expected_rewards.dtype
        assert_same(dones, expected_dones)
        assert_same(dict(enumerate(infos)), dict(enumerate(expected_infos)))
        assert all(type(info["TimeLimit.truncated"]) is bool for info in infos)


def eventful(episodes: list[list[Episode]], *args: Any) -> list[Callable[[], gym.Env]]:
    return [partial(EventfulEnv, own, *args) for own in episodes]


of_an_env = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["terminated", "truncated", "both"])), min_size=1, max_size=4
)


@given(
    episodes=st.lists(of_an_env, min_size=1, max_size=3),
    mode=st.sampled_from(MODES),
    dict_observations=st.booleans(),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_it_has_the_transitions_of_dummy_vec_env(episodes, mode, dict_observations, shared, seed):
    makers = eventful(episodes, dict_observations)
    vector_env = SyncVectorEnv(makers, copy=not shared, autoreset_mode=mode)
    oracle = DummyVecEnv(makers)
    assert_same_transitions(GymnasiumVecEnv(vector_env), oracle, 40, seed)
    # Nothing was done in the envs that DummyVecEnv has not done: no step was wasted, no env reset twice
    assert [env.calls for env in vector_env.envs] == [env.calls for env in oracle.envs]


EPISODES = [[(3, "terminated"), (5, "truncated")], [(1, "both"), (4, "truncated"), (2, "terminated")], [(7, "truncated")]]
ASYNC = [(mode, shared) for mode in MODES for shared in (True, False) if shared or mode is not AutoresetMode.NEXT_STEP]


@pytest.mark.parametrize(("mode", "shared_memory"), ASYNC)
def test_in_processes_too(mode, shared_memory):
    makers = eventful(EPISODES, True)
    env = GymnasiumVecEnv(AsyncVectorEnv(makers, shared_memory=shared_memory, copy=False, autoreset_mode=mode))
    oracle = DummyVecEnv(makers)
    assert_same_transitions(env, oracle, 200)
    assert env.get_attr("calls") == oracle.get_attr("calls")
    env.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("observation", "action"),
    [*((name, "discrete") for name in OBSERVATION_SPACES), *(("box", name) for name in ACTION_SPACES)],
)
def test_every_space(observation, action, mode):
    def make() -> gym.Env:
        # Their actions have to be contained in their spaces
        return SpacesEnv(copy.deepcopy(OBSERVATION_SPACES[observation][1]), copy.deepcopy(ACTION_SPACES[action]))

    env = GymnasiumVecEnv(SyncVectorEnv([make] * 3, autoreset_mode=mode))
    assert env.observation_space == OBSERVATION_SPACES[observation][1] and env.action_space == ACTION_SPACES[action]
    assert_same_transitions(env, DummyVecEnv([make] * 3), 20)


@pytest.mark.parametrize("mode", MODES)
def test_what_it_has_given_stays_as_it_was(mode):
    """The vector env writes every step into the same memory."""
    env = GymnasiumVecEnv(SyncVectorEnv(eventful(EPISODES, True), copy=False, autoreset_mode=mode))
    given = [env.reset()]
    finals = []
    kept = copy.deepcopy(given)
    for _ in range(10):
        observations, *_, infos = env.step(np.zeros(3, dtype=int))
        given.append(observations)
        finals += [info["terminal_observation"] for info in infos if "terminal_observation" in info]
        kept.append(copy.deepcopy(observations))
        if len(finals) == 1:
            kept_final = copy.deepcopy(finals[0])
    assert_same(dict(enumerate(given)), dict(enumerate(kept)))
    assert_same(finals[0], kept_final)


def test_seeds_and_options_are_for_one_reset():
    makers = eventful([[(50, "terminated")]] * 2)
    env, oracle = GymnasiumVecEnv(SyncVectorEnv(makers)), DummyVecEnv(makers)
    for vec_env in (env, oracle):
        assert vec_env.seed(7) == [7, 8]
        vec_env.set_options({"start": 2.5})
    first = env.reset()
    assert_same(first, oracle.reset())
    assert [info["start"] for info in env.reset_infos] == [2.5, 2.5]
    second = env.reset()
    assert_same(second, oracle.reset())
    assert not equal(first, second) and [info["start"] for info in env.reset_infos] == [0.5, 0.5]
    env.set_options([{"start": 1.0}, {"start": 2.0}])
    with pytest.raises(
        ValueError, match=r"`options` must be the same for all envs of a gymnasium vector env, got \[{'start': 1"
    ):
        env.reset()


# ------------------------------------------------------------------- refused


class Batched(VectorEnv):
    """Two envs in one object; every second step ends both episodes."""

    num_envs = 2
    single_observation_space, observation_space = BOX, spaces.Box(-np.inf, np.inf, (2, 3), dtype=np.float32)
    single_action_space, action_space = spaces.Discrete(2), spaces.MultiDiscrete([2, 2])

    def __init__(self, **metadata: Any) -> None:
        self.metadata = metadata
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        mask = np.ones(2, dtype=bool) if options is None else options["reset_mask"]
        # What it says of envs that it was not asked to reset is nobody's business
        return np.where(mask[:, None], [[0.0] * 3] * 2, np.nan), {}

    def step(self, actions):
        assert self.action_space.contains(actions)
        self.t += 1
        over = self.t % 2 == 0
        return np.full((2, 3), self.t), np.ones(2), np.array([over, False]), np.array([False, False]), {}


class SavesMemory(Batched):
    """Resets env 0 itself, and gives its final observation, in float64, in an array that it uses again."""

    final = np.zeros(3)

    def step(self, actions):
        *step, _ = super().step(actions)
        self.final[:] = self.t
        return *step, {"final_obs": np.array([self.final, None], dtype=object), "_final_obs": step[2]}


def test_a_vector_env_of_another_make_is_reset_where_it_asks_for_it():
    env = GymnasiumVecEnv(Batched(autoreset_mode=AutoresetMode.DISABLED))
    assert env.reset().tolist() == [[0, 0, 0]] * 2
    assert env.step(np.zeros(2))[0].tolist() == [[1, 1, 1]] * 2
    observations, rewards, dones, infos = env.step(np.zeros(2))
    assert observations.tolist() == [[0, 0, 0], [2, 2, 2]] and observations.dtype == rewards.dtype == np.float32
    assert dones.tolist() == [True, False] and infos[1] == {"TimeLimit.truncated": False}
    assert infos[0]["terminal_observation"].tolist() == [2, 2, 2]
    assert env.get_attr("spec") == env.get_attr("render_mode") == [None, None] and env.env_is_wrapped(Monitor, 1) == [False]


SAME_STEP = r"make it with gym.make_vec\(.*AutoresetMode.SAME_STEP"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gym.make("CartPole-v1"), "`vector_env` must be a gymnasium.vector.VectorEnv, got <.*: use gym.make_vec"),
        (lambda: Batched(), rf'must have an AutoresetMode as metadata\["autoreset_mode"\], got None of .*: {SAME_STEP}'),
        (lambda: gym.make_vec("CartPole-v1", num_envs=2), rf"CartPoleVectorEnv.* \(AutoresetMode.NEXT_STEP\).*{SAME_STEP}"),
        (lambda: AsyncVectorEnv(eventful(EPISODES), shared_memory=False), rf"not on demand: {SAME_STEP}"),
        (
            lambda: vector_wrappers.RecordEpisodeStatistics(SyncVectorEnv(eventful(EPISODES))),
            "in RecordEpisodeStatistics.*VecMon",
        ),
        (lambda: vector_wrappers.NormalizeReward(SyncVectorEnv(eventful(EPISODES))), rf"in NormalizeReward.*{SAME_STEP}"),
        (
            lambda: vector_wrappers.NormalizeObservation(SyncVectorEnv(eventful(EPISODES))),
            "in NormalizeObservation.*VecNormalize",
        ),
        (
            lambda: vector_wrappers.ClipReward(VectorWrapper(SyncVectorEnv(eventful(EPISODES))), 0, 1),
            "must not be in VectorWrapper",
        ),
    ],
)
def test_refused_by_name(make, message):
    env = make()
    with pytest.raises(ValueError, match=message):
        GymnasiumVecEnv(env)
    env.close()


def test_a_final_observation_stays_as_it_was():
    env = GymnasiumVecEnv(SavesMemory(autoreset_mode=AutoresetMode.SAME_STEP))
    env.reset()
    infos = [env.step(np.zeros(2))[-1][0] for _ in range(4)]
    assert [list(info) for info in infos[::2]] == [["TimeLimit.truncated"]] * 2
    finals = [info["terminal_observation"] for info in infos[1::2]]
    assert [final.tolist() for final in finals] == [[2] * 3, [4] * 3] and finals[0].dtype == np.float32


def test_a_final_observation_that_is_missing():
    env = GymnasiumVecEnv(Batched(autoreset_mode=AutoresetMode.SAME_STEP))
    env.reset()
    env.step(np.zeros(2))
    with pytest.raises(
        ValueError, match=r'SAME_STEP must have "final_obs" in the infos of a step that ends an episode, got \[\]'
    ):
        env.step(np.zeros(2))


# ------------------------------------------------------------------ wrappers


class Doubled(gym.ObservationWrapper):
    def observation(self, observation):
        return 2 * observation


class Halved(gym.RewardWrapper):
    def reward(self, reward):
        return reward / 2


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_vector_wrappers_that_remember_nothing(mode):
    inner = SyncVectorEnv(eventful(EPISODES), autoreset_mode=mode)
    doubled = vector_wrappers.TransformObservation(inner, lambda observations: 2 * observations)
    halved = vector_wrappers.TransformReward(doubled, lambda rewards: rewards / 2)
    oracle = DummyVecEnv([lambda make=make: Doubled(Halved(make())) for make in eventful(EPISODES)])  # type: ignore[misc]
    assert_same_transitions(GymnasiumVecEnv(vector_wrappers.DictInfoToList(halved)), oracle, 50)


def test_gymnasiums_statistics_where_the_vector_env_resets_itself():
    inner = SyncVectorEnv(eventful(EPISODES), autoreset_mode=AutoresetMode.SAME_STEP)
    env = GymnasiumVecEnv(vector_wrappers.RecordEpisodeStatistics(inner))
    oracle = DummyVecEnv([lambda make=make: Monitor(make()) for make in eventful(EPISODES)])  # type: ignore[misc]
    for vec_env in (env, oracle):
        vec_env.seed(0)
        vec_env.reset()
    n_episodes = 0
    for _ in range(50):
        for info, expected in zip(env.step([1] * 3)[-1], oracle.step([1] * 3)[-1], strict=True):
            assert ("episode" in info) == ("episode" in expected)
            if "episode" in expected:
                n_episodes += 1
                assert info["episode"]["r"] == pytest.approx(expected["episode"]["r"], abs=1e-5)
                assert info["episode"]["l"] == expected["episode"]["l"]
        assert not any("episode" in info for info in env.reset_infos)
    assert n_episodes > 30


# -------------------------------------------------------------- single envs


@pytest.fixture(params=["sync", "async"])
def monitored(request) -> Iterator[GymnasiumVecEnv]:
    kind = SyncVectorEnv if request.param == "sync" else AsyncVectorEnv
    makers = [partial(EventfulEnv, own, render_mode="rgb_array") for own in EPISODES]
    env = GymnasiumVecEnv(kind([lambda make=make: Monitor(make()) for make in makers]))  # type: ignore[misc]
    env.reset()
    yield env
    env.close()


def test_single_envs_are_within_reach(monitored):
    assert monitored.get_attr("difficulty") == [1, 1, 1]
    monitored.set_attr("difficulty", 2)
    assert monitored.get_attr("difficulty", indices=[2, 0]) == [2, 2]
    assert monitored.env_method("times", 5) == [5, 5, 5]
    assert monitored.env_is_wrapped(Monitor) == [True] * 3 and monitored.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]
    assert not monitored.has_attr("nonsense") and monitored.has_attr("difficulty")
    with pytest.raises(AttributeError, match="nonsense"):
        monitored.env_method("nonsense")
    # They are all still there
    assert monitored.step(np.zeros(3, dtype=int))[0].shape == (3, 3)


def test_pictures(monitored):
    monitored.step(np.zeros(3, dtype=int))
    assert monitored.render_mode == "rgb_array" and monitored.metadata["render_fps"] == 7
    # Env 1's first episode ended with this step
    assert [image[0, 0, 0] for image in monitored.get_images()] == [1, 0, 1]
    assert monitored.render().shape == (4, 4, 3)


def test_single_envs_one_by_one():
    env = GymnasiumVecEnv(SyncVectorEnv(eventful(EPISODES)))
    env.reset()
    env.set_attr("difficulty", 3, indices=1)
    assert env.get_attr("difficulty") == [1, 3, 1] and env.env_method("times", 2, indices=[0, 1]) == [2, 2]
    assert env.get_attr("times", 0)[0](4) == 4
    assert env.get_images() == [None] * 3
    env = GymnasiumVecEnv(AsyncVectorEnv(eventful(EPISODES)))
    for call in (lambda: env.set_attr("difficulty", 3, indices=1), lambda: env.env_method("times", 2, indices=[1])):
        with pytest.raises(
            ValueError, match=r"`indices` must be None to .* of AsyncVectorEnv.*knows only all envs, got \[1\]"
        ):
            call()
    env.close()
    env.close()
