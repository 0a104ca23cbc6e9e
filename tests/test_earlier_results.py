"""A results folder of version 0.1.0: its records, plans and ledger are still read, shown and retried."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench import report
from bench.grid import Run
from bench.results import plans, record, submissions
from bench.slurm import client
from bench.slurm.client import Queue
from bench.status import summary
from bench.submission import retry_plans

FIXTURE = Path(__file__).parent / "fixtures" / "results_of_version_0.1"
CANCELLED, LOST = "27cdfe96f5d9", "80ac5f974c24"


@pytest.fixture
def results(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "results"))


def test_records_keep_their_ids_and_the_kinds_of_their_failures(results):
    records = {one.id: one for one in record.read_all(results)}
    assert len(records) == 9
    assert {one.status for one in records.values()} == {"ok", "failed"}
    assert records[LOST].failures == ("lost",)
    planned = {run.id: run for plan in plans.read_all(results) for run in plan.runs}
    assert planned.keys() == {*records, CANCELLED}
    assert all((run_id, planned[run_id]) == (one.id, Run(**one.run)) for run_id, one in records.items())
    assert all(planned[run_id].id == run_id for run_id in planned)


def test_the_table_is_the_one_that_version_0_1_printed(results, tmp_path):
    report.show_table(results, format="csv", output=tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    runs = table[table["kind"] == "run"]
    assert len(runs) == 5 and runs["n_ok"].tolist().count(2) == 4
    assert runs["pq_mean"].max() == 1.0 and runs.loc[runs["strategy"] == "classical", "pq_mean"].item() == 0.0
    assert "fold 2: failed (lost: job 5 on node2 was killed, SLURM says FAILED; see" in "".join(
        runs["reasons"].dropna()
    )


def test_the_status_knows_done_and_cancelled_runs_and_one_to_be_tried_again(results, monkeypatch):
    ledger = submissions.read(results)
    assert [len(ledger.open), len(ledger.closed), ledger.cancelled] == [1, 4, frozenset((CANCELLED,))]
    monkeypatch.setattr(client, "queue", lambda: Queue({}, "0@devcluster"))
    monkeypatch.setattr(client, "final_states", lambda jobs: {})
    status = summary.read(results)
    assert status.counts() == {"done": 8, "waiting": 1, "cancelled": 1}
    assert [(run.id, run.is_retry) for run in status.of("waiting")] == [(LOST, True)]
    assert {run.id for run in status.of("cancelled")} == {CANCELLED}


def test_while_slurm_is_silent_an_unfinished_job_counts_as_queued(results, monkeypatch):
    monkeypatch.setattr(client, "queue", lambda: None)
    assert summary.read(results).counts() == {"done": 8, "queued": 1, "cancelled": 1}


def test_retry_gives_out_the_runs_that_are_not_done(results, monkeypatch):
    executed = []
    monkeypatch.setattr(retry_plans, "execute", lambda plan, **_: executed.append(plan) or 0)
    monkeypatch.setattr(retry_plans, "choose_executor", lambda kind, *_: kind)
    code = retry_plans.retry_plans(results, console=Console(), failed=False, detach=False, profile="default")
    assert code == 0
    done = {one.id for one in record.read_all(results) if one.status == "ok"}
    assert {run.id for plan in executed for run in plan.runs} - done == {CANCELLED, LOST}
    assert {plan.data for plan in executed} == {Path("/data/study/images")}
    assert {plan.plugins for plan in executed} == {()}
