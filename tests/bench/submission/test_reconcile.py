"""Jobs that ended and the records of their runs, on made-up queues; tests/cluster has a real one."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.results import record, run_lock, submissions
from bench.results.record import RunRecord
from bench.slurm import client
from bench.submission import controller, reconcile
from bench.worker.job import JobResult
from bench.worker.settings import WorkerSettings

OWNER = "0@test"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "final_states", lambda ids: {})
    monkeypatch.setattr(client, "cancel", lambda ids: [])
    return World(tmp_path)


class World:
    """Four runs in two tasks of one submission, and a queue with the states that a test sets."""

    def __init__(self, results):
        grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=4)))
        self.results = results
        self.runs = plan.make(replace(grid, classical=False), "d").runs
        self.known = {run.id: run for run in self.runs}
        ids = [run.id for run in self.runs]
        unconfirmed = submissions.begin(results, [ids[:2], ids[2:]], submitted="now", owner=OWNER)
        self.submission = submissions.confirm(results, unconfirmed, "7")
        self.states = {"7_0": "RUNNING", "7_1": "RUNNING"}

    def queue(self):
        jobs = {
            name: client.QueuedJob(name, self.submission.job_name, state, "", "node1", 1.0, None)
            for name, state in self.states.items()
        }
        return client.Queue(jobs, OWNER)

    def hold(self, run, job):
        """Leave the lock of a process of `job` that died on another host."""
        folder = record.folder(self.results, run.id)
        folder.mkdir(parents=True)
        holder = {"token": "t" * 32, "host": "far", "pid": 1, "born": "x", "job": job, "restarts": 0}
        (folder / run_lock.FILENAME).write_text(json.dumps(holder))

    def leave(self, job, value, how="success"):
        """Write the result file of submitit."""
        import cloudpickle

        folder = self.results / "jobs" / self.submission.token / job
        folder.mkdir(parents=True)
        (folder / f"{job}_0_result.pkl").write_bytes(cloudpickle.dumps((how, value)))

    def reconcile(self):
        return reconcile.reconcile(
            submissions.read(self.results),
            self.queue(),
            settings=WorkerSettings(self.results, self.results),
            known=self.known,
        )

    def reasons(self):
        return {one.id: one.reason for one in record.read_all(self.results)}

    def kinds(self):
        return {one.id: (one.failure or {}).get("kind") for one in record.read_all(self.results)}


def test_live_jobs_are_left_alone(world):
    world.hold(world.runs[0], "7_0")
    reconciled = world.reconcile()
    assert len(list(reconciled.ledger.open_tasks())) == 2 and world.reasons() == {}
    assert run_lock.holder(record.folder(world.results, world.runs[0].id)) is not None


@pytest.mark.parametrize(
    ("state", "kind", "reason"),
    [
        ("FAILED", "lost", "lost: job 7_0 on node1 was killed, SLURM says FAILED; see "),
        ("NODE_FAIL", "node_failed", "node failed: job 7_0 on node1 ended with it."),
        ("TIMEOUT", "timed_out", "timed out: job 7_0 on node1 met its time limit before it could save and requeue"),
        (
            "OUT_OF_MEMORY",
            "out_of_memory",
            "out of memory: SLURM killed job 7_0 on node1: host memory, see memory_gb_per_gpu",
        ),
        (None, "lost", "lost: job 7_0 disappeared from the queue, and SLURM gives no final state; see "),
    ],
)
def test_the_run_of_a_killed_job_gets_a_record_with_the_kind_of_its_failure(world, state, kind, reason):
    world.hold(world.runs[1], "7_0")
    if state is None:
        del world.states["7_0"]
    else:
        world.states["7_0"] = state
    reconciled = world.reconcile()
    assert reconciled.has_progress and reconciled.jobs_without_record == 0
    ((run_id, recorded),) = world.reasons().items()
    assert run_id == world.runs[1].id and recorded.startswith(reason)
    assert world.kinds() == {run_id: kind}
    # Both runs of the job are free again; those of the other are not.
    assert set(reconciled.ledger.assigned()) == {run.id for run in world.runs[2:]}
    assert run_lock.acquire(record.folder(world.results, world.runs[1].id)) is not None


def test_accounting_knows_jobs_that_the_queue_has_forgotten(world, monkeypatch):
    calls = []
    monkeypatch.setattr(client, "final_states", lambda ids: calls.append(ids) or {"7_0": "NODE_FAIL"})
    world.hold(world.runs[0], "7_0")
    del world.states["7_0"]
    world.reconcile()
    assert calls == [["7_0"]]
    assert world.reasons()[world.runs[0].id] == "node failed: job 7_0 ended with it."


def test_a_job_stopped_before_it_began_a_run_costs_its_first_run_a_time_out(world):
    first, second = world.runs[:2]
    record.write(world.results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True))  # else a limit shorter than the imports would have no end
    reconciled = world.reconcile()
    assert world.reasons()[second.id].startswith("timed out: job 7_0 was told to end") and reconciled.has_progress
    assert set(reconciled.ledger.assigned()) == {run.id for run in world.runs[2:]}


def test_a_stopped_job_that_was_not_requeued_counts_as_a_time_out(world):
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True, left=(world.runs[0].id,)))
    world.reconcile()
    assert world.reasons() == {
        world.runs[0].id: "timed out: job 7_0 was told to end and was not requeued; its state is saved."
    }


def test_a_cancelled_job_cancels_its_unfinished_runs(world):
    done, open_ = world.runs[:2]
    record.write(world.results, RunRecord(id=done.id, status="ok", run=done.as_dict()))
    world.states["7_0"] = "CANCELLED"
    reconciled = world.reconcile()
    assert reconciled.ledger.cancelled == {open_.id} and list(world.reasons().values()) == [None]


def test_jobs_that_began_no_run_are_counted_and_their_error_is_reported(world):
    world.states = {"7_0": "FAILED", "7_1": "FAILED"}
    world.leave("7_1", "Traceback\nModuleNotFoundError: No module named 'torch'", how="error")
    reconciled = world.reconcile()
    assert reconciled.jobs_without_record == 1
    assert reconciled.errors == [
        ("ModuleNotFoundError: No module named 'torch'", frozenset(run.id for run in world.runs[2:]))
    ]
    assert reconciled.ledger.open == () and len(reconciled.ledger.closed) == 1


def test_a_submission_whose_command_died_is_found_by_its_job_name(world, monkeypatch):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.submission, world.states = orphan, {"9": "PENDING"}
    cancelled = []
    monkeypatch.setattr(client, "cancel", lambda ids: cancelled.extend(ids) or [])
    folder = world.results / "jobs" / orphan.token / "9"
    folder.mkdir(parents=True)
    (folder / "9_submitted.pkl").touch()
    reconciled = world.reconcile()
    assert {run: task.job_id for run, task in reconciled.ledger.assigned().items()} == {world.runs[0].id: "9"}
    assert cancelled == []


def test_jobs_without_their_pickles_are_ended(world, monkeypatch):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.submission, world.states = orphan, {"9": "PENDING"}
    cancelled = []
    monkeypatch.setattr(client, "cancel", lambda ids: cancelled.extend(ids) or [])
    assert world.reconcile().ledger.assigned() == {} and cancelled == ["9"]


def test_a_submission_that_sbatch_never_got_is_closed_after_a_while(world):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.states = {}
    assert set(world.reconcile().ledger.assigned()) == {world.runs[0].id}  # sbatch may still be at it
    path = submissions.path(world.results, orphan)
    long_ago = path.stat().st_mtime - reconcile.UNCONFIRMED_S - 1
    os.utime(path, (long_ago, long_ago))
    assert world.reconcile().ledger.assigned() == {}


def test_a_run_of_killed_jobs_is_due_again_until_the_limit(world):
    settings, run = WorkerSettings(world.results, world.results), world.runs[0]
    for number in range(1, 5):
        world.hold(run, "7_0") if number == 1 else claim_again(world, run)
        world.states["7_0"] = "FAILED"
        world.reconcile()
        due = controller.pending([run], settings, {})
        assert bool(due) == (number <= settings.limits.lost), number
        unconfirmed = submissions.begin(world.results, [[run.id], ["x"]], submitted="now", owner=OWNER)
        world.submission = submissions.confirm(world.results, unconfirmed, "7")
    last = record.read(world.results, run.id)
    assert last is not None and len(last.failures) == 4


def claim_again(world, run):
    folder = record.folder(world.results, run.id)
    holder = {"token": "u" * 32, "host": "far", "pid": 1, "born": "x", "job": "7_0", "restarts": 0}
    (folder / run_lock.FILENAME).write_text(json.dumps(holder))


def test_a_completed_job_without_records_is_counted(world):
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult())  # it wrote its records elsewhere, say
    assert world.reconcile().jobs_without_record == 1


def test_a_job_whose_runs_another_process_did_is_not_counted(world):
    for run in world.runs[:2]:
        record.write(world.results, RunRecord(id=run.id, status="ok", run=run.as_dict()))
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult())
    reconciled = world.reconcile()
    assert (reconciled.jobs_without_record, reconciled.has_progress) == (0, True)


def test_a_run_that_used_up_its_time_outs_is_not_tried_again_by_this_command(world):
    run = world.runs[0]
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True, left=(run.id,), out_of_time=True))
    world.reconcile()
    assert world.reasons()[run.id].startswith(
        "requeue limit reached: job 7_0 was requeued at its time limit as often as"
    )
    settings = WorkerSettings(world.results, world.results)
    assert controller.pending([run], settings, {}) == []
    assert controller.pending([run], settings, {run.id: 1}) == [run]  # a new command ignores it


def test_a_torn_result_file_counts_as_none(world):
    world.states["7_0"] = "FAILED"
    world.leave("7_0", None)
    (world.results / "jobs" / world.submission.token / "7_0" / "7_0_0_result.pkl").write_bytes(b"")
    assert world.reconcile().jobs_without_record == 1


def test_jobs_of_another_cluster_are_neither_reconciled_nor_ended(world, monkeypatch):
    from io import StringIO

    from rich.console import Console

    from bench.results import plans
    from bench.submission import cancel

    submissions.close_tasks(world.results, world.submission, [0, 1])
    foreign = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner="0@other")
    submissions.confirm(world.results, foreign, "9")
    world.submission, world.states = foreign, {"9": "RUNNING"}  # the same number and name here, by chance
    assert set(world.reconcile().ledger.assigned()) == {world.runs[0].id}
    ended = []
    monkeypatch.setattr(client, "queue", world.queue)
    monkeypatch.setattr(client, "cancel", lambda ids: ended.extend(ids) or [])
    plan_made = plans.SavedPlan("g", "now", world.runs, (), world.results, None, "cpu", "slurm", "default")
    plans.write(world.results, plan_made)
    printed = StringIO()
    cancel.cancel(world.results, (), everything=True, console=Console(file=printed, width=300))
    assert ended == []
    assert (
        "Cancelled 4 runs; 0 jobs ended. Jobs of 0@other belong to another user or cluster and are not ended"
        in printed.getvalue()
    )


def test_a_second_cancel_says_that_the_runs_are_cancelled_already(world, monkeypatch):
    from io import StringIO

    from rich.console import Console

    from bench.results import plans
    from bench.submission import cancel

    monkeypatch.setattr(client, "queue", world.queue)
    saved = plans.SavedPlan("g", "now", world.runs, (), world.results, None, "cpu", "slurm", "default")
    plans.write(world.results, saved)
    texts = []
    for _ in range(2):
        printed = StringIO()
        cancel.cancel(world.results, [world.runs[0].id], everything=False, console=Console(file=printed, width=300))
        texts.append(printed.getvalue())
    assert texts[0].startswith("Cancelled 1 run; 0 jobs ended. `bench retry")
    assert texts[1].startswith("1 run was cancelled already. `bench retry")
