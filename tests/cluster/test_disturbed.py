"""Requeue, kill, time limit and node failure in one grid: its weights equal those of undisturbed runs, bit for bit."""

from __future__ import annotations

import os
import signal
from typing import Any

from study import Command, Study, leftovers, tensors

from bench.results import history
from bench.results.history import TIMINGS_AND_MEMORY

GRID: dict[str, Any] = {"strategies": ("lora_qv", "adapter"), "folds": (1, 2), "epochs": 40, "image_size": 128}
# SLURM warns a job when it looks, every 30 s, and sees that 10 + 30 s or less are left: 20 to 50 s after its start.
PROFILE = "time_limit_min = 1\nsignal_delay_s = 10\nruns_per_job = 1\n"


def caught(one: Study, command: Command, *but: str) -> tuple[str, dict[str, Any]]:
    """Suspend the next run that has trained a little and is none of those in `but`."""
    run, progress = one.until(
        "a run that trains", lambda: next((pair for pair in one.training(4).items() if pair[0] not in but), None)
    )
    os.kill(progress["pid"], signal.SIGSTOP)
    return run, progress


def test_every_disturbance_leaves_the_weights_as_they_would_have_been(cluster, study):
    undisturbed = study(cluster, **GRID)
    twin = undisturbed.run(cluster="inline")
    one = study(cluster, profile=PROFILE, **GRID)
    command = one.run()

    # A requeue by hand, or by a preemption: SIGTERM, ten seconds to save, and the job starts anew.
    requeued, progress = caught(one, command)
    os.kill(progress["pid"], signal.SIGCONT)
    one.ask("scontrol", "requeue", progress["job"])

    # A process that is killed, as by a machine without memory.
    killed, progress = caught(one, command, requeued)
    os.kill(progress["pid"], signal.SIGKILL)
    one.until("the lost attempt's record", lambda: killed in one.records())
    assert one.records()[killed].status == "failed"

    # A time limit: the process sleeps until SLURM wakes it up and tells it, ahead of the limit. Meanwhile, a node whose
    # daemon dies under a job: SLURM gives the job to the other node, though its process goes on.
    limited, _ = caught(one, command, requeued, killed)
    orphans: dict[str, dict[str, Any]] = {}

    def orphaned_one() -> bool:
        for run, progress in one.training(4).items():
            if not orphans and run not in (requeued, killed, limited):
                os.kill(progress["pid"], signal.SIGSTOP)
                os.kill(cluster.pid(f"slurmd.{progress['node']}"), signal.SIGKILL)
                orphans[run] = progress
        return bool(orphans)

    one.until("the time limit", lambda: (orphaned_one(), "interrupted: " in log_of(one, limited))[1], of=command)
    one.until("a fourth run trained", orphaned_one, of=command)
    ((orphaned, first),) = orphans.items()
    one.until(
        "the orphaned run's second start",
        lambda: (
            (now := one.training().get(orphaned))
            and now["restarts"] > first["restarts"]
            and now["node"] != first["node"]
        ),
    )
    os.kill(first["pid"], signal.SIGCONT)
    one.until("the end of its first process", lambda: not alive(first["pid"]))
    assert cluster.up().returncode == 0  # the node comes back

    output = one.finish(command)
    assert "4 of 4 runs are done, 0 failed" in output
    records = one.records()
    assert {found.status for found in records.values()} == {"ok"}
    starts = {run: (found.provenance or {})["slurm_restart_count"] for run, found in records.items()}
    assert starts[requeued] >= 1 and starts[limited] >= 1 and starts[orphaned] >= 1
    (attempt,) = records[killed].attempts
    assert attempt["status"] == "failed" and "was killed, SLURM says FAILED; see " in attempt["reason"]
    assert [records[run].attempts for run in (requeued, limited, orphaned)] == [[], [], []]
    logs = {run: log_of(one, run) for run in records}
    assert [log.count(" done\n") for log in logs.values()] == [1] * 4
    assert "interrupted: asked to stop after step" in logs[requeued]
    assert "interrupted: asked to stop after step" in logs[limited]
    assert "lost: another process took this run over." in logs[orphaned]
    assert one.given() == {run: 2 if run == killed else 1 for run in records}
    assert one.live_jobs() == [] and leftovers(one.results) == []

    undisturbed.finish(twin)
    expected = undisturbed.records()
    assert records.keys() == expected.keys()
    assert tensors(one.results) == tensors(undisturbed.results) != {}
    for run, found in records.items():
        assert found.scores == expected[run].scores
        assert repeatable(one, run) == repeatable(undisturbed, run) != []


def log_of(one: Study, run: str) -> str:
    return (one.results / "runs" / run / "log.txt").read_text()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def repeatable(one: Study, run: str) -> list[dict[str, Any]]:
    """History of a run without what differs between two trainings."""
    rows = history.read(one.results / "runs" / run)
    return [{name: value for name, value in row.items() if name not in TIMINGS_AND_MEMORY} for row in rows]
