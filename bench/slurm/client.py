"""The SLURM commands that we ask ourselves: what is in the queue, how jobs ended, what the cluster allows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.errors import ClusterError

FINISHED_STATES = frozenset(
    (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    )
)
"""States that a job does not leave by itself; every other one waits, runs, or is about to."""
DEFAULT_MAX_ARRAY_SIZE = 1001
FORMAT = "%i|%T|%N|%M|%L|%r|%j"  # the name last: it alone may hold a bar
AT_ONCE = 500  # job ids in one command line


@dataclass(frozen=True)
class QueuedJob:
    """A line of `squeue`.

    Attributes:
        id: ``123``, or ``123_4`` for a task of an array.
        name: the job's name.
        state: as SLURM writes it, e.g. ``PENDING``, ``RUNNING``, ``NODE_FAIL``.
        reason: why it waits.
        node: where it runs; empty while it waits.
        elapsed_s: since it (last) started.
        left_s: until its time limit; None where SLURM does not tell.
    """

    id: str
    name: str
    state: str
    reason: str
    node: str
    elapsed_s: float
    left_s: float | None

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in FINISHED_STATES


@dataclass(frozen=True)
class Queue:
    """This user's jobs, those included that ended a few minutes ago (SLURM's MinJobAge).

    Attributes:
        jobs: by id.
        owner: whose they are, and on which cluster.
    """

    jobs: Mapping[str, QueuedJob]
    owner: str

    def named(self, name: str) -> QueuedJob | None:
        """Any job of this name."""
        return next((job for job in self.jobs.values() if job.name == name), None)


def is_installed() -> bool:
    """Whether there is an `sbatch` here."""
    return shutil.which("sbatch") is not None


def is_configured() -> bool:
    """Whether this machine was told of a cluster."""
    usual = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf")
    return "SLURM_CONF" in os.environ or any(Path(one).is_file() for one in usual)


def is_answering() -> bool:
    """Whether there is a cluster behind the commands: packages alone are not one."""
    return _ask(["sinfo", "--noheader"], limit_s=15) is not None


def queue() -> Queue | None:
    """One `squeue` call; None where SLURM is not there or does not answer, which says nothing about the jobs."""
    text = _ask(
        ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={FORMAT}"], limit_s=20
    )
    if text is None:
        return None
    jobs = {}
    for line in text.splitlines():
        if line.count("|") < 6:
            continue  # a headline of several clusters, say
        job_id, state, node, elapsed, left, reason, name = line.split("|", 6)
        jobs[job_id] = QueuedJob(
            job_id,
            name,
            state,
            "" if reason == "None" else reason,
            node,
            parse_duration_s(elapsed) or 0.0,
            parse_duration_s(left),
        )
    try:
        return Queue(jobs, owner())
    except ClusterError:
        return None


def final_states(job_ids: Collection[str]) -> dict[str, str]:
    """Final states by one `sacct` call (per 500 jobs); empty where there is no accounting.

    A requeued job's earlier ends are not reported; a state such as ``CANCELLED by 1000`` is its first word.
    """
    found: dict[str, str] = {}
    ordered = sorted(job_ids)
    for start in range(0, len(ordered), AT_ONCE):
        asked = ",".join(ordered[start : start + AT_ONCE])
        text = _ask(["sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={asked}"])
        for line in (text or "").splitlines():
            job_id, _, state = line.partition("|")
            if job_id in job_ids and state:
                found[job_id] = state.split()[0]
    return found


def job_state(job_id: str) -> str | None:
    """The state of one job now, or None; a job that is being ended is ``COMPLETING`` or over."""
    text = _ask(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"])
    return text.split()[0] if text and text.split() else None


def cancel(job_ids: Sequence[str]) -> list[str]:
    """`scancel` the jobs; returns what it complained about."""
    complaints = []
    for start in range(0, len(job_ids), AT_ONCE):
        command = ["scancel", *job_ids[start : start + AT_ONCE]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        complaints += [line for line in done.stderr.splitlines() if line.strip()]
    return complaints


def max_array_size() -> int:
    """How many tasks an array may have here: the cluster's MaxArraySize, or SLURM's default."""
    return max(1, int(_configured("MaxArraySize") or DEFAULT_MAX_ARRAY_SIZE))


def owner() -> str:
    """This user on this cluster, as ``uid@cluster``: whose jobs `queue` shows."""
    return f"{os.getuid()}@{_configured('ClusterName') or 'unknown'}"


def _configured(key: str) -> str | None:
    told = re.search(rf"^{key}\s*=\s*(\S+)", _configuration(), re.MULTILINE)
    return told[1] if told else None


@cache  # the same as long as a command lasts
def _configuration() -> str:
    text = _ask(["scontrol", "show", "config"])
    if text is None:
        raise ClusterError("scontrol show config: SLURM does not answer; try again, or use --cluster local.")
    return text


def parse_duration_s(text: str) -> float | None:
    """A duration as SLURM writes it (``[days-][hours:]minutes:seconds``) in seconds; None for words."""
    told = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if told is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in told.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def _ask(command: Sequence[str], limit_s: float = 60) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
