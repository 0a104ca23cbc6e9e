"""The summary of a results folder: what it says, what it reads, and what it never looks at again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from fabricated import many, record, run, write_many

import bench.results.record
from bench.errors import RecordError
from bench.results import index
from bench.results.index import Entry, Index
from bench.results.record import RunRecord


def written(results: Path, one: RunRecord) -> Path:
    return bench.results.record.write(results, one)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs whose records were opened, in order."""
    found: list[str] = []
    read = index._read

    def counted(path: Path) -> Any:
        found.append(path.parent.name)
        return read(path)

    monkeypatch.setattr(index, "_read", counted)
    return found


def test_an_entry_says_what_the_record_says(tmp_path: Path) -> None:
    asked = run(fold=3)
    origin = {
        "gpu": "NVIDIA A100",
        "host": "login",
        "node": "gpu-7",
        "slurm_job_id": "12_3",
        "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T11:00:00+00:00",
    }
    attempts = [{"status": "failed", "reason": "lost: node gpu-3 failed"}, {"status": "skipped", "reason": "x"}]
    written(tmp_path, replace(record(asked, pq=0.5), provenance=origin, attempts=attempts))
    (entry,) = Index(tmp_path).refresh()
    assert entry == Entry(
        id=record(asked).id,
        status="ok",
        reason=None,
        failures=("lost",),
        backbone="mobile_sam",
        strategy="lora_qv",
        fold=3,
        ended="2026-01-01T11:00:00+00:00",
        seconds=3072.0,
        pq=0.5,
        aji=0.6,
        dice=0.8,
        node="gpu-7",
        job="12_3",
    )


def test_failures_are_the_kinds_of_all_failed_attempts_with_the_last_one_last(tmp_path: Path) -> None:
    failed = replace(
        record(run(), status="failed", reason="error: second"), attempts=[{"status": "failed", "reason": "lost: first"}]
    )
    written(tmp_path, failed)
    (entry,) = Index(tmp_path).refresh()
    assert entry.failures == ("lost", "error") == failed.failures
    assert (entry.reason, entry.pq, entry.seconds, entry.node) == ("error: second", None, None, None)


def test_what_a_record_lacks_is_none(tmp_path: Path) -> None:
    written(tmp_path, replace(record(run(), cost={"device": "cpu", "train_seconds": 5.0}), provenance=None))
    (entry,) = Index(tmp_path).refresh()
    assert (entry.node, entry.job, entry.ended, entry.seconds) == (None, None, None, 5.0)


def test_only_what_is_new_or_changed_is_read(tmp_path: Path, reads: list[str]) -> None:
    ok, failed = record(run(fold=1)), record(run(fold=2), status="failed", reason="lost: x")
    for one in (ok, failed):
        written(tmp_path, one)
    summary = Index(tmp_path)
    assert {entry.id for entry in summary.refresh()} == {ok.id, failed.id} == set(reads)
    assert summary.refresh() == []
    assert len(reads) == 2
    written(tmp_path, record(run(fold=2), pq=0.4))
    new = record(run(fold=3))
    written(tmp_path, new)
    found = summary.refresh()
    assert {entry.id: entry.status for entry in found} == {failed.id: "ok", new.id: "ok"}
    assert summary.entries[failed.id].pq == 0.4
    assert sorted(reads[2:]) == sorted([failed.id, new.id])


def test_a_run_that_is_ok_is_never_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, failed = record(run(fold=1)), record(run(fold=2), status="failed", reason="lost: x")
    for one in (ok, failed):
        written(tmp_path, one)
    summary, looked = Index(tmp_path), []
    summary.refresh()
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: looked.append(path.parent.name) or stat(path, **how))
    summary.refresh()
    summary.refresh([ok.id, failed.id])
    assert [name for name in looked if name in (ok.id, failed.id)] == [failed.id, failed.id]


def test_runs_that_were_not_asked_for_are_left_alone(tmp_path: Path, reads: list[str]) -> None:
    one, other = record(run(fold=1)), record(run(fold=2))
    for each in (one, other):
        written(tmp_path, each)
    summary = Index(tmp_path)
    assert [entry.id for entry in summary.refresh([one.id, "never started"])] == [one.id]
    assert reads == [one.id]
    assert summary.refresh([one.id]) == []
    assert [entry.id for entry in summary.refresh()] == [other.id]


def test_a_look_at_finished_runs_alone_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = record(run())
    written(tmp_path, one)
    summary = Index(tmp_path)
    summary.refresh()
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("looked at the folder"))
    assert summary.refresh([one.id]) == []


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    ok, failed = record(run(fold=1)), record(run(fold=2), status="failed", reason="lost: x")
    paths = [written(tmp_path, one) for one in (ok, failed)]
    summary = Index(tmp_path)
    summary.refresh()
    paths[1].unlink()  # moved away; its folder still stands
    shutil.rmtree(paths[0].parent)
    assert summary.refresh() == []
    assert summary.entries == {}


def test_no_results_and_unfinished_runs_make_no_entries(tmp_path: Path) -> None:
    summary = Index(tmp_path)
    assert summary.refresh() == []
    (tmp_path / "runs" / "0123456789ab").mkdir(parents=True)
    assert summary.refresh() == []
    assert summary.unreadable == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"schema_version": 1, "id": 3}',
        '{"schema_version": 99, "id": "x", "status": "ok", "run": {}}',
        '{"id": "x", "status": "ok", "run": {}}',
        '{\n "schema_version": 1,\n "cost": {\n  "history": [\n',
    ],
)
def test_the_unreadable_are_told_as_elsewhere_and_noticed_when_mended(tmp_path: Path, text: str) -> None:
    one = record(run())
    path = written(tmp_path, one)
    path.write_text(text, encoding="utf-8")
    summary = Index(tmp_path)
    assert summary.refresh() == []
    with pytest.raises(RecordError) as raised:
        bench.results.record.read(tmp_path, one.id)
    assert summary.unreadable == {one.id: str(raised.value)}
    written(tmp_path, one)
    assert [entry.id for entry in summary.refresh()] == [one.id]
    assert summary.unreadable == {}


def test_a_record_without_a_backbone_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, RunRecord(id="x", status="ok", run={"fold": 1}))
    summary = Index(tmp_path)
    assert summary.refresh() == []
    sentence = f"{path} is not a run record (KeyError: 'backbone'); move it away and run again."
    assert summary.unreadable == {"x": sentence}


@pytest.mark.parametrize("how", [{"indent": 1}, {"indent": 2}, {"indent": "\t"}, {}, {"separators": (",", ":")}])
@pytest.mark.parametrize("history", [[], [1], [[1], [2]], [{"epoch": 1, "scores": [1]}, {"epoch": 2}]])
@pytest.mark.parametrize("last", [True, False])
def test_leaving_the_history_out_changes_nothing_else(how: Any, history: list[Any], last: bool) -> None:
    cost = {"history": history, "device": 'cuda\n  "history": [\n  ]'}
    cost = dict(reversed(cost.items())) if last else cost
    values = asdict(replace(record(run()), cost=cost, reason='\n  "history": [\n'))
    found = index._values(json.dumps(values, **how).encode())
    assert found is not None
    assert found["cost"].pop("history") in ([], history)
    assert {**found, "cost": {**found["cost"], "history": history}} == values


def test_the_history_of_what_we_write_is_left_out(tmp_path: Path) -> None:
    one = next(many(1, 1))
    found = index._values(written(tmp_path, one).read_bytes())
    assert found is not None
    assert len((one.cost or {})["history"]) == 60
    assert found["cost"]["history"] == []


def test_a_study_is_summarised_as_its_records_say(tmp_path: Path) -> None:
    ids = write_many(tmp_path, rows=20)
    summary = Index(tmp_path)
    assert [entry.id for entry in summary.refresh()] == sorted(ids)
    for one in bench.results.record.read_all(tmp_path):
        entry, scores = summary.entries[one.id], one.scores or {}
        assert (entry.status, entry.reason, entry.failures) == (one.status, one.reason, one.failures)
        assert (entry.pq, entry.fold) == (scores.get("pq"), one.run["fold"])
    assert sum(entry.status == "failed" for entry in summary.entries.values()) == 2  # runs 40 and 80 of 100
