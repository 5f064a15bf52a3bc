"""The report as a whole: its sections, its files, and the table for the terminal."""

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from crashalgos.experiments.comparison import contender_pairs, report
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.results import Results
from crashalgos.experiments.comparison.statistics import Pair
from tests.helpers.comparison_folders import four_seeds, write_folder
from tests.helpers.report_pages import folder_content, table_rows

ENV = "CartPole-v1"

SECTIONS = (
    "Verdicts",
    "Scores",
    "Aggregate scores",
    "Figures",
    "What the numbers mean",
    "Not applicable and failed runs",
    "References",
    "To reproduce",
    "Settings",
    "Versions",
)


def test_the_sections_stand_in_their_order(two_envs: Path, one_env: Path) -> None:
    for folder in (two_envs, one_env):
        headings = re.findall("^## (.*)$", (folder / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == list(SECTIONS)


def test_one_run_alone(tmp_path: Path) -> None:
    paths = report.write(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Only one contender has a finished run here." in text
    assert table_rows(text, "### Scores in CartPole-v1")[2] == ["A", "1", "0", "40.0", "40.0", "–", "30.0", "40.0"]
    assert "None: 1 of 1 runs finished." in text and "No run reached the threshold in CartPole-v1 (500.0)." in text
    names = ["learning_curves", "performance_profiles", "wall_clock"]
    assert [path.stem for path in paths] == ["report", "report", *names]


def test_the_same_files_give_the_same_bytes(two_envs: Path) -> None:
    before = folder_content(two_envs)
    paths = report.write(two_envs)
    assert folder_content(two_envs) == before
    assert {str(path.relative_to(two_envs)) for path in paths} == {
        name for name in before if not name.endswith(("csv", "json"))
    }


def test_pairs_are_compared_once_for_report_and_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counted(results: Results, env: str, a: Contender, b: Contender) -> Pair:
        compared.append((env, a.name, b.name))
        return compare(results, env, a, b)

    compare = contender_pairs._compare_pair
    monkeypatch.setattr(contender_pairs, "_compare_pair", counted)
    results = load(four_seeds(tmp_path))
    paths = report.write_report(results)
    before = folder_content(tmp_path)
    lines = contender_pairs.verdicts(results)
    assert compared == [(ENV, "a", "b")] and len(lines) == 1
    # Read anew, compared anew, and the same report
    assert report.write(tmp_path) == paths and folder_content(tmp_path) == before
    assert len(compared) == 2


def test_the_reports_place_is_not_in_it(two_envs: Path) -> None:
    for name in ("report.md", "report.html"):
        assert str(two_envs) not in (two_envs / name).read_text(encoding="utf-8")


def test_a_report_that_cannot_be_finished_leaves_the_old_one(
    one_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(one_env, tmp_path / "copy")

    def fails(*args: object) -> str:
        raise RuntimeError("no")

    monkeypatch.setattr(report, "write_figures", lambda results: [])
    monkeypatch.setattr(report, "html_page", fails)
    with pytest.raises(RuntimeError, match="no"):
        report.write(folder)
    assert folder_content(folder) == folder_content(one_env)


def test_settings_command_and_versions(tmp_path: Path) -> None:
    config = {
        "command": "python scripts/compare.py --algos 'x=ppo{gamma: 0.9}'",
        "untuned": "class defaults: x in CartPole-v1",
    }
    text = report.report_markdown(load(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}, config=config)), [])
    assert f"```sh\n{config['command']}\n```" in text and "python scripts/report.py FOLDER" in text
    assert "class defaults: x in CartPole-v1." in text
    assert "```yaml\na:\n  CartPole-v1:\n    n_envs: 1\n    policy: MlpPolicy\n```" in text
    assert "```yaml\nn_timesteps: 200\nseeds: 1\neval_freq: 100\neval_episodes: 2\ncheckpoint_freq: 100\ndevice:" in text
    assert "At every `checkpoint_freq` environment steps" in text and "how many runs there were at a time" in text
    assert "python 3.11; commit abc123; x86_64, 2 cores." in text


def test_the_terminals_table(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(report.terminal_table(load(four_seeds(tmp_path))))
    assert isinstance(console.file, io.StringIO)
    a, b = (line for line in console.file.getvalue().splitlines() if ENV in line)
    assert re.search(r"A\s+│\s+275\.0 │\s+250\.0 \[\d+\.0, \d+\.0\] │\s+4 │\s+75 ", a)
    assert re.search(r"B\s+│\s+490\.0 │\s+500\.0 \[\d+\.0, 500\.0\] │\s+4 │\s+100 ", b)
