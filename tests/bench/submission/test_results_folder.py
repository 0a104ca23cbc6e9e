"""Presence of the results folder under a command that follows runs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.submission.results_folder import PresenceCheck, check_writable


@pytest.fixture
def times() -> list[float]:
    """Times that the clock shows, one after another."""
    return []


@pytest.fixture
def is_present(tmp_path: Path, times: list[float]) -> PresenceCheck:
    return PresenceCheck(tmp_path, clock=lambda: times.pop(0))


def test_an_absence_counts_after_thirty_seconds(tmp_path: Path, times: list[float], is_present: PresenceCheck) -> None:
    times += [100.0, 115.0, 129.9, 130.0]
    assert [is_present() for _ in range(3)] == [False] * 3
    with pytest.raises(BenchError, match=r"the results folder .* is gone: .* give the same command again"):
        is_present()


def test_a_folder_that_comes_back_is_present_and_the_next_absence_is_a_new_one(
    tmp_path: Path, times: list[float], is_present: PresenceCheck
) -> None:
    times += [100.0, 120.0, 135.0, 150.0]
    assert [is_present(), is_present()] == [False, False]
    (tmp_path / "plans").mkdir()
    assert is_present()
    (tmp_path / "plans").rmdir()
    assert [is_present(), is_present()] == [False, False]


def test_two_polls_far_apart_are_too_few(times: list[float], is_present: PresenceCheck) -> None:
    times += [100.0, 900.0]  # the process was stopped between them
    assert [is_present(), is_present()] == [False, False]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_file_system_that_fails_is_waited_for_and_reported_once(
    tmp_path: Path, is_present: PresenceCheck, monkeypatch, caplog, number: int
) -> None:
    def fail(path: Path) -> None:
        raise OSError(number, "it fails", str(path))

    monkeypatch.setattr(Path, "stat", fail)
    answers = [is_present() for _ in range(5)]
    monkeypatch.undo()
    assert answers == [False] * 5
    assert caplog.messages == [f"the results folder {tmp_path} can't be read (it fails); waiting."]


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch) -> None:
    check_writable(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []

    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    message = r"is on a file system without hard links \(Operation not permitted\), by which processes keep from doing"
    with pytest.raises(BenchError, match=message):
        check_writable(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []
