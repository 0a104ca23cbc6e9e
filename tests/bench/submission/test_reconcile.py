"""What becomes of runs whose jobs are over. The queue is made up here; tests/cluster has a real one."""

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
from bench.submission import follow, reconcile
from bench.worker.job import JobResult
from bench.worker.worker import WorkerSettings

OWNER = "0@test"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "final_states", lambda ids: {})
    monkeypatch.setattr(client, "cancel", lambda ids: [])
    return World(tmp_path)


class World:
    """Four runs in two tasks of one submission, and a queue that says what the test wants."""

    def __init__(self, results):
        grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=4)))
        self.results = results
        self.runs = plan.make(replace(grid, classical=False), "d").runs
        self.known = {run.id: run for run in self.runs}
        ids = [run.id for run in self.runs]
        noted = submissions.begin(results, [ids[:2], ids[2:]], submitted="now", owner=OWNER)
        self.submission = submissions.confirm(results, noted, "7")
        self.states = {"7_0": "RUNNING", "7_1": "RUNNING"}

    def queue(self):
        jobs = {
            name: client.QueuedJob(name, self.submission.job_name, state, "", "node1", 1.0, None)
            for name, state in self.states.items()
        }
        return client.Queue(jobs, OWNER)

    def hold(self, run, job):
        """As a process of `job` on a node far away that died without a word."""
        folder = record.folder(self.results, run.id)
        folder.mkdir(parents=True)
        holder = {"token": "t" * 32, "host": "far", "pid": 1, "born": "x", "job": job, "restarts": 0}
        (folder / run_lock.FILENAME).write_text(json.dumps(holder))

    def leave(self, job, value, how="success"):
        """What submitit writes at a job's end."""
        import cloudpickle

        folder = self.results / "jobs" / self.submission.token / job
        folder.mkdir(parents=True)
        (folder / f"{job}_0_result.pkl").write_bytes(cloudpickle.dumps((how, value)))

    def settle(self):
        return reconcile.reconcile(
            submissions.read(self.results),
            self.queue(),
            places=WorkerSettings(self.results, self.results),
            known=self.known,
        )

    def reasons(self):
        return {found.id: found.reason for found in record.read_all(self.results)}


def test_what_lives_is_left_alone(world):
    world.hold(world.runs[0], "7_0")
    seen = world.settle()
    assert len(list(seen.book.unsettled())) == 2 and world.reasons() == {}
    assert run_lock.holder(record.folder(world.results, world.runs[0].id)) is not None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("FAILED", "lost: job 7_0 on node1 was killed, SLURM says FAILED; see "),
        ("NODE_FAIL", "lost: the node failed under job 7_0 on node1."),
        ("TIMEOUT", "timed out: job 7_0 on node1 met its time limit before it could save and requeue"),
        ("OUT_OF_MEMORY", "out of memory: SLURM killed job 7_0 on node1: host memory, see memory_gb_per_gpu"),
        (None, "lost: job 7_0 vanished from the queue without a word; see "),
    ],
)
def test_the_run_that_a_dead_job_was_at_has_lost_an_attempt(world, state, reason):
    world.hold(world.runs[1], "7_0")
    if state is None:
        del world.states["7_0"]
    else:
        world.states["7_0"] = state
    seen = world.settle()
    assert seen.began and seen.fruitless == 0
    (told,) = world.reasons().items()
    assert told[0] == world.runs[1].id and told[1].startswith(reason)
    # Both runs of the job are free again; those of the other are not.
    assert set(seen.book.assigned()) == {run.id for run in world.runs[2:]}
    assert run_lock.acquire(record.folder(world.results, world.runs[1].id)) is not None


def test_accounting_tells_what_the_queue_has_forgotten(world, monkeypatch):
    asked = []
    monkeypatch.setattr(client, "final_states", lambda ids: asked.append(ids) or {"7_0": "NODE_FAIL"})
    world.hold(world.runs[0], "7_0")
    del world.states["7_0"]
    world.settle()
    assert asked == [["7_0"]]
    assert world.reasons()[world.runs[0].id] == "lost: the node failed under job 7_0."


def test_a_job_that_was_stopped_before_it_began_anything_costs_its_first_run_a_time_out(world):
    first, second = world.runs[:2]
    record.write(world.results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True))  # else a limit shorter than the imports would have no end
    seen = world.settle()
    assert world.reasons()[second.id].startswith("timed out: job 7_0 was told to end") and seen.began
    assert set(seen.book.assigned()) == {run.id for run in world.runs[2:]}


def test_what_could_not_be_requeued_counts_as_a_time_out(world):
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True, left=(world.runs[0].id,)))
    world.settle()
    assert world.reasons() == {
        world.runs[0].id: "timed out: job 7_0 was told to end and was not requeued; its state is saved."
    }


def test_a_cancelled_job_cancels_its_unfinished_runs(world):
    done, open_ = world.runs[:2]
    record.write(world.results, RunRecord(id=done.id, status="ok", run=done.as_dict()))
    world.states["7_0"] = "CANCELLED"
    seen = world.settle()
    assert seen.book.cancelled == {open_.id} and list(world.reasons().values()) == [None]


def test_jobs_that_never_began_are_counted_and_what_they_say_is_told(world):
    world.states = {"7_0": "FAILED", "7_1": "FAILED"}
    world.leave("7_1", "Traceback\nModuleNotFoundError: No module named 'torch'", how="error")
    seen = world.settle()
    assert seen.fruitless == 1
    assert seen.errors == [
        ("ModuleNotFoundError: No module named 'torch'", frozenset(run.id for run in world.runs[2:]))
    ]
    assert seen.book.open == () and len(seen.book.closed) == 1


def test_a_submission_whose_command_died_is_found_by_its_name(world, monkeypatch):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.submission, world.states = orphan, {"9": "PENDING"}
    cancelled = []
    monkeypatch.setattr(client, "cancel", lambda ids: cancelled.extend(ids) or [])
    folder = world.results / "jobs" / orphan.token / "9"
    folder.mkdir(parents=True)
    (folder / "9_submitted.pkl").touch()
    seen = world.settle()
    assert {run: one.job_id for run, one in seen.book.assigned().items()} == {world.runs[0].id: "9"}
    assert cancelled == []


def test_jobs_that_would_wait_for_their_pickles_in_vain_are_ended(world, monkeypatch):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.submission, world.states = orphan, {"9": "PENDING"}
    cancelled = []
    monkeypatch.setattr(client, "cancel", lambda ids: cancelled.extend(ids) or [])
    assert world.settle().book.assigned() == {} and cancelled == ["9"]


def test_a_submission_that_sbatch_never_saw_is_forgotten_after_a_while(world):
    submissions.close_tasks(world.results, world.submission, [0, 1])
    orphan = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner=OWNER)
    world.states = {}
    assert set(world.settle().book.assigned()) == {world.runs[0].id}  # sbatch may still be at it
    path = submissions.path(world.results, orphan)
    long_ago = path.stat().st_mtime - reconcile.UNANSWERED_S - 1
    os.utime(path, (long_ago, long_ago))
    assert world.settle().book.assigned() == {}


def test_what_a_dead_job_began_is_due_again_until_the_limit(world):
    places, run = WorkerSettings(world.results, world.results), world.runs[0]
    for number in range(1, 5):
        world.hold(run, "7_0") if number == 1 else claim_again(world, run)
        world.states["7_0"] = "FAILED"
        world.settle()
        due = follow.pending([run], places, {})
        assert bool(due) == (number <= places.limits.lost), number
        noted = submissions.begin(world.results, [[run.id], ["x"]], submitted="now", owner=OWNER)
        world.submission = submissions.confirm(world.results, noted, "7")
    found = record.read(world.results, run.id)
    assert found is not None and len(found.failures) == 4


def claim_again(world, run):
    folder = record.folder(world.results, run.id)
    holder = {"token": "u" * 32, "host": "far", "pid": 1, "born": "x", "job": "7_0", "restarts": 0}
    (folder / run_lock.FILENAME).write_text(json.dumps(holder))


def test_a_job_that_came_to_nothing_is_counted_however_content_it_was(world):
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult())  # it wrote its records elsewhere, say
    assert world.settle().fruitless == 1


def test_a_job_whose_runs_somebody_else_did_is_not(world):
    for run in world.runs[:2]:
        record.write(world.results, RunRecord(id=run.id, status="ok", run=run.as_dict()))
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult())
    seen = world.settle()
    assert (seen.fruitless, seen.began) == (0, True)


def test_a_run_that_used_up_its_time_outs_is_not_tried_again_by_this_command(world):
    run = world.runs[0]
    world.states["7_0"] = "COMPLETED"
    world.leave("7_0", JobResult(stopped=True, left=(run.id,), out_of_time=True))
    world.settle()
    assert world.reasons()[run.id].startswith("out of time: job 7_0 was requeued at its time limit as often as")
    places = WorkerSettings(world.results, world.results)
    assert follow.pending([run], places, {}) == []
    assert follow.pending([run], places, {run.id: 1}) == [run]  # a new command forgives it


def test_a_torn_result_tells_nothing(world):
    world.states["7_0"] = "FAILED"
    world.leave("7_0", None)
    (world.results / "jobs" / world.submission.token / "7_0" / "7_0_0_result.pkl").write_bytes(b"")
    assert world.settle().fruitless == 1


def test_jobs_of_another_cluster_are_neither_settled_nor_ended(world, monkeypatch):
    from io import StringIO

    from rich.console import Console

    from bench.results import plans
    from bench.submission import cancel

    submissions.close_tasks(world.results, world.submission, [0, 1])
    foreign = submissions.begin(world.results, [[world.runs[0].id]], submitted="now", owner="0@other")
    submissions.confirm(world.results, foreign, "9")
    world.submission, world.states = foreign, {"9": "RUNNING"}  # the same number and name here, by chance
    assert set(world.settle().book.assigned()) == {world.runs[0].id}
    ended = []
    monkeypatch.setattr(client, "queue", world.queue)
    monkeypatch.setattr(client, "cancel", lambda ids: ended.extend(ids) or [])
    plan_made = plans.SavedPlan("g", "now", world.runs, (), world.results, None, "cpu", "slurm", "default")
    plans.write(world.results, plan_made)
    printed = StringIO()
    cancel.cancel(world.results, (), everything=True, console=Console(file=printed, width=300))
    assert ended == []
    assert "Cancelled 4 runs; 0 jobs ended. Jobs of 0@other are not ours to end" in printed.getvalue()
