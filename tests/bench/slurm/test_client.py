"""Reading the output of SLURM's commands; the commands are small scripts here, tests/cluster asks real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.errors import ClusterError
from bench.slurm import client

SQUEUE = """\
77_3|PENDING||0:00|2:00:00|Priority|bench-0a1b
77_0|RUNNING|node1|1:02|1-00:58:58|None|bench-0a1b
78|COMPLETING|node2|3:00:00|0:00|NonZeroExitCode|bench-9|9
76|NODE_FAIL|node2|9:59|UNLIMITED|None|other
75_[4-9]|CANCELLED||0:00|INVALID|None|bench-0a1b
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put small shell scripts before everything else on the path; each notes its arguments, a call a line."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(**scripts: str) -> Path:
        for name, script in scripts.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{script}\n')
            (folder / name).chmod(0o755)
        client._configuration.cache_clear()
        return tmp_path / "calls"

    put(scontrol="echo 'ClusterName             = here'")
    yield put
    client._configuration.cache_clear()


def answer(text: str) -> str:
    return f"cat <<'END'\n{text}END"


def test_the_queue_is_read_in_one_call(commands):
    calls = commands(squeue=answer(SQUEUE))
    found = client.queue()
    assert found is not None
    assert list(found.jobs) == ["77_3", "77_0", "78", "76", "75_[4-9]"]
    assert found.jobs["77_3"] == client.QueuedJob(
        "77_3", "bench-0a1b", "PENDING", "Priority", "", elapsed_s=0.0, left_s=7200.0
    )
    running = found.jobs["77_0"]
    assert (running.node, running.elapsed_s, running.left_s) == ("node1", 62.0, 86400 + 58 * 60 + 58)
    assert running.reason == ""  # SLURM writes "None" where there is no reason
    assert found.jobs["78"].name == "bench-9|9"
    assert found.jobs["76"].left_s is None and found.jobs["75_[4-9]"].left_s is None
    call, *others = calls.read_text().splitlines()
    assert others == ["scontrol show config"]  # once in a process
    assert "--states=all" in call and "--array" in call and f"--user={os.getuid()}" in call


def test_only_jobs_that_wait_or_run_are_live(commands):
    commands(squeue=answer(SQUEUE))
    found = client.queue()
    assert found is not None
    assert [job.id for job in found.jobs.values() if job.live] == ["77_3", "77_0", "78"]


@pytest.mark.parametrize(
    ("state", "live"),
    [
        *((state, True) for state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED")),
        *((state, False) for state in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")),
        *((state, False) for state in ("OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "REVOKED")),
    ],
)
def test_states_that_a_job_does_not_leave_are_over(state, live):
    assert client.QueuedJob("1", "bench", state, "", "", 0.0, None).live is live


def test_jobs_are_found_by_their_name(commands):
    commands(squeue=answer(SQUEUE))
    found = client.queue()
    assert found is not None
    named = found.named("bench-0a1b")
    assert named is not None and named.id == "77_3"
    assert found.named("bench-0a1") is None


def test_an_empty_queue_is_no_silence(commands):
    commands(squeue="exit 0")
    assert client.queue() == client.Queue({}, f"{os.getuid()}@here")


def test_a_squeue_that_fails_says_nothing_about_jobs(commands, monkeypatch):
    commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert client.queue() is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert client.queue() is None


def test_a_squeue_that_hangs_is_given_up(monkeypatch):
    def hang(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(client.subprocess, "run", hang)
    assert client.queue() is None
    assert not client.is_answering()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:00", 0.0), ("1:02", 62.0), ("2:00:00", 7200.0), ("1-00:00:05", 86405.0), (" 12:34 ", 754.0)],
)
def test_durations(text, expected):
    assert client.parse_duration_s(text) == expected


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET", "", "5", "1:2:3:4"])
def test_words_are_no_durations(text):
    assert client.parse_duration_s(text) is None


def test_ends_are_asked_of_the_accounting(commands):
    told = "77_0|COMPLETED\n77_1|CANCELLED by 1000\n77_2|OUT_OF_MEMORY\n99|NODE_FAIL\n77_[3-5]|PENDING\n78|\n"
    calls = commands(sacct=answer(told))
    found = client.final_states({"77_2", "77_0", "77_1", "78"})
    assert found == {"77_0": "COMPLETED", "77_1": "CANCELLED", "77_2": "OUT_OF_MEMORY"}
    (call,) = calls.read_text().splitlines()
    assert call.endswith("--jobs=77_0,77_1,77_2,78")


def test_many_ends_are_asked_five_hundred_at_a_time(commands):
    calls = commands(sacct="exit 0")
    assert client.final_states([str(number) for number in range(1001)]) == {}
    asked = [call.rpartition("=")[2].split(",") for call in calls.read_text().splitlines()]
    assert [len(ids) for ids in asked] == [500, 500, 1]
    assert len({one for ids in asked for one in ids}) == 1001


def test_without_accounting_nothing_is_known_of_ends(commands):
    commands(sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert client.final_states(["77_0"]) == {}


def test_no_jobs_are_no_call(commands):
    calls = commands(sacct="exit 0", scancel="exit 0")
    assert client.final_states([]) == {} and client.cancel([]) == []
    assert not calls.exists()


def test_the_state_of_one_job(commands):
    commands(squeue="echo RUNNING")
    assert client.job_state("77_0") == "RUNNING"
    commands(squeue="exit 0")  # a task that was cancelled before it started has no line of its own
    assert client.job_state("77_0") is None
    commands(squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert client.job_state("77_0") is None


def test_what_scancel_complains_about_is_returned(commands):
    calls = commands(scancel="echo 'scancel: error: Kill job error on job id 5: Access denied' >&2; exit 1")
    assert client.cancel(["5", "6_1"]) == ["scancel: error: Kill job error on job id 5: Access denied"]
    assert calls.read_text() == "scancel 5 6_1\n"


def test_the_size_of_arrays_is_the_clusters(commands):
    commands(scontrol="echo 'MaxArraySize            = 401'")
    assert client.max_array_size() == 401
    commands(scontrol="exit 1")
    with pytest.raises(ClusterError, match="SLURM does not answer"):
        client.max_array_size()


def test_packages_alone_are_no_cluster(commands, monkeypatch):
    commands(sbatch="exit 0", sinfo="exit 1")
    assert client.is_installed() and not client.is_answering()
    commands(sinfo="echo gpu up")
    assert client.is_answering()
    monkeypatch.setenv("PATH", "/nowhere")
    assert not client.is_installed() and not client.is_answering()
