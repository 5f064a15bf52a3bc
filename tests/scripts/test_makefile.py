"""The targets of the Makefile."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test` runs this: its own make has put its state into the environment
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def interpreter(folder: Path, name: str, version: tuple[int, int, int]) -> Path:
    """A stand-in for a Python of that version: it knows its version, and writes down what else it is asked for."""
    path = folder / name
    new_enough = int(version >= (3, 10))
    path.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *print*) echo {".".join(map(str, version))};; *sys.exit*) exit $((1 - {new_enough}));;\n'
        f"*) echo {name} $* >> {folder / 'asked'}; exit 1;; esac\n"
    )
    path.chmod(0o755)
    return path


def test_an_old_python_gets_one_clear_line(clone: Path) -> None:
    old = interpreter(clone, "old", (3, 9, 18))
    result = make(clone, "test", f"PYTHON=no-such-python {old}")
    assert result.returncode != 0 and result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first == "crashalgos needs Python 3.10 or newer, found 3.9.18"
    # Make adds that the target failed.
    assert all(line.startswith("make") for line in rest)
    assert "found none" in make(clone, "test", "PYTHON=no-such-python").stderr


def test_the_first_python_that_is_new_enough_is_taken(clone: Path) -> None:
    candidates = [interpreter(clone, *python) for python in (("a", (3, 9, 1)), ("b", (3, 12, 4)), ("c", (3, 13, 0)))]
    result = make(clone, "lint", f"PYTHON={' '.join(map(str, candidates))}")
    assert "making .venv with Python 3.12.4" in result.stdout
    assert (clone / "asked").read_text() == "b -m venv --clear .venv\n"


def test_a_venv_that_is_there_is_used_and_one_out_of_date_is_made_again(clone: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    python = clone / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\necho python $*\n")
    python.chmod(0o755)
    (clone / ".venv" / ".ready").touch()
    assert make(clone, "lint", "PYTHON=no-such-python").stdout == "python -m ruff check .\npython -m ruff format --check .\n"
    for name in ("pyproject.toml", "constraints.txt"):
        (clone / ".venv" / ".ready").touch()
        hour, now = 3600.0, time.time()
        os.utime(clone / name, (now + hour, now + hour))
        assert make(clone, "lint", "PYTHON=no-such-python").returncode != 0
        os.utime(clone / name, (now - hour, now - hour))
