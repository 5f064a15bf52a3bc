"""The state of callbacks and of a logger's files in a checkpoint."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, JSONOutputFormat, Logger

from crashalgos.resume import ResumeCallback
from crashalgos.resume.state import is_plain
from tests.helpers.kill import Kill, Killed
from tests.helpers.resuming import FREQ, MODELS, TOTAL, rows


@pytest.mark.parametrize(
    ("value", "plain"),
    [(1, True), ({"a": [1.0, np.zeros(2)]}, True), (None, True), (gym, False), ([th.zeros(1)], False), (len, False)],
)
def test_what_is_plain(value: Any, plain: bool) -> None:
    assert is_plain(value) is plain


def test_each_file_of_a_logger_gets_its_own_content(tmp_path: Path) -> None:
    class Some(CSVOutputFormat):
        """Writes one figure alone."""

        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            super().write({"n": key_values.get("train/n_updates", "")}, {"n": ()}, step)

    def part(folder: Path, kill_at: int) -> None:
        folder.mkdir(exist_ok=True)
        model = MODELS["ppo"]()
        names = ("progress.csv", "some.csv", "progress.json", "log.txt")
        kinds = (CSVOutputFormat, Some, JSONOutputFormat, HumanOutputFormat)
        outputs = [kind(str(folder / name)) for kind, name in zip(kinds, names, strict=True)]
        outputs.append(CSVOutputFormat(str(folder / "again.csv")))
        model.set_logger(Logger(None, outputs))
        try:
            model.learn(TOTAL, callback=[ResumeCallback(folder / "checkpoint.pt", FREQ), Kill(kill_at)])
        except Killed:
            pass
        model.logger.close()

    part(tmp_path / "whole", 10**6)
    for kill_at in (900, 10**6):
        part(tmp_path / "killed", kill_at)
    for name in ("progress.csv", "some.csv", "again.csv"):
        assert rows(tmp_path / "killed" / name) == rows(tmp_path / "whole" / name), name
    counts = [
        (tmp_path / place / name).read_text().count("\n")
        for name in ("progress.json", "log.txt")
        for place in ("whole", "killed")
    ]
    assert counts[0] == counts[1] == 8 and counts[2] == counts[3]
