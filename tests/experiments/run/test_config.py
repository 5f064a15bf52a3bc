"""The configuration of a run."""

from dataclasses import replace
from pathlib import Path

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.settings import Settings


def test_names_of_folders_have_no_separators() -> None:
    config = RunConfig("ppo", "ALE/Pong-v5", Settings(), Path(), seed=7)
    assert config.name == "ppo-ALE-Pong-v5-seed7"
    assert replace(config, env="module:X-v0").name == "ppo-module-X-v0-seed7"
