from __future__ import annotations

import json
import os
import socket
from dataclasses import replace

import pytest
from every_state import FAR, OWNER, everything, planned, queue

from bench.errors import BenchError
from bench.results import plans, run_lock, submissions
from bench.slurm.client import Queue
from bench.status import summary

ONE = "mobile_sam/lora_qv/1"
TWO = "mobile_sam/lora_qv/2"
NOTHING = Queue({}, OWNER)


@pytest.fixture
def place(tmp_path):
    return planned(tmp_path, ("mobile_sam",), ("lora_qv",))


def collect(place, now=NOTHING, final_states=None, **values):
    asked = []

    def answer(ids):
        asked.append(sorted(ids))
        return final_states or {}

    found = summary.collect(
        place.results,
        saved_plans=plans.read_all(place.results),
        index=place.index(),
        ledger=place.ledger(),
        queue=now,
        final_states=answer,
        **values,
    )
    return found, asked


def of(place, name, now=NOTHING, **values):
    found, _ = collect(place, now, **values)
    (one,) = [one for one in found.runs if one.id == place.id(name)]
    return one


def test_a_plan_of_which_nothing_was_begun_waits(place):
    found, asked = collect(place)
    assert found.counts() == {"waiting": 5} and found.exit_code == 0 and asked == []
    assert found.grids == ("default",) and not found.silent


def test_a_done_run_has_its_score_and_a_failed_one_its_reason(place):
    place.finish(ONE, pq=0.625)
    place.fail(TWO, "diverged: the loss became nan")
    found, _ = collect(place)
    assert found.counts() == {"done": 1, "waiting": 3, "failed": 1} and found.exit_code == 1
    assert of(place, ONE).pq == 0.625
    assert (of(place, TWO).state, of(place, TWO).detail) == ("failed", "diverged: the loss became nan")


@pytest.mark.parametrize(
    ("reason", "attempts", "state"),
    [
        ("lost: its node failed", 3, "waiting"),
        ("lost: its node failed", 4, "failed"),
        ("out of memory: CUDA", 3, "waiting"),
        ("out of memory: CUDA", 4, "failed"),
        ("KeyError: 'x'", 1, "failed"),
    ],
)
def test_what_is_to_be_tried_again_waits_up_to_the_limits_of_the_profile(place, reason, attempts, state):
    place.fail(ONE, reason, attempts)
    one = of(place, ONE)
    assert one.state == state
    assert one.detail == (reason if state == "failed" else f"to be tried again after {reason}")


def test_a_live_claim_is_a_running_run_with_its_progress_and_the_jobs_time(place):
    place.submit("7", (ONE,), (TWO,))
    place.claim(ONE, "7_0", {"phase": "training", "epoch": 3, "epochs": 60}, node="gpu-02", restarts=2)
    one = of(place, ONE, queue(("7_0", "RUNNING", ""), ("7_1", "PENDING", "Priority")))
    assert (one.state, one.job, one.node, one.restarts, one.job_left_s) == ("running", "7_0", "gpu-02", 2, 3600.0)
    assert one.progress == {"phase": "training", "epoch": 3, "epochs": 60}


def test_a_local_run_needs_no_ledger(place):
    held = run_lock.acquire(place.folder(ONE))
    assert held is not None
    one = of(place, ONE, None)
    assert (one.state, one.job, one.progress) == ("running", None, {})
    held.release()
    assert of(place, ONE, None).state == "waiting"


def test_a_dead_process_is_lost_and_a_stopped_one_interrupted(place):
    dead = {"host": socket.gethostname(), "pid": os.getpid(), "born": f"{run_lock._boot()}:0"}
    place.claim(ONE, None, None, **dead)
    place.claim(TWO, None, None, **dead)
    place.save(TWO)
    assert (of(place, ONE).state, of(place, ONE).detail) == ("lost", "its process is gone")
    assert (of(place, TWO).state, of(place, TWO).detail) == ("lost", "its process is gone (state saved)")
    (
        place.results / "runs" / of(place, TWO).run.id / run_lock.FILENAME
    ).unlink()  # as a process that was told to stop does
    assert of(place, TWO).state == "interrupted"


def test_a_claim_of_a_job_that_slurm_requeued_is_not_believed(place):
    place.submit("7", (ONE,))
    place.claim(ONE, "7", {"phase": "training"})
    place.save(ONE)
    assert of(place, ONE, queue(("7", "RUNNING", ""))).state == "running"
    one = of(place, ONE, queue(("7", "PENDING", "BeginTime")))
    assert (one.state, one.detail) == ("queued", "BeginTime (state saved)")


def test_runs_that_a_running_job_has_not_begun_are_queued_in_it(place):
    place.submit("7", (ONE, TWO))
    place.finish(ONE)
    one = of(place, TWO, queue(("7", "RUNNING", "")))
    assert (one.state, one.detail) == ("queued", "in a running job")


def test_the_end_of_a_lost_job_comes_from_the_queue_and_else_from_one_call_to_the_accounting(place):
    names = [name for name in place.runs if name != ONE]
    place.submit("7", *((name,) for name in names))
    place.save(names[3])
    now = queue(("7_0", "NODE_FAIL", ""))
    found, asked = collect(place, now, {"7_1": "OUT_OF_MEMORY", "7_3": "PREEMPTED"})
    told = {one.id: (one.state, one.detail) for one in found.runs}
    assert [told[place.id(name)] for name in names] == [
        ("lost", "job 7_0: NODE_FAIL"),
        ("lost", "job 7_1: OUT_OF_MEMORY"),
        ("lost", "job 7_2: over, SLURM does not say how"),
        ("interrupted", "job 7_3: PREEMPTED"),
    ]
    assert asked == [["7_1", "7_2", "7_3"]] and found.exit_code == 1


def test_a_cancelled_job_cancels_its_runs_however_it_was_cancelled(place):
    names = list(place.runs)
    place.submit("7", *((name,) for name in names[:3]))
    submissions.write_cancelled(place.results, [place.id(names[2])])
    found, _ = collect(place, queue(("7_0", "CANCELLED", "")), {"7_1": "CANCELLED"})
    assert [one.state for one in found.runs] == ["cancelled"] * 3 + ["waiting"] * 2 and found.exit_code == 0


def test_nothing_is_lost_while_slurm_does_not_answer(place):
    place.submit("7", (ONE,), (TWO,))
    place.save(TWO)
    found, asked = collect(place, None)
    assert found.silent and asked == [] and found.exit_code == 0
    assert found.counts() == {"queued": 2, "waiting": 3}
    assert (of(place, TWO, None).detail) == "SLURM does not answer (state saved)"


def test_jobs_of_another_user_are_never_called_lost(place):
    place.submit("7", (ONE,), owner="1001@test")
    one = of(place, ONE)
    assert (one.state, one.detail) == ("queued", "in another user's or cluster's queue")


def test_a_job_of_the_same_number_but_another_name_is_another_job(place):
    place.submit("7", (ONE,), job_name="bench-before-the-cluster-was-set-up-anew")
    assert of(place, ONE, queue(("7", "RUNNING", ""))).state == "lost"


def test_a_submission_that_sbatch_has_not_answered(place):
    place.submit(None, (ONE,), job_name="bench-9")
    assert (of(place, ONE).state, of(place, ONE).detail) == ("waiting", "its submission was not answered")
    assert of(place, ONE, queue(("9", "PENDING", ""))).detail == "being submitted"


def test_a_job_whose_end_was_accounted_for_leaves_its_run_waiting(place):
    sent = place.submit("7", (ONE,), (TWO,))
    submissions.close_tasks(place.results, sent, [0])
    assert of(place, ONE).state == "waiting" and of(place, TWO).state == "lost"


def test_a_failure_of_before_the_job_is_not_the_jobs(place):
    place.submit("7", (ONE,), (TWO,))
    place.fail(ONE, "KeyError: 'x'", ended="2025-12-31T00:00:00+00:00")
    place.fail(TWO, "KeyError: 'y'", ended="2026-01-01T13:00:00+00:00")
    now = queue(("7_0", "PENDING", "Priority"), ("7_1", "RUNNING", ""))
    assert (of(place, ONE, now).state, of(place, TWO, now).state) == ("queued", "failed")


def test_runs_of_several_plans_count_once_and_records_without_a_plan_are_told(place):
    both = planned(place.results, ("mobile_sam",), ("lora_qv", "full"), grid="second", planned="2026-02-01")
    both.finish("mobile_sam/full/1")
    found, _ = collect(both)
    assert len(found.runs) == 10 and found.grids == ("default", "second") and found.unplanned == 0
    narrow, _ = collect(both, grid="default")
    assert len(narrow.runs) == 5 and narrow.unplanned == 0
    for path in (place.results / "plans").glob("second-*"):
        path.unlink()
    assert collect(both)[0].unplanned == 1
    with pytest.raises(BenchError, match=r"unknown grid 'defalt'\. Did you mean 'default'\?"):
        collect(place, grid="defalt")


def test_without_a_plan_the_records_alone_are_told(place):
    place.finish(ONE)
    place.fail(TWO, "lost: its node failed")
    for path in (place.results / "plans").iterdir():
        path.unlink()
    found, _ = collect(place)
    assert found.counts() == {"done": 1, "failed": 1} and found.grids == () and found.unplanned == 0


def test_a_record_that_cannot_be_read_is_told_and_its_run_is_not_done(place):
    (place.folder(ONE) / "record.json").write_text("{")
    found, _ = collect(place)
    assert found.counts() == {"waiting": 5} and found.exit_code == 1
    assert "record.json" in found.unreadable[0]


def test_folders_of_done_runs_are_not_looked_into(place, monkeypatch):
    for name in place.runs:
        place.finish(name)
        place.claim(name, None, None)
    monkeypatch.setattr(run_lock, "holder", lambda folder: pytest.fail(f"looked into {folder}"))
    assert collect(place)[0].counts() == {"done": 5}


def test_every_state(tmp_path):
    place, now = everything(tmp_path)
    found, _ = collect(place, now)
    assert found.counts() == {
        "done": 21,
        "running": 6,
        "queued": 16,
        "waiting": 10,
        "interrupted": 1,
        "cancelled": 2,
        "lost": 2,
        "failed": 2,
    }


def test_slurm_is_asked_only_where_jobs_may_be_there(place, monkeypatch):
    calls = []
    monkeypatch.setattr("bench.slurm.client.queue", lambda: calls.append("squeue"))
    assert summary.read(place.results).counts() == {"waiting": 5} and calls == []
    place.submit("7", (ONE,))
    assert summary.read(place.results).silent and calls == ["squeue"]


def test_a_claim_of_another_host_counts_as_long_as_it_is_touched(place):
    path = place.folder(ONE) / "claim.json"
    path.write_text(json.dumps({"token": "t", **FAR, "limit_s": 900.0}))
    assert of(place, ONE).state == "running"
    os.utime(path, (0, 0))
    assert of(place, ONE).state == "lost"


def test_a_profile_that_is_gone_leaves_the_usual_limits(place):
    index, run = place.index(), place.runs[ONE]
    place.fail(ONE, "lost: its node failed", 3)
    index.refresh()
    assert not summary.is_final(index.entries[run.id], run, "no-such-profile")
    assert summary.is_final(replace(index.entries[run.id], failures=("lost: x",) * 4), run, "no-such-profile")
