"""Answers of a real SLURM, as `bench.slurm.client` reads them."""

from __future__ import annotations

import pytest
from study import wait_until

from bench.slurm import client

SLEEP = "sleep 300"


@pytest.fixture
def on(cluster, monkeypatch):
    """SLURM's commands of this process find the cluster."""
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    return cluster


def submitted(cluster, *words: str) -> str:
    flags = ["--parsable", "--output=/dev/null", "--time=5", "--gres=gpu:1", *words]
    return cluster.ask("sbatch", *flags, f"--wrap={SLEEP}").strip()


def queue_with(cluster, condition) -> client.Queue:
    def look() -> client.Queue | None:
        queue = client.queue()
        return queue if queue is not None and condition(queue) else None

    return wait_until("such a queue", look, lambda: cluster.ask("squeue", "--states=all"), limit_s=60)


def live(queue: client.Queue, *job_ids: str) -> bool:
    return any(job_id in queue.jobs and queue.jobs[job_id].live for job_id in job_ids)


def test_an_arrays_tasks_wait_run_and_end(on):
    array = submitted(on, "--array=0-3", "--job-name=bench-a|b")
    queue = queue_with(on, lambda queue: sum(job.state == "RUNNING" for job in queue.jobs.values()) == 2)
    ours = {key: job for key, job in queue.jobs.items() if key.startswith(f"{array}_")}
    assert set(ours) == {f"{array}_{task}" for task in range(4)}
    assert {job.name for job in ours.values()} == {"bench-a|b"}
    assert {job.node for job in ours.values() if job.state == "RUNNING"} == {"node1", "node2"}
    assert all(0 <= (job.left_s or 0) <= 300 for job in ours.values())
    # Just submitted, a job waits without a reason.
    assert {job.reason for job in ours.values() if job.state == "PENDING"} <= {"Resources", "Priority", ""}
    assert all(job.live for job in ours.values()) and queue.named("bench-a|b") is not None
    assert client.job_state(f"{array}_0") == "RUNNING" and client.job_state(f"{array}_3") == "PENDING"
    assert client.cancel([f"{array}_0", f"{array}_3"]) == []
    queue = queue_with(on, lambda queue: not live(queue, f"{array}_0", f"{array}_3"))
    assert queue.jobs[f"{array}_0"].state == "CANCELLED"  # it ran, so SLURM remembers it for some minutes
    assert live(queue, f"{array}_1")


def test_unknown_jobs_are_no_error(on):
    assert client.job_state("999999") is None
    assert client.cancel(["999999"]) == []  # scancel is silent about jobs that SLURM has forgotten
    assert "Invalid job id none" in " ".join(client.cancel(["none"]))
    assert client.final_states(["999999"]) == {}  # no accounting here


def test_an_index_above_the_largest_array_is_refused(on):
    assert client.max_array_size() == 1001
    last = submitted(on, "--hold", "--array=1000")  # 1,001 tasks would be numbered up to this
    assert client.cancel([last]) == []
    with pytest.raises(AssertionError, match="Invalid job array specification"):
        submitted(on, "--hold", "--array=1001")


def test_accounting_gives_final_states(accounted, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", accounted.env["SLURM_CONF"])
    array = submitted(accounted, "--array=0-1")
    queue_with(accounted, lambda queue: queue.jobs[f"{array}_0"].state == "RUNNING")
    assert client.final_states([f"{array}_0"]) in ({}, {f"{array}_0": "RUNNING"})
    assert client.cancel([f"{array}_0"]) == []
    wait_until(
        "the final state in accounting",
        lambda: client.final_states([f"{array}_0"]) == {f"{array}_0": "CANCELLED"},
        lambda: accounted.ask("sacct", "-X"),
    )
