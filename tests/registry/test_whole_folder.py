"""Folders that are filled whole or not at all, by whatever name they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import DataError
from registry.whole_folder import filling, require_empty


@pytest.mark.parametrize("name", [".", "new/.."])
def test_the_current_folder_is_refused_in_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^the current folder can't be filled.*name a new folder in it\.$"):
        require_empty(Path(name))


def test_a_name_that_leads_to_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        require_empty(tmp_path / "new" / "..")


@pytest.mark.parametrize("name", ["out", "new/../out", "link"])
def test_the_folder_appears_under_every_spelling_of_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "link":
        (tmp_path / "out").mkdir()
        (tmp_path / "link").symlink_to("out")
    require_empty(Path(name))
    with filling(Path(name)) as folder:
        (folder / "a.txt").write_text("x")
        assert not list(tmp_path.glob("out/*"))
    assert (tmp_path / "out" / "a.txt").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == (["link", "out"] if name == "link" else ["out"])


def test_an_empty_folder_is_filled_while_it_is_the_parent_of_its_name(tmp_path: Path) -> None:
    """``x/..`` with `filling` alone: the folder above is meant, not a file called ``..``."""
    with filling(tmp_path / "out" / "x" / "..") as folder:
        (folder / "a.txt").write_text("x")
    assert (tmp_path / "out" / "a.txt").read_text() == "x"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), filling(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
