"""`bench cache`: what is cached, and its removal."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.cache import usage
from bench.cache.store import EVICTED, LIMIT, Store
from bench.cli import app, cache

RUNNER = CliRunner()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache with three entries of two backbones, and a file that was evicted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(LIMIT, raising=False)
    root = tmp_path / "nuclei-bench" / "embeddings"
    store = Store(root, 10**9)
    for backbone, turn in (("sam_nano", 0), ("sam_nano", 1), ("tiny_sam", 0)):
        path = store.path(backbone, "my data", {"turn": turn})
        assert path is not None
        store.write(path, torch.ones(256, 64, 64, dtype=torch.float16))
        os.utime(path, (time.time() - 7230, time.time() - 7230))
    (root / EVICTED).mkdir()
    (root / EVICTED / "1-x").write_bytes(bytes(10**6))
    return root


def lines(*arguments: str, answer: str | None = None, code: int = 0) -> list[str]:
    result = RUNNER.invoke(app, ["cache", *arguments], input=answer)
    assert result.exit_code == code, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def test_size_lists_backbones_and_datasets_the_total_and_the_limit(root, monkeypatch):
    shown = lines("size")
    assert "sam_nano my data 2 4 MB 2 h 00 min ago" in shown
    assert "tiny_sam my data 1 2 MB 2 h 00 min ago" in shown
    assert any(line.startswith("(to be deleted) 1 1 MB") for line in shown)
    assert shown[-1] == f"7 MB in {root}; limit 50.0 GB (BENCH_EMBEDDINGS_GB)"
    monkeypatch.setenv(LIMIT, "120")
    assert lines("size", "tiny_sam")[-1] == f"2 MB in {root}; limit 120.0 GB (BENCH_EMBEDDINGS_GB)"


def test_clear_asks_and_removes_what_was_chosen(root):
    assert "Remove 2 files, 4 MB, from" in lines("clear", "sam_nano", answer="n\n", code=1)[0]
    assert len(usage.groups(root)) == 3
    assert lines("clear", "sam_nano", answer="y\n")[-1].endswith("Removed 4 MB.")
    assert {group.backbone for group in usage.groups(root)} == {"tiny_sam", ""}
    assert not (root / "sam_nano").exists() and (root / "tiny_sam" / "my%20data").is_dir()


def test_clear_without_names_removes_all_and_leaves_other_files_of_the_folder(root):
    (root.parent / "weights").mkdir()
    assert lines("clear", "--yes") == ["Removed 7 MB."]
    assert list(root.iterdir()) == [] and (root.parent / "weights").exists()
    assert lines("clear", "--yes") == ["There are no cached embeddings."]
    assert lines("clear", "sam_nano", "--yes") == ["There are no cached embeddings of sam_nano."]
    assert lines("size") == [f"0 MB in {root}; limit 50.0 GB (BENCH_EMBEDDINGS_GB)"]


def test_shell_completes_backbones_with_the_size_of_their_embeddings(root):
    assert sorted(cache._cached_backbones("")) == [("sam_nano", "4 MB"), ("tiny_sam", "2 MB")]
    assert cache._cached_backbones("t") == [("tiny_sam", "2 MB")]
