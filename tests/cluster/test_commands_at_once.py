"""Several `bench run` of one grid, some of them killed: no run is submitted or done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from study import Command, Study, leftovers

from bench.results import submissions

GRID: dict[str, Any] = {"strategies": ("zero_shot", "decoder_only"), "epochs": 10, "classical": True}
PROFILE = "runs_per_job = 2\n"
RUNS = 6


def kill(command: Command) -> None:
    """Kill a command, and not the jobs that it submitted."""
    os.kill(command.process.pid, signal.SIGKILL)
    command.process.wait()


def done_once(one: Study) -> None:
    """Every run has one record of one attempt, and was given to one job that SLURM knows."""
    records = one.records()
    assert len(records) == RUNS and {found.status for found in records.values()} == {"ok"}, one.explain()
    assert all(found.attempts == [] for found in records.values())
    assert one.given() == dict.fromkeys(records, 1)
    ledger = submissions.read(one.results)
    assert ledger.open == ()
    in_ledger = {str(submission.job_of(task)) for submission in ledger.closed for task in range(len(submission.tasks))}
    ours = {job.id for job in one.queue().values() if job.name.startswith("bench-")}
    assert {str((found.provenance or {})["slurm_job_id"]) for found in records.values()} <= in_ledger
    assert in_ledger == {job for job in ours if job.partition("_")[0] in {one.partition("_")[0] for one in in_ledger}}
    assert one.live_jobs() == [] and leftovers(one.results) == []


@contextmanager
def wrapped(one: Study, submits: bool) -> Iterator[None]:
    """While the block runs, an sbatch that kills the command that calls it."""
    folder, path = one.folder / "bin", one.env["PATH"]
    folder.mkdir()
    script = WRAPPER.format(python=sys.executable, submits=submits, sbatch=shutil.which("sbatch", path=path))
    (folder / "sbatch").write_text(script)
    (folder / "sbatch").chmod(0o755)
    one.env["PATH"] = f"{folder}:{path}"
    yield
    one.env["PATH"] = path


def test_of_two_commands_one_is_killed_and_a_third_finishes(cluster, study):
    one = study(cluster, profile=PROFILE, **GRID)
    first, second = one.run(), one.run()
    one.until("a run at work", one.at_work)
    kill(first)
    third = one.run()
    assert f"{RUNS} of {RUNS} runs are done, 0 failed" in one.finish(second)
    assert f"{RUNS} of {RUNS} runs are done, 0 failed" in one.finish(third)
    done_once(one)


WRAPPER = """#!{python}
import os, signal, subprocess, sys
if {submits}:
    subprocess.run(["{sbatch}", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.mark.release
@pytest.mark.parametrize("submits", [False, True], ids=["before sbatch", "before its answer"])
def test_the_next_command_finishes_what_one_killed_while_submitting_began(cluster, study, submits):
    one = study(cluster, profile=PROFILE, **GRID)
    with wrapped(one, submits):
        command = one.run()
        one.finish(command, expect=-signal.SIGKILL)
    (orphan,) = submissions.read(one.results).open
    assert orphan.job_id is None
    assert any(job.name == orphan.job_name for job in one.queue().values()) is submits
    if not submits:  # such a submission is waited for, in case that sbatch is just slow: here, it is old
        os.utime(submissions.path(one.results, orphan), (0, 0))
    assert f"{RUNS} of {RUNS} runs are done, 0 failed" in one.finish(one.run())
    records = one.records()
    assert len(records) == RUNS and {found.status for found in records.values()} == {"ok"}
    assert all(found.attempts == [] for found in records.values())
    assert submissions.read(one.results).open == () and one.live_jobs() == [] and leftovers(one.results) == []


@pytest.mark.release
def test_jobs_of_a_command_killed_before_it_noted_them_are_adopted(cluster, study):
    one = study(cluster, profile=PROFILE, **GRID)
    one.finish(one.run("--detach"))
    (submission,) = submissions.read(one.results).open
    path = submissions.path(one.results, submission)
    path.write_text(json.dumps({**json.loads(path.read_text()), "job_id": None}))  # as a crash would have left it
    assert f"{RUNS} of {RUNS} runs are done, 0 failed" in one.finish(one.run())
    done_once(one)
