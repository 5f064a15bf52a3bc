"""The architecture page names what there is, and nothing else."""

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "crashalgos"


def test_every_room_is_in_the_tree() -> None:
    tree = PAGE.split("```")[1]
    rooms = {path.name for path in [*PACKAGE.iterdir(), *(PACKAGE / "experiments").iterdir()] if is_room(path)}
    assert rooms == set(re.findall(r"^ +(\w+)/", tree, re.MULTILINE))


def is_room(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.*"))


def test_every_module_of_common_has_a_row() -> None:
    rows = set(re.findall(r"`(\w+\.py)`", PAGE.split("## The way of a step")[0]))
    modules = {path.name for path in (PACKAGE / "common").glob("*.py")} - {"__init__.py"}
    assert modules == rows - {"__init__.py"}


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`(tests/[\w/.]+|experiments/[\w/.]+|common/[\w/.]+|docs/[\w/.]+)`", PAGE)))
)
def test_the_files_that_it_names_are_there(path: str) -> None:
    assert (ROOT / path).exists() or (PACKAGE / path).exists()
