"""Mistakes in a run's configuration are found before any work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.envs import IdentityEnvMultiBinary

from crashalgos.experiments.run.checks import NotApplicable, check, check_folder
from crashalgos.experiments.run.settings import Settings
from tests.helpers.runs import small_config


def test_an_action_space_that_does_not_fit_is_not_applicable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("MultiBinary-v0", entry_point=lambda: IdentityEnvMultiBinary(3))
    monkeypatch.setitem(gym.registry, "MultiBinary-v0", spec)
    with pytest.raises(NotApplicable, match="ars on MultiBinary-v0: The algorithm only supports"):
        check(small_config("ars", tmp_path / "run", "MultiBinary-v0"))
    check(small_config("ppo", tmp_path / "run", "MultiBinary-v0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"eval_freq": -5}, "`eval_freq` must be a whole number of at least 0, got -5"),
        ({"eval_episodes": 0}, "`eval_episodes` must be a whole number of at least 1, got 0"),
        ({"threads": -1}, "`threads` must be a whole number of at least 0, got -1"),
        ({"settings": Settings(n_timesteps=0)}, "`n_timesteps` must be a whole number of at least 1, got 0"),
        ({"settings": Settings(n_envs=0)}, "`n_envs` must be a whole number of at least 1, got 0"),
        ({"settings": Settings(hyperparameters={"n_step": 3})}, "PPO has no hyperparameter 'n_step'"),
        # SB3 asserts this one.
        ({"settings": Settings(hyperparameters={"batch_size": 0})}, "sb3-ppo on CartPole-v1: `batch_size` must be"),
        ({"settings": Settings(policy="MultiInputPolicy")}, "sb3-ppo on CartPole-v1: AttributeError: "),
        (
            {"algo": "trpo", "settings": Settings(hyperparameters={"batch_size": 0})},
            "trpo on CartPole-v1: ZeroDivisionError: ",
        ),
        ({"device": "abacus"}, "sb3-ppo on CartPole-v1: "),
        ({"project": "a/b", "track": True}, "project='a/b' must have"),
    ],
)
def test_a_mistake_is_found_before_any_work(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError) as caught:
        check(replace(small_config("sb3-ppo", tmp_path / "run"), **change))
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="cannot write to output folder '/dev/null/x': Not a directory"):
        check_folder(small_config("sb3-ppo", Path("/dev/null/x")))
