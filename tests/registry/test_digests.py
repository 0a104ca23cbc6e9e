"""Digests are computed once for each state of a file, and those of large files outlive the process."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from registry import cache_dir, digests

CONTENT = b"0123456789" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB_SHA1 = hashlib.sha1(b"blob 1000\0" + CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, in which digests of small and of new files are kept too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "KEPT_FROM_BYTES", 0)
    monkeypatch.setattr(digests, "UNCHANGED_SECONDS", 0)
    return cache_dir.root() / "digests.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files whose bytes were read, in order."""
    names: list[str] = []
    original = digests.compute

    def compute(path: Path, kind: digests.Kind) -> str:
        names.append(path.name)
        return original(path, kind)

    monkeypatch.setattr(digests, "compute", compute)
    return names


def new_process() -> None:
    digests._remembered.cache_clear()


def test_both_kinds_of_digest(file: Path) -> None:
    assert digests.of(file) == digests.compute(file, "sha256") == SHA256
    assert digests.of(file, "git blob sha1") == digests.compute(file, "git blob sha1") == BLOB_SHA1


def test_a_file_is_read_once_and_its_digest_outlives_the_process(file: Path, read: list[str], cache: Path) -> None:
    for _ in range(2):
        assert digests.of(file) == SHA256
    new_process()
    assert digests.of(file) == SHA256
    assert read == ["model.pt"]
    assert digests.of(file, "git blob sha1") == BLOB_SHA1
    (entry,) = json.loads(cache.read_text()).values()
    assert (entry["sha256"], entry["git blob sha1"]) == (SHA256, BLOB_SHA1)


@pytest.mark.parametrize("fresh_process", [False, True])
def test_a_changed_file_is_read_again(fresh_process: bool, file: Path, read: list[str], tmp_path: Path) -> None:
    digests.of(file)
    before = file.stat()
    other = tmp_path / "other"
    other.write_bytes(CONTENT[::-1])  # of the same size, made to look as old
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    if fresh_process:
        new_process()
    assert digests.of(file) == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert read == ["model.pt", "model.pt"]


def test_links_to_one_file_share_its_digest(file: Path, read: list[str], tmp_path: Path) -> None:
    link = tmp_path / "link.pt"
    link.symlink_to(file)
    assert digests.of(link) == digests.of(file) == SHA256
    assert read == ["model.pt"]


def test_a_file_that_changed_a_moment_ago_is_not_kept(
    file: Path, read: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "UNCHANGED_SECONDS", 1000)
    digests.of(file)
    assert not cache.exists()
    new_process()
    digests.of(file)
    assert read == ["model.pt", "model.pt"]


def test_a_small_file_is_not_kept(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "KEPT_FROM_BYTES", len(CONTENT) + 1)
    assert digests.of(file) == SHA256
    assert not cache.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"PATH": 3}', '{"PATH": {"state": [1], "sha256": "wrong"}}'])
def test_a_damaged_cache_is_replaced(content: str, file: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content.replace("PATH", str(file)))
    assert digests.of(file) == SHA256
    assert json.loads(cache.read_text())[str(file)]["sha256"] == SHA256


def test_a_cache_that_cannot_be_written_is_done_without(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    assert digests.of(file) == SHA256


def test_old_entries_are_dropped(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(digests, "KEPT_FILES", 2)
    paths = [tmp_path / f"{number}.pt" for number in range(3)]
    for path in paths:
        path.write_bytes(CONTENT)
        digests.of(path)
    kept: dict[str, Any] = json.loads(cache.read_text())
    assert list(kept) == [str(paths[1]), str(paths[2])]
