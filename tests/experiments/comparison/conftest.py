"""Two comparisons with their reports. Tests must not change them."""

from pathlib import Path

import pytest

from crashalgos.experiments.comparison import report
from tests.helpers.comparison_folders import four_seeds, three_contenders


@pytest.fixture(scope="session")
def two_envs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``three_contenders`` in two environments."""
    folder = three_contenders(tmp_path_factory.mktemp("comparison"))
    report.write(folder)
    return folder


@pytest.fixture(scope="session")
def one_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``four_seeds``, with a figure of an earlier report that the present one does not have."""
    folder = four_seeds(tmp_path_factory.mktemp("comparison"))
    (folder / "figures").mkdir()
    (folder / "figures" / "sample_efficiency.png").write_bytes(b"old")
    report.write(folder)
    return folder
