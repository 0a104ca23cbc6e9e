from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from bench import claim, live, plan, progress, record
from bench.grid import FoldSettings, Grid, Settings
from bench.progress import Reporter
from bench.record import RunRecord


@pytest.fixture
def runs():
    settings = Settings(weights="random", folds=FoldSettings(n_splits=2))
    return plan.make(Grid("test", ("sam_nano",), ("full",), settings), "d").runs


def shown(view: live.View) -> str:
    text = StringIO()
    Console(file=text, width=120).print(view)
    return text.getvalue()


def test_the_view_counts_and_shows_what_runs(tmp_path, runs):
    view = live.View(tmp_path, runs, "2026-01-01T00:00:00+00:00", Console(file=StringIO()))
    assert "0 done · 0 running · 0 failed · 4 waiting" in shown(view)
    folder = record.folder(tmp_path, runs[2].id)
    held = claim.acquire(folder)
    assert held is not None
    Reporter(folder)("training", {"epoch": 3, "epochs": 9, "loss": 0.5, "images_per_s": 12.0, "eta_s": 125.0})
    record.write(tmp_path, RunRecord(id=runs[0].id, status="ok", run=runs[0].as_dict()))
    failed = RunRecord(
        id=runs[1].id, status="failed", run=runs[1].as_dict(), reason="diverged: the loss became nan",
        provenance={"ended": "2026-01-02T00:00:00+00:00"},
    )  # fmt: skip
    record.write(tmp_path, failed)
    text = shown(view)
    assert "1 done · 1 running · 1 failed · 1 waiting" in text
    for part in ("sam_nano full", "training", "3/9", "0.500", "12.0", "2 min"):
        assert part in text, part
    assert view.failures() == [failed]


def test_progress_of_a_dead_process_is_not_shown_as_running(tmp_path, runs):
    folder = record.folder(tmp_path, runs[0].id)
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"phase": "training", "epoch": 1, "epochs": 2}))
    view = live.View(tmp_path, runs, "2026", Console(file=StringIO()))
    assert "0 running" in shown(view)


def test_elsewhere_each_finished_run_is_one_line(tmp_path, runs):
    out = StringIO()
    view = live.View(tmp_path, runs, "2026-01-01T00:00:00+00:00", Console(file=out, width=40))
    scores = {"pq": 0.5, "aji": 0.25, "dice": 0.75}
    cost = {"train_seconds": 60.0, "evaluate_seconds": 5.0}
    record.write(
        tmp_path, RunRecord(id=runs[3].id, status="ok", run=runs[3].as_dict(), scores=scores, cost=cost)
    )
    with live.shown(view):
        pass
    assert out.getvalue() == "[1/4] ok     sam_nano full fold 2: PQ 0.500  AJI 0.250  Dice 0.750  (65 s)\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (600, "10 min"), (11100, "3 h 05 min")]
)
def test_durations_read_as_people_write_them(seconds, text):
    assert live.span(seconds) == text


def test_progress_is_written_at_most_once_a_second_but_at_every_phase(tmp_path):
    report, seen = Reporter(tmp_path), []
    for step in range(100):
        report("training", {"step": step})
        seen.append(progress.read(tmp_path)["step"])
    assert seen[0] == 0 and len(set(seen)) < 10
    report("evaluating", {"image": 1})
    assert progress.read(tmp_path)["phase"] == "evaluating"
    report.clear()
    assert list(tmp_path.iterdir()) == []
