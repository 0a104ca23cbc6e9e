"""Decisions of a command that follows jobs, on made-up queues; tests/cluster has real ones."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import pytest

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.results import record, submissions
from bench.results.record import RunRecord
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import controller as controller_module
from bench.submission import reconcile, submitter
from bench.submission.controller import Controller
from bench.submission.queue_watcher import QueueWatcher
from bench.submission.submitter import Submitter
from bench.worker.job import JobResult
from bench.worker.settings import WorkerSettings

OWNER = "0@test"


@pytest.fixture
def controller(tmp_path, monkeypatch, caplog):
    """A controller of two runs; its submissions are noted in the ledger under job numbers 1, 2, …"""
    caplog.set_level(logging.INFO, "bench")
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=2)))
    runs = plan.make(replace(grid, classical=False), "d").runs
    settings = WorkerSettings(tmp_path, tmp_path)

    def arrange(due):
        return [JobArray(10, 1, tuple((run,) for run in due))]

    def submit(arrays, settings, **_):
        for number, array in enumerate(arrays, start=1):
            tasks = [[run.id for run in job] for job in array.jobs]
            submission = submissions.begin(settings.results, tasks, submitted="now", owner=OWNER)
            yield submissions.confirm(settings.results, submission, str(number))

    monkeypatch.setattr(submitter.submit, "submit", submit)
    monkeypatch.setattr(client, "final_states", lambda ids: {})
    set_queue(monkeypatch)
    return Controller(
        settings=settings,
        submitter=Submitter(settings, ClusterProfile(), arrange),
        watcher=QueueWatcher(tmp_path),
        ignored_failures={},
        due={run.id: run for run in runs},
    )


def set_queue(monkeypatch, *jobs):
    queue = client.Queue({job.id: job for job in jobs}, OWNER)
    monkeypatch.setattr(client, "queue", lambda: queue)
    return queue


def job(submission, task, state, reason=""):
    return client.QueuedJob(str(submission.job_of(task)), submission.job_name, state, reason, "node1", 1.0, None)


def test_due_runs_are_submitted_once(controller, monkeypatch, caplog):
    controller.act()
    assert caplog.messages == ["Submitted 2 runs in 2 jobs, under the number 1."]
    results = controller.settings.results
    (submission,) = submissions.read(results).open
    queue = set_queue(monkeypatch, job(submission, 0, "RUNNING"), job(submission, 1, "PENDING"))
    assert not controller.must_act(queue, submissions.read(results))
    controller.act()
    assert len(submissions.read(results).open) == 1


def test_an_unconfirmed_submission_is_given_up_when_it_is_old(controller, monkeypatch):
    results = controller.settings.results
    submission = submissions.begin(results, [[run] for run in controller.due], submitted="now", owner=OWNER)
    controller.act()  # another command may be submitting it at this moment
    assert controller.submitter.submitted == []
    assert controller.must_act(set_queue(monkeypatch), submissions.read(results))
    os.utime(submissions.path(results, submission), (0, 0))
    controller.act()
    assert len(controller.submitter.submitted) == 1


def test_a_time_out_from_before_the_command_does_not_count(controller, monkeypatch):
    run = next(iter(controller.due.values()))
    results = controller.settings.results
    submission = submissions.begin(results, [[run.id], ["x"]], submitted="now", owner=OWNER)
    submissions.confirm(results, submission, "7")
    result = JobResult(stopped=True, left=(run.id,), out_of_time=True)
    monkeypatch.setattr(reconcile.submit, "result", lambda _: result)
    monkeypatch.setattr(controller_module.plans, "read_all", lambda _: [FakePlan(tuple(controller.due.values()))])
    controller.act()
    assert controller.ignored_failures == {run.id: 2}  # both tasks left one
    submitted = controller.outcome().submitted
    assert run.id in {run_id for submission in submitted for task in submission.tasks for run_id in task}


class FakePlan:
    def __init__(self, runs):
        self.runs = runs


def test_records_of_runs_in_jobs_of_another_user_are_waited_for(controller, monkeypatch, caplog):
    first, second = controller.due.values()
    results = controller.settings.results
    submission = submissions.begin(results, [[first.id]], submitted="now", owner="7@other")
    submissions.confirm(results, submission, "9")
    controller.act()
    assert caplog.messages[0].startswith("1 run in jobs of 7@other, whose queue is not shown here")
    assert str(submissions.path(results, submission)) in caplog.messages[0]
    assert controller.outcome().elsewhere == 1
    assert controller.must_act(set_queue(monkeypatch), submissions.read(results))
    record.write(results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    controller.act()
    assert set(controller.due) == {second.id}


def test_a_refusal_ends_the_command_only_if_no_queued_job_could_make_room(controller, monkeypatch, caplog):
    def refuse(*_, **__):
        raise ClusterError("sbatch refused the jobs: no.")
        yield

    first, second = controller.due.values()
    results = controller.settings.results
    foreign = submissions.begin(results, [["elsewhere"]], submitted="now", owner="7@other")
    submissions.confirm(results, foreign, "9")
    submit = submitter.submit.submit
    monkeypatch.setattr(submitter.submit, "submit", refuse)
    with pytest.raises(ClusterError, match="sbatch refused"):
        controller.act()
    own = submissions.begin(results, [[first.id]], submitted="now", owner=OWNER)
    own = submissions.confirm(results, own, "3")
    queue = set_queue(monkeypatch, job(own, 0, "RUNNING"))
    controller.submitter.limit = None
    controller.act()
    controller.act()
    assert caplog.messages == ["sbatch refused the jobs: no."] and controller.outcome().refused == 1
    assert not controller.must_act(queue, submissions.read(results))  # until a job has ended
    monkeypatch.setattr(submitter.submit, "submit", submit)
    submissions.close_tasks(results, own, [0])
    record.write(results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    assert controller.must_act(queue, submissions.read(results))
    controller.act()
    assert [submission.tasks for submission in controller.outcome().submitted] == [((second.id,),)]


def test_without_an_answer_of_slurm_nothing_is_concluded(controller, monkeypatch, caplog):
    monkeypatch.setattr(client, "queue", lambda: None)
    controller.watcher.observe(None)
    controller.watcher.observe(None)
    controller.act()
    assert caplog.messages == ["SLURM does not answer; jobs go on without it, and this command waits."]
    assert submissions.read(controller.settings.results).open == ()


def test_jobs_that_wait_for_ever_are_reported_once_with_the_keys_to_change(controller, monkeypatch, caplog):
    controller.act()
    caplog.clear()
    results = controller.settings.results
    ledger = submissions.read(results)
    (submission,) = ledger.open
    jobs = [job(submission, 0, "PENDING", "PartitionConfig"), job(submission, 1, "PENDING", "Priority")]
    for _ in range(2):
        controller.watcher.observe(set_queue(monkeypatch, *jobs))
        controller.watcher.report_stuck(ledger.open_tasks())
    assert caplog.messages == [
        "1 job can never start, PartitionConfig: no node can take these; change cpus_per_gpu, memory_gb_per_gpu, "
        f"gpu or partition in the cluster profile, then bench cancel --all --results {results} and bench retry "
        f"--profile NAME --results {results}."
    ]


def test_the_watcher_remembers_jobs_that_waited_in_the_state_before(controller, monkeypatch):
    controller.act()
    (submission,) = submissions.read(controller.settings.results).open
    watcher = QueueWatcher(controller.settings.results)
    watcher.observe(set_queue(monkeypatch, job(submission, 0, "RUNNING"), job(submission, 1, "PENDING")))
    assert watcher.waiting == frozenset()
    watcher.observe(set_queue(monkeypatch))
    assert watcher.waiting == {"1_1"}
