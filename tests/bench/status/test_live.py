from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.results import progress, record, run_lock
from bench.results.progress import ProgressWriter
from bench.results.record import RunRecord
from bench.results.submissions import Ledger, Submission
from bench.slurm.client import Queue, QueuedJob
from bench.status import live


@pytest.fixture
def runs():
    settings = Settings(weights="random", folds=FoldSettings(n_splits=2))
    return plan.make(Grid("test", ("sam_nano",), ("full",), settings), "d").runs


@pytest.fixture
def view(tmp_path, runs):
    return live.View(results=tmp_path, runs=runs, is_final=is_final, console=Console(file=StringIO(), width=120))


def is_final(entry):
    return entry.status == "failed" and not str(entry.reason).startswith("lost:")


def drawn(view: live.View) -> str:
    text = StringIO()
    Console(file=text, width=120).print(view)
    return text.getvalue()


def finish(results, run, **values):
    values = {
        "status": "ok",
        "scores": {"pq": 0.5, "aji": 0.25, "dice": 0.75},
        "cost": {"train_seconds": 60.0, "evaluate_seconds": 5.0},
    } | values
    record.write(results, RunRecord(id=run.id, run=run.as_dict(), **values))


def test_a_signal_in_the_midst_of_a_refresh_may_draw_the_view(tmp_path, runs, view, monkeypatch):
    entered = []

    def refresh(index, ids=None):
        if not entered:
            entered.append(view._lock.acquire(blocking=False))  # else drawing would wait for ever
            assert entered == [True]
            view._lock.release()
            drawn(view)
        return read(index, ids)

    read = live.Index.refresh
    monkeypatch.setattr(live.Index, "refresh", refresh)
    finish(tmp_path, runs[0])
    assert [entry.id for entry in view.refresh()] == [runs[0].id]
    assert view.counts() == {"done": 1, "failed": 0, "all": 4}


def test_the_view_counts_and_shows_what_runs(tmp_path, runs, view):
    assert "✓ 0 done · ▸ 0 running · ○ 4 waiting · ✗ 0 failed · 0 s" in drawn(view)
    folder = record.folder(tmp_path, runs[2].id)
    assert run_lock.acquire(folder) is not None
    ProgressWriter(folder)("training", {"epoch": 3, "epochs": 9, "loss": 0.5, "images_per_s": 12.0, "eta_s": 125.0})
    finish(tmp_path, runs[0])
    finish(tmp_path, runs[1], status="failed", reason="diverged: the loss became nan", scores=None, cost=None)
    text = drawn(view)
    assert "✓ 1 done · ▸ 1 running · ○ 1 waiting · ✗ 1 failed" in text
    for part in (runs[2].id[:8], "sam_nano full", "training", "3/9", "0.500", "12.0", "2 min"):
        assert part in text, part
    assert [one.reason for one in view.failures()] == ["diverged: the loss became nan"]
    assert view.counts() == {"done": 1, "failed": 1, "all": 4}


def test_a_failure_that_is_tried_again_counts_as_waiting_until_it_is_final(tmp_path, runs, view):
    finish(tmp_path, runs[0], status="failed", reason="lost: its node failed")
    assert view.refresh() == [] and "○ 4 waiting · ✗ 0 failed" in drawn(view)
    finish(tmp_path, runs[0], status="failed", reason="KeyError: 'x'")
    assert [one.reason for one in view.refresh()] == ["KeyError: 'x'"]
    assert view.refresh() == []


def test_what_was_done_before_is_counted_but_not_told_again(tmp_path, runs):
    finish(tmp_path, runs[0])
    out = StringIO()
    view = live.View(results=tmp_path, runs=runs, is_final=is_final, console=Console(file=out, width=40))
    view.print_new()
    assert out.getvalue() == "" and view.counts() == {"done": 1, "failed": 0, "all": 4}


def test_queued_runs_are_told_with_slurms_reasons(runs, view):
    ids = tuple((run.id,) for run in runs)
    view.ledger = Ledger((Submission("t", "bench-t", "7", ids[:3], "jobs/%j", "2026", True, "me"),), (), frozenset())
    pending = [
        QueuedJob(f"7_{i}", "bench-t", "PENDING", why, "", 0.0, None)
        for i, why in enumerate(("Priority", "Priority", "Resources"))
    ]
    view.queue = Queue({job.id: job for job in pending}, "me")
    text = drawn(view)
    assert "▸ 0 running · ≡ 3 queued · ○ 1 waiting" in text
    assert "3 queued: Priority 2, Resources 1" in text
    view.queue = Queue({}, "me")  # asked before the jobs were submitted
    assert "3 queued: just submitted 3" in drawn(view)
    view.queue = None
    assert "3 queued: SLURM does not answer 3" in drawn(view)


def test_the_table_of_what_runs_keeps_to_the_height_of_the_terminal(tmp_path, runs):
    console = Console(file=StringIO(), width=120, height=9)
    view = live.View(results=tmp_path, runs=runs, is_final=is_final, console=console)
    for run in runs:
        run_lock.acquire(record.folder(tmp_path, run.id))
    assert "▸ 4 running" in drawn(view) and "and 1 more" in drawn(view)


def test_progress_of_a_dead_process_is_not_shown_as_running(tmp_path, runs, view):
    folder = record.folder(tmp_path, runs[0].id)
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"phase": "training", "epoch": 1, "epochs": 2}))
    assert "0 running" in drawn(view)


def test_elsewhere_each_finished_run_is_one_line(tmp_path, runs, view):
    finish(tmp_path, runs[3])
    with live.shown(view):
        pass
    told = view.console.file.getvalue()
    assert told == "[1/4] ok     sam_nano full fold 2: PQ 50.0 %  AJI 25.0 %  Dice 75.0 %  (65 s)\n"


def test_finished_run_on_a_shared_device_is_shown_without_a_duration(tmp_path, runs, view):
    finish(tmp_path, runs[3], cost={"train_seconds": None, "evaluate_seconds": None})
    with live.shown(view):
        pass
    assert view.console.file.getvalue().endswith("fold 2: PQ 50.0 %  AJI 25.0 %  Dice 75.0 %\n")


def test_progress_is_written_at_most_once_a_second_but_at_every_phase(tmp_path):
    report, seen = ProgressWriter(tmp_path), []
    for step in range(100):
        report("training", {"step": step})
        seen.append(progress.read(tmp_path)["step"])
    assert seen[0] == 0 and len(set(seen)) < 10
    report("evaluating", {"image": 1})
    assert progress.read(tmp_path)["phase"] == "evaluating"
    report.clear()
    assert list(tmp_path.iterdir()) == []
