"""Jobs that others with a higher priority push aside: cancelled or requeued, no run is lost, and none is done twice."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from typing import Any

import pytest
from study import Command, Study, leftovers

GRID: dict[str, Any] = {"epochs": 30}
RUNS = 2
PROFILE = "runs_per_job = 1\n"
URGENT = ("sbatch", "--parsable", "--nodes=2", "--cpus-per-task=2", "--output=/dev/null")


def preempt(one: Study, command: Command | None, *words: str) -> None:
    """Submit a job that takes both nodes while both runs train, and wait until it is over."""
    caught: dict[str, str] = {}

    def both() -> bool:
        for run, progress in one.training(4).items():
            if run not in caught:
                os.kill(progress["pid"], signal.SIGSTOP)  # until SLURM wakes it up and tells it
                caught[run] = progress["job"]
        return len(caught) == RUNS

    one.until("both runs trained", both, of=command)
    urgent = one.ask(*URGENT, *words, "--wrap=true").strip()
    one.until("the urgent job's end", lambda: one.queue()[urgent].state == "COMPLETED")
    assert all("interrupted: asked to stop after step" in log_of(one, run) for run in caught), one.explain()


def log_of(one: Study, run: str) -> str:
    return (one.results / "runs" / run / "log.txt").read_text()


def submitted(command: Command) -> int:
    """Runs that a command submitted so far, each as often as it did."""
    return sum(int(number) for number in re.findall(r"^Submitted (\d+) run", command.output, re.MULTILINE))


def states(one: Study, earlier: Collection[str]) -> list[str]:
    """States of this program's jobs but the earlier ones: other tests use the cluster, too."""
    jobs = {number: job for number, job in one.queue().items() if number not in earlier}
    return sorted(job.state for job in jobs.values() if job.name.startswith("bench-"))


def done_once(one: Study, times: int) -> None:
    """Every run has one record of one attempt, and went on from its saved state as often as it was pushed aside."""
    records = one.records()
    assert len(records) == RUNS and {found.status for found in records.values()} == {"ok"}, one.explain()
    assert all(found.attempts == [] for found in records.values())
    for run in records:
        log = log_of(one, run)
        assert (log.count(" done\n"), log.count(" continues: "), log.count("interrupted: ")) == (1, times, times)
    assert one.live_jobs() == [] and leftovers(one.results) == []


def test_cancelled_jobs_go_on_from_their_saved_state_with_run_and_with_retry(cluster, study):
    one = study(cluster, profile=f'{PROFILE}partition = "cancelled"\n', **GRID)
    earlier = one.queue().keys()
    command = one.run()
    preempt(one, command, "--partition=urgent")
    one.until("their new submission", lambda: submitted(command) == 2 * RUNS, of=command)  # together or one by one
    command.process.kill()
    preempt(one, None, "--partition=urgent")  # while no command follows
    assert states(one, earlier) == ["PREEMPTED"] * 2 * RUNS
    assert "2 of 2 runs are done, 0 failed." in one.do("retry")
    assert one.given() == dict.fromkeys(one.records(), 3)
    done_once(one, times=2)


@pytest.mark.release
@pytest.mark.parametrize("partition", ["graceful", "requeued"])
def test_jobs_that_are_warned_or_requeued_keep_their_place(cluster, study, partition):
    one = study(cluster, profile=f'{PROFILE}partition = "{partition}"\n', **GRID)
    command = one.run()
    preempt(one, command, "--partition=urgent")
    assert "2 of 2 runs are done, 0 failed." in one.finish(command)
    assert one.given() == dict.fromkeys(one.records(), 1)
    assert {(found.provenance or {})["slurm_restart_count"] for found in one.records().values()} == {1}
    done_once(one, times=1)


@pytest.mark.release
def test_a_qos_may_push_others_aside(accounted, study):
    for words in (["add", "qos", "low"], ["add", "qos", "high"], ["modify", "qos", "high", "set", "preempt=low"]):
        accounted.ask("sacctmgr", "-i", *words)
    accounted.ask("sacctmgr", "-i", "modify", "qos", "high,low", "set", "preemptmode=cancel")
    one = study(accounted, profile=f'{PROFILE}qos = "low"\n', **GRID)
    command = one.run()
    preempt(one, command, "--qos=high")
    assert "2 of 2 runs are done, 0 failed." in one.finish(command)
    done_once(one, times=1)
