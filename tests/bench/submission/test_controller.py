"""What a command that follows jobs decides, on made-up queues; tests/cluster has real ones."""

from __future__ import annotations

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
from bench.submission import controller as room
from bench.submission import reconcile
from bench.submission.controller import Controller
from bench.worker.worker import WorkerSettings

OWNER = "0@test"


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """A crew for two runs; what it submits is noted in the ledger under job numbers 1, 2, …"""
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=2)))
    runs = plan.make(replace(grid, classical=False), "d").runs
    said: list[str] = []

    def arrange(due):
        return [JobArray(10, 1, tuple((run,) for run in due))]

    one = Controller(WorkerSettings(tmp_path, tmp_path), ClusterProfile(), {}, arrange, said.append)
    one.due = {run.id: run for run in runs}
    one.said = said

    def submit(arrays, places, **_):
        for number, array in enumerate(arrays, start=1):
            tasks = [[run.id for run in job] for job in array.jobs]
            note = submissions.begin(places.results, tasks, submitted="now", owner=OWNER)
            yield submissions.confirm(places.results, note, str(number))

    monkeypatch.setattr(room.submit, "submit", submit)
    monkeypatch.setattr(client, "final_states", lambda ids: {})
    show(monkeypatch)
    return one


def show(monkeypatch, *jobs):
    queue = client.Queue({job.id: job for job in jobs}, OWNER)
    monkeypatch.setattr(client, "queue", lambda: queue)
    return queue


def job(note, task, state):
    return client.QueuedJob(str(note.job_of(task)), note.job_name, state, "", "node1", 1.0, None)


def test_what_is_due_is_submitted_once(crew, monkeypatch):
    crew.act()
    assert crew.said == ["Submitted 2 runs in 2 jobs, under the number 1."]
    (note,) = submissions.read(crew.places.results).open
    queue = show(monkeypatch, job(note, 0, "RUNNING"), job(note, 1, "PENDING"))
    assert not crew.has_to_act(queue, submissions.read(crew.places.results))
    crew.act()
    assert len(submissions.read(crew.places.results).open) == 1


def test_a_submission_that_nobody_answered_for_is_looked_after(crew, monkeypatch):
    note = submissions.begin(crew.places.results, [[run] for run in crew.due], submitted="now", owner=OWNER)
    crew.act()  # another command may be at it this moment
    assert crew.outcome.submitted == []
    book = submissions.read(crew.places.results)
    assert crew.has_to_act(show(monkeypatch), book)
    os.utime(submissions.path(crew.places.results, note), (0, 0))
    crew.act()
    assert len(crew.outcome.submitted) == 1


def test_a_time_out_from_before_the_command_is_forgiven_by_it(crew, monkeypatch):
    run = next(iter(crew.due.values()))
    note = submissions.begin(crew.places.results, [[run.id], ["x"]], submitted="now", owner=OWNER)
    submissions.confirm(crew.places.results, note, "7")
    from bench.worker.job import JobResult

    monkeypatch.setattr(reconcile.submit, "result", lambda _: JobResult(stopped=True, left=(run.id,), out_of_time=True))
    monkeypatch.setattr(room.plans, "read_all", lambda _: [FakePlan(tuple(crew.due.values()))])
    crew.act()
    assert crew.forgiven == {run.id: 2}  # told by both tasks
    assert run.id in {name for one in crew.outcome.submitted for task in one.tasks for name in task}


class FakePlan:
    def __init__(self, runs):
        self.runs = runs


def test_runs_in_somebody_elses_jobs_are_told_and_their_records_waited_for(crew, monkeypatch):
    first, second = crew.due.values()
    note = submissions.begin(crew.places.results, [[first.id]], submitted="now", owner="7@other")
    submissions.confirm(crew.places.results, note, "9")
    crew.act()
    assert crew.said[0].startswith("1 run in jobs of 7@other, whose queue is not shown here")
    assert str(submissions.path(crew.places.results, note)) in crew.said[0]
    assert crew.outcome.elsewhere == 1
    assert crew.has_to_act(show(monkeypatch), submissions.read(crew.places.results))
    record.write(crew.places.results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    crew.act()
    assert set(crew.due) == {second.id}


def test_a_refusal_ends_the_command_only_where_nothing_could_make_room(crew, monkeypatch):
    def refuse(*_, **__):
        raise ClusterError("sbatch refused the jobs: no.")
        yield

    first, second = crew.due.values()
    foreign = submissions.begin(crew.places.results, [["elsewhere"]], submitted="now", owner="7@other")
    submissions.confirm(crew.places.results, foreign, "9")
    submit = room.submit.submit
    monkeypatch.setattr(room.submit, "submit", refuse)
    with pytest.raises(ClusterError, match="sbatch refused"):
        crew.act()
    mine = submissions.begin(crew.places.results, [[first.id]], submitted="now", owner=OWNER)
    mine = submissions.confirm(crew.places.results, mine, "3")
    queue = show(monkeypatch, job(mine, 0, "RUNNING"))
    crew.refused = None
    crew.act()
    crew.act()
    assert crew.said == ["sbatch refused the jobs: no."] and crew.outcome.refused == 1
    assert not crew.has_to_act(queue, submissions.read(crew.places.results))  # until a job has ended
    monkeypatch.setattr(room.submit, "submit", submit)
    submissions.close_tasks(crew.places.results, mine, [0])
    record.write(crew.places.results, RunRecord(id=first.id, status="ok", run=first.as_dict()))
    assert crew.has_to_act(queue, submissions.read(crew.places.results))
    crew.act()
    assert [one.tasks for one in crew.outcome.submitted] == [((second.id,),)]


def test_a_silent_slurm_is_told_once_and_nothing_is_concluded(crew, monkeypatch):
    monkeypatch.setattr(client, "queue", lambda: None)
    crew.hears(None)
    crew.hears(None)
    crew.act()
    assert crew.said == ["SLURM does not answer; jobs go on without it, and this command waits."]
    assert submissions.read(crew.places.results).open == ()
