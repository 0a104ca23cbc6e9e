from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bench.errors import RecordError
from bench.results import record
from bench.results.record import RunRecord

RUN = {"backbone": "sam_nano", "strategy": "full", "fold": 1}


def make(**changes) -> RunRecord:
    return RunRecord(**({"id": "abc", "status": "ok", "run": RUN, "scores": {"pq": 0.5}} | changes))


def test_what_is_written_is_read_back(tmp_path):
    record.write(tmp_path, make(attempts=[{"status": "failed", "reason": "diverged: …"}]))
    assert record.read(tmp_path, "abc") == make(attempts=[{"status": "failed", "reason": "diverged: …"}])


def test_the_schema_version_leads_the_file(tmp_path):
    path = record.write(tmp_path, make())
    assert next(iter(json.loads(path.read_text()))) == "schema_version"
    assert path == tmp_path / "runs" / "abc" / "record.json"


def test_no_temporary_file_is_left(tmp_path):
    path = record.write(tmp_path, make())
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


def test_a_full_disk_leaves_the_earlier_record(tmp_path, monkeypatch):
    record.write(tmp_path, make(status="failed", reason="diverged: …"))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        record.write(tmp_path, make())
    found = record.read(tmp_path, "abc")
    assert found is not None and found.status == "failed"
    assert [p.name for p in (tmp_path / "runs" / "abc").iterdir()] == ["record.json"]


def test_nan_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write(tmp_path, make(scores={"pq": float("nan")}))
    assert not (tmp_path / "runs").exists()


def test_missing_record_is_none(tmp_path):
    assert record.read(tmp_path, "abc") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"record\.json can't be read as a record .*move it away and run again"),
        ("[]", r"is not a run record \(no schema_version\)"),
        ('{"schema_version": 99, "id": "abc"}', "has schema 99, this version reads up to 1; update nuclei-bench"),
        ('{"schema_version": 1, "id": "abc", "status": "ok"}', "lacks run; move it away"),
    ],
)
def test_unreadable_records_say_what_to_do(tmp_path, text, message):
    path = tmp_path / "runs" / "abc" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(RecordError, match=message):
        record.read(tmp_path, "abc")


def test_read_all_is_sorted_and_passes_over_unfinished_runs(tmp_path):
    for name in ("b", "a"):
        record.write(tmp_path, make(id=name))
    Path(tmp_path / "runs" / "unfinished").mkdir()
    assert [r.id for r in record.read_all(tmp_path)] == ["a", "b"]
    assert list(record.read_all(tmp_path / "nowhere")) == []


def test_failures_are_listed_oldest_first_with_the_last():
    earlier = [{"status": "failed", "reason": "lost: job 1"}, {"status": "skipped", "reason": "no"}]
    failed = make(status="failed", reason="diverged: nan", attempts=earlier)
    assert failed.failures == ("lost", "diverged")
    assert make(attempts=earlier).failures == ("lost",)


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "pq": [0.1]}, {"epoch": 2, "pq": []}]])
def test_lists_after_the_history_are_kept_when_it_is_left_out(tmp_path, history):
    cost = {"flops": 1, "history": history, "latency_busy_because": ["other processes"], "earlier_measurements": [{}]}
    record.write(tmp_path, make(cost=cost))
    read = record.read(tmp_path, "abc", history=False)
    assert read is not None and read.cost == {**cost, "history": []}
