"""Commands about runs in jobs: detach, follow, signal, cancel, retry."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from study import leftovers

from bench.units import plural

GRID: dict[str, Any] = {"strategies": ("decoder_only", "lora_qv"), "epochs": 60, "image_size": 128}
PROFILE = "runs_per_job = 1\n"


def states(one) -> dict[str, int]:
    """Numbers of runs by state, as `bench status --json` says."""
    return json.loads(one.do("status", "--json", expect=None))["counts"]


def test_runs_outlive_commands_and_end_when_they_are_cancelled(cluster, study):
    one = study(cluster, profile=PROFILE, **GRID)
    output = one.finish(one.run("--detach"))
    (array,) = {job.partition("_")[0] for job in one.live_jobs()}
    assert f"Submitted 4 runs in 4 jobs, under the number {array}." in output
    assert f"`bench status --results {one.results}` shows how they go." in output
    output = one.finish(one.run("--detach"))
    assert "Nothing to submit: every run is done or in a job." in output
    assert one.given() == dict.fromkeys(one.given(), 1)

    # Ctrl-C ends the command, and no job.
    command = one.run()
    first = one.when_training(2, of=command)
    os.killpg(command.process.pid, signal.SIGINT)
    output = one.finish(command, expect=130)
    assert "Detached: the jobs go on." in output and "Traceback" not in output
    assert len(one.live_jobs()) == 4

    # A run that waits is cancelled with its job.
    waiting = [run for run in one.given() if run not in one.at_work() and run not in one.records()]
    assert "Cancelled 1 run; 1 job ended." in one.do("cancel", waiting[-1][:8])
    assert states(one)["cancelled"] == 1

    # A signal that nobody's time limit sent: saved, and requeued through submitit. (`scancel --signal` would do, but
    # SLURM may deliver it a second time, to the next start, before that can listen.)
    signalled, progress = next(iter(first.items()))
    os.kill(progress["pid"], signal.SIGTERM)
    one.until("its second start", lambda: one.at_work().get(signalled, {}).get("restarts", 0) >= 1)

    output = one.do("cancel", "--all")
    assert output.startswith("Cancelled ") and f"`bench retry --results {one.results}` schedules them again." in output
    one.until("the end of all jobs", lambda: not one.live_jobs())
    assert one.at_work() == {}
    done = len(one.records())
    assert states(one) == {"done": done, "cancelled": 4 - done} and done < 4

    output = one.do("retry")
    assert f"{plural(4 - done, 'run')} on SLURM; {done} done already" in output
    assert "4 of 4 runs are done, 0 failed." in output
    records = one.records()
    assert {found.status for found in records.values()} == {"ok"}
    assert all(found.attempts == [] for found in records.values())  # nothing was lost, nothing failed
    log = (one.results / "runs" / signalled / "log.txt").read_text()
    # Its second start is seen above: the cancel may end it before its first line.
    assert "interrupted: asked to stop after step" in log
    assert states(one) == {"done": 4} and leftovers(one.results) == []
