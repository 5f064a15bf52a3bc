"""The command ``scripts/report.py``."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.comparison_folders import four_seeds


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("report")


def test_a_report_from_the_files_alone(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = four_seeds(tmp_path)
    assert script.main([str(folder)]) == 0
    written = [Path(line) for line in capfd.readouterr().out.splitlines()]
    assert written[:2] == [folder / "report.md", folder / "report.html"] and len(written) == 2 + 5
    assert all(path.stat().st_size for path in written)


def test_a_folder_without_results_is_one_line(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path)]) == 2
    output = capfd.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith(f"report.py: error: {tmp_path} is not a comparison's folder: config.json, ")
