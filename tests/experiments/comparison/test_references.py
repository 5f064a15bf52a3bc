"""References: stated ones, those of other environments, and the command that measures a random policy."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashalgos.experiments.comparison import references
from crashalgos.experiments.comparison.references import REFERENCES, Reference, find_reference, normalize, random_returns

# Two runs that begin at 1 and 3 (mean 2), and whose best is 8.
RETURNS = [np.array([1.0, 8.0, 5.0]), np.array([3.0, 4.0, 6.0])]


class OneStep(gym.Env):
    """Episodes of one step, worth the action."""

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        return 0, float(action), True, False, {}


@pytest.fixture(params=[None, 10.0, 2.0], ids=["no threshold", "threshold above", "threshold not above"])
def threshold(request: pytest.FixtureRequest) -> Iterator[float | None]:
    gym.register("ReferencesTest-v0", lambda **_: OneStep(), reward_threshold=request.param)
    yield request.param
    del gym.registry["ReferencesTest-v0"]


def test_scores_are_0_at_low_and_1_at_high() -> None:
    np.testing.assert_array_equal(
        normalize(np.array([[10.0, 15.0], [30.0, 5.0]]), Reference(10, 30, "")), [[0, 0.25], [1, -0.25]]
    )


def test_equal_low_and_high_divide_by_one() -> None:
    np.testing.assert_array_equal(normalize(np.array([5.0, 3.0]), Reference(5, 5, "")), [0.0, -2.0])


def test_high_below_low_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`high` must be at least `low` = 2, got 1"):
        Reference(2, 1, "")


@pytest.mark.parametrize("env_id", REFERENCES)
def test_stated_references_fit_gymnasium(env_id: str) -> None:
    reference = find_reference(env_id, [])
    assert reference is REFERENCES[env_id]
    spec = gym.spec(env_id)
    if "reward_threshold" in reference.source:
        assert reference.high == spec.reward_threshold
    elif env_id == "CartPole-v1":
        assert reference.high == spec.max_episode_steps
    else:
        assert spec.reward_threshold is None
    assert "1,000 episodes" in reference.source


# A random CartPole episode has a standard deviation of 12, one of Acrobot 10, MountainCar never arrives.
@pytest.mark.parametrize(("env_id", "episodes", "tolerance"), [("CartPole-v1", 200, 4.0), ("MountainCar-v0", 2, 0.0)])
def test_measured_low_is_the_random_policys(env_id: str, episodes: int, tolerance: float) -> None:
    assert random_returns(env_id, episodes, seed=5_000).mean() == pytest.approx(REFERENCES[env_id].low, abs=tolerance)


def test_other_environments_take_their_threshold_or_the_best_seen(threshold: float | None) -> None:
    reference = find_reference("ReferencesTest-v0", RETURNS)
    assert reference.low == 2.0
    assert reference.high == (10.0 if threshold == 10.0 else 8.0)
    assert ("reward_threshold" in reference.source) == (threshold == 10.0)
    assert ("best mean return seen" in reference.source) == (threshold != 10.0)


def test_unregistered_environments_are_no_error() -> None:
    for env_id in ("Never-v0", "no_such_module:Never-v0", "math:Never-v0", "Never", "namespace/Never-v3"):
        assert find_reference(env_id, RETURNS) == Reference(
            2.0, 8.0, "low: mean return at step 0; high: best mean return seen"
        )


def test_module_of_an_id_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "references_test_envs.py").write_text(
        "import gymnasium\ngymnasium.register('FromModule-v0', 'nowhere:Env', reward_threshold=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert find_reference("references_test_envs:FromModule-v0", RETURNS).high == 7.0
    finally:
        gym.registry.pop("FromModule-v0", None)


@given(st.floats(-1e6, 1e6), st.integers(1, 9))
def test_equal_returns_give_no_range(value: float, n_runs: int) -> None:
    reference = find_reference("Never-v0", [np.array([value])] * n_runs)
    assert reference.scale == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(normalize(np.array([value]), reference)).all()


@pytest.mark.parametrize("returns", [[], [np.array([])], [np.array([1.0, np.nan])], [np.ones((2, 2))]])
def test_unusable_returns_are_refused(returns: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"`returns` must be flat, finite and not empty for each run of Never-v0"):
        find_reference("Never-v0", returns)


@pytest.mark.parametrize("threshold", [None], indirect=True)
def test_command_prints_mean_and_error(capsys: pytest.CaptureFixture[str], threshold: None) -> None:
    references.measure("ReferencesTest-v0", episodes=400)
    name, _, rest = capsys.readouterr().out.partition(": ")
    assert name == "ReferencesTest-v0"
    # A coin: mean 1/2, its standard error 1/2 / √400
    assert float(rest.split()[0]) == pytest.approx(0.5, abs=0.1)
    assert float(rest.split()[2]) == pytest.approx(0.025, abs=0.006)
    assert "400 episodes" in rest


def test_random_returns_repeat() -> None:
    np.testing.assert_array_equal(random_returns("CartPole-v1", 3), random_returns("CartPole-v1", 3))
    with pytest.raises(ValueError, match="`episodes` must be a whole number of at least 1, got 0"):
        random_returns("CartPole-v1", 0)
