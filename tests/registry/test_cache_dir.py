"""Folders of the user's cache, and environments without a home folder."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from registry import cache_dir
from registry.errors import CacheDirError

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def no_passwd_entry(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_folders_lie_below_xdg_cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir.root() == tmp_path / "nuclei-bench"
    assert cache_dir.weights() == tmp_path / "nuclei-bench" / "weights"
    assert cache_dir.data("nuinsseg") == tmp_path / "nuclei-bench" / "data" / "nuinsseg"
    assert cache_dir.estimates() == tmp_path / "nuclei-bench" / "estimates"


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_home_is_used_where_xdg_cache_home_is_not_an_absolute_path(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_dir.root() == tmp_path / ".cache" / "nuclei-bench"


def test_no_home_and_no_passwd_entry_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_passwd_entry)
    with pytest.raises(CacheDirError, match=r"user \d+ has no passwd entry\. Set HOME or XDG_CACHE_HOME to a folder"):
        cache_dir.weights()


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in NAMES:
        monkeypatch.setenv(variable, "x")  # restored after the test, whatever is set in it
        monkeypatch.delenv(variable)
    monkeypatch.setattr("pwd.getpwuid", no_passwd_entry)
    cache_dir.set_missing_user_name()
    assert getpass.getuser() == f"uid_{os.getuid()}"


def test_a_user_name_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    cache_dir.set_missing_user_name()
    assert os.environ["LOGNAME"] == "ada"
