"""Files are replaced as a whole or not at all."""

from pathlib import Path

import pytest

from crashalgos.common.files import remove_unfinished, replacing, write_csv, write_text


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "other.txt") as temporary:
        temporary.touch()
        temporary.with_name(temporary.name + "2").touch()
        temporary.with_name(temporary.name + "3").mkdir()
        (temporary.with_name(temporary.name + "3") / "part").touch()
        raise KeyboardInterrupt
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", ("a", "b"), [(1, "x,y"), (2.5, "")])
    assert (tmp_path / "table.csv").read_text() == 'a,b\n1,"x,y"\n2.5,\n'
