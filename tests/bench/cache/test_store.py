"""Folder of cached embeddings: shared by processes, bounded, and never the reason why a run fails."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from bench.cache import store
from bench.cache.store import GRACE_S, LIMIT, Store, limit_bytes

SHAPE = (256, 2, 2)
ENTRY_BYTES = 2 * 256 * 4 + 256


def kept(value: float) -> torch.Tensor:
    return torch.full(SHAPE, value, dtype=torch.float16)


def path_of(cache: Store, number: int) -> Path:
    path = cache.path("sam_nano", "synthetic", {"image": str(number)})
    assert path is not None
    return path


def value(cache: Store, number: int) -> float | None:
    found = cache.read(path_of(cache, number), "float32")
    return None if found is None else float(found.mean())


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def rescanned(cache: Store) -> Store:
    """The store as another process opens it, which measures the folder before its first entry."""
    return Store(cache.root, cache.limit)


def test_path_depends_on_every_fact_and_on_the_names(tmp_path):
    cache = Store(tmp_path, 10**9)
    facts = {"image": "a", "scale": None, "turn": 0}
    paths = {cache.path("sam_nano", "synthetic", facts)}
    paths |= {cache.path("sam_nano", "synthetic", {**facts, name: 1}) for name in facts}
    paths |= {cache.path("a/b", "synthetic", facts), cache.path("sam_nano", "..", facts)}
    assert len(paths) == 6
    assert all(path.resolve().is_relative_to(tmp_path) for path in paths if path)


def test_damaged_entry_counts_as_missing_with_a_warning_and_is_replaced(tmp_path, caplog):
    cache = Store(tmp_path, 10**9)
    assert value(cache, 1) is None
    cache.write(path_of(cache, 1), kept(1))
    assert value(cache, 1) == 1
    path = path_of(cache, 1)
    path.write_bytes(path.read_bytes()[:-9])
    other = rescanned(cache)
    assert value(other, 1) is None
    (warning,) = caplog.messages
    assert warning.startswith(f"The cached embedding {path} is damaged (")
    assert warning.endswith("); it is computed again.")
    other.write(path, kept(1))
    assert value(other, 1) == 1


def test_entries_that_were_not_used_for_longest_leave_first_and_the_bound_holds(tmp_path):
    cache = Store(tmp_path, limit=10 * ENTRY_BYTES)
    for number in range(10):
        cache.write(path_of(cache, number), kept(number))
        aged(path_of(cache, number), 10_000 - number)
    assert value(cache, 0) == 0  # used now, so number 1 is the oldest
    mapped = store.entry.read(path_of(cache, 1), verify=False)

    cache = rescanned(cache)
    cache.write(path_of(cache, 10), kept(10))
    assert [number for number in range(11) if value(cache, number) is None] == [1, 2, 10]
    assert float(mapped.float().mean()) == 1  # whoever had opened it reads on
    evicted = list((tmp_path / store.EVICTED).iterdir())
    assert len(evicted) == 2
    assert sum(file.n_bytes for file in store.files(tmp_path)) <= cache.limit

    for path in evicted:  # their time is over: they are deleted, and there is room
        path.rename(path.with_name(f"{time.time() - GRACE_S - 1:.0f}-{path.name}"))
    cache = rescanned(cache)
    cache.write(path_of(cache, 10), kept(10))
    assert value(cache, 10) == 10 and list((tmp_path / store.EVICTED).iterdir()) == []


def test_entries_in_use_are_never_removed(tmp_path):
    cache = Store(tmp_path, limit=4 * ENTRY_BYTES)
    for number in range(6):
        cache.write(path_of(cache, number), kept(number))
        cache = rescanned(cache)
    assert [value(cache, number) for number in range(6)] == [0, 1, 2, 3, None, None]


def test_file_that_a_killed_process_left_unfinished_is_deleted_in_the_end(tmp_path):
    cache = Store(tmp_path, 10**9)
    left = path_of(cache, 1).with_name(".x.tmp")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    cache.write(path_of(cache, 1), kept(1))
    assert left.exists()
    aged(left, GRACE_S + 1)
    rescanned(cache).write(path_of(cache, 2), kept(2))
    assert not left.exists()


def _write_and_read(root: Path, rounds: int, failures: multiprocessing.Queue) -> None:
    cache = Store(root, limit=6 * ENTRY_BYTES)
    for _ in range(rounds):
        for number in range(8):
            found = value(rescanned(cache), number)
            if found not in (None, number):
                failures.put((number, found))
            cache.write(path_of(cache, number), kept(number))
            with suppress(FileNotFoundError):
                aged(path_of(cache, number), 10_000)
        cache = rescanned(cache)


def test_processes_that_write_the_same_entries_never_break_one_another(tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    processes = [context.Process(target=_write_and_read, args=(tmp_path, 20, failures)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert failures.empty() and [process.exitcode for process in processes] == [0, 0, 0]
    assert list((tmp_path / store.EVICTED).iterdir()) != []  # they were removed under the readers, too


def test_folder_that_cannot_be_written_is_warned_about_once(tmp_path, caplog):
    (tmp_path / "sam_nano").write_text("a file where the folder should be")
    cache = Store(tmp_path, 10**9)
    for number in (1, 2):
        cache.write(path_of(cache, number), kept(number))
    assert caplog.messages == [
        f"Embeddings can't be cached in {tmp_path / 'sam_nano/synthetic'} (Not a directory); this run computes what is "
        "missing. See `bench cache size`."
    ]


def test_full_disk_is_warned_about_once_and_leaves_no_file(tmp_path, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = Store(tmp_path, 10**9)
    for number in (1, 2):
        cache.write(path_of(cache, number), kept(number))
    assert len(caplog.messages) == 1 and "(No space left on device)" in caplog.text
    assert list(store.files(tmp_path)) == []


def test_a_gigabyte_is_left_free_on_the_disk(tmp_path, monkeypatch):
    usage = store.shutil._ntuple_diskusage(10**12, 10**12 - 9 * 10**8, 9 * 10**8)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    cache = Store(tmp_path, 10**9)
    cache.write(path_of(cache, 1), kept(1))
    assert value(cache, 1) is None


@pytest.mark.parametrize(("text", "limit"), [("", 50e9), ("0", 0), ("0.5", 5e8), ("many", 50e9), ("-1", 50e9)])
def test_limit_comes_from_the_environment(monkeypatch, caplog, text, limit):
    monkeypatch.setenv(LIMIT, text)
    assert limit_bytes() == limit
    assert ("allowed is 0 or more" in caplog.text) == (text in ("many", "-1"))


def test_limit_of_zero_and_a_user_without_home_keep_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(LIMIT, "0")
    cache = store.open_store()
    cache.write(path_of(cache, 1), kept(1))
    assert value(cache, 1) is None and caplog.messages == []

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    cache = store.open_store()
    path = cache.path("sam_nano", "synthetic", {})
    cache.write(path, kept(1))
    assert path is None and cache.read(path, "float32") is None
    assert caplog.messages[0].startswith("Embeddings are not cached: there is no folder for the cache")
