"""The page docs/metrics.md lists what is logged: every key, nothing else, and which algorithm logs it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger

from tests.helpers.algorithms import ALGORITHMS
from tests.helpers.envs import VECTOR, SpacesEnv

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
#: The page's letters, in the order of the algorithms
LETTERS = dict(zip("RBP", ALGORITHMS, strict=True))
#: Together these log all there is; each number of steps is several rollouts, because the first row has no `train/…`
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "R": [dict(n_trajectories=3)],
    "B": [dict(n_trajectories=3)],
    "P": [dict(n_trajectories=3, clip_range_vf=0.2), dict(n_steps=16, batch_size=16), dict(n_steps=16, use_sde=True)],
}


class Goal(SpacesEnv):
    """An env with box actions, for `train/std`, whose episodes succeed or not."""

    def __init__(self) -> None:
        super().__init__(VECTOR, spaces.Box(-1, 1, (2,), dtype=np.float32))

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, {"is_success": terminated}


class Keys(KVWriter):
    def __init__(self) -> None:
        self.keys: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.keys |= set(key_values)

    def close(self) -> None:
        pass


def on_the_page() -> dict[str, str]:
    """Gives the keys in the first column of the tables, with the letters in the second."""
    found = re.findall(r"^\| `([\w/]+)` \| ([RBP ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == len(dict(found)), "a key is listed twice"
    return dict(found)


@pytest.mark.parametrize(("letter", "algorithm"), LETTERS.items(), ids=list(LETTERS))
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_the_page_lists_what_is_logged(letter, algorithm):
    written = Keys()
    for arguments in SETTINGS[letter]:
        model = algorithm("MlpPolicy", make_vec_env(Goal, 2), seed=0, device="cpu", **arguments)
        model.set_logger(Logger(None, [written]))
        model.learn(100)
    assert written.keys == {key for key, letters in on_the_page().items() if letter in letters.split()}


def test_every_row_is_complete():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) == len(on_the_page())
    for row in rows:
        _, _, by, formula, values, healthy, _, _ = re.split(r"(?<!\\)\|", row)
        assert all(cell.strip() for cell in (by, formula, values, healthy)), row
