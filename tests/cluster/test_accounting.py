"""Jobs that ended long ago, on clusters with and without accounting: noticed on both, explained where sacct answers."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from study import Study, leftovers

GRID: dict[str, Any] = {"strategies": ("decoder_only", "zero_shot"), "epochs": 60}
PROFILE = "runs_per_job = 1\nrequeue = false\n"
# SLURM's squeue knows a job's end for some minutes: this one forgets it at once.
FORGETFUL = """#!/bin/sh
for word; do
    shift
    [ "$word" = --states=all ] || set -- "$@" "$word"
done
exec {squeue} "$@"
"""


@pytest.fixture(params=[pytest.param("without sacct", marks=pytest.mark.release), "with sacct"])
def either(request: pytest.FixtureRequest) -> Iterator[tuple[Any, bool]]:
    """A cluster, and whether it has accounting."""
    accounted = request.param == "with sacct"
    yield request.getfixturevalue("accounted" if accounted else "cluster"), accounted


def forget(one: Study) -> None:
    """From now on, the commands' squeue shows jobs that wait or run only."""
    folder, path = one.folder / "bin", one.env["PATH"]
    folder.mkdir()
    (folder / "squeue").write_text(FORGETFUL.format(squeue=shutil.which("squeue", path=path)))
    (folder / "squeue").chmod(0o755)
    one.env["PATH"] = f"{folder}:{path}"


def test_jobs_that_ended_unseen_are_noticed_and_explained(either, study):
    cluster, accounted = either
    one = study(cluster, profile=PROFILE, **GRID)
    command = one.run()
    first = one.when_training(2, of=command)
    command.process.kill()  # nobody looks while the jobs end
    (killed, killed_in), (ended, ended_in) = first.items()
    waiting = one.live_jobs()
    os.kill(killed_in["pid"], signal.SIGKILL)
    one.ask("scancel", ended_in["job"])
    # A task that is cancelled before it starts leaves no line anywhere: sacct doesn't know it either.
    one.ask("scancel", next(job for job in reversed(waiting) if one.queue()[job].state == "PENDING"))
    words = ["sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State"]
    words = words if accounted else ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T"]
    ends = {f"{killed_in['job']}|FAILED", f"{ended_in['job']}|CANCELLED"}
    one.until("SLURM's word", lambda: ends <= set(one.ask(*words).split()))
    one.until("the jobs' ends", lambda: not {killed_in["job"], ended_in["job"]} & set(one.live_jobs()))
    forget(one)

    status = one.do("status", expect=1)
    assert "lost" in status and ("1 cancelled" if accounted else "1 interrupted") in status

    assert "4 of 4 runs are done, 0 failed." in one.finish(one.run())
    assert "4 done" in one.do("status")
    records = one.records()
    assert {found.status for found in records.values()} == {"ok"}
    reasons = {run: [attempt["reason"] for attempt in found.attempts] for run, found in records.items()}
    why = "was killed, SLURM says FAILED" if accounted else "disappeared from the queue, and SLURM gives no final state"
    (reason,) = reasons.pop(killed)
    assert reason.startswith(f"lost: job {killed_in['job']} {why}; see ") and reason.endswith("_log.err.")
    assert set(map(tuple, reasons.values())) == {()}  # the other one had saved its state: nothing was lost
    log = (one.results / "runs" / ended / "log.txt").read_text()
    assert "interrupted: asked to stop after step" in log and " continues: " in log
    assert sorted(one.given().values()) == [1, 2, 2, 2]
    assert one.live_jobs() == [] and leftovers(one.results) == []
