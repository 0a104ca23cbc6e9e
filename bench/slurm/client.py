"""SLURM's commands: the queue, the final states of jobs, the cluster's configuration, and ending jobs."""

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
"""States that a job does not leave by itself; in every other one it waits, runs, or is about to run."""
DEFAULT_MAX_ARRAY_SIZE = 1001
FORMAT = "%i|%T|%N|%M|%L|%r|%j"  # the name comes last: only it may contain a bar
IDS_PER_CALL = 500  # job ids in one command line


@dataclass(frozen=True)
class QueuedJob:
    """A line of `squeue`.

    Attributes:
        id: ``123``, or ``123_4`` for a task of an array.
        name: the job's name.
        state: as SLURM writes it, e.g. ``PENDING``, ``RUNNING``, ``NODE_FAIL``.
        reason: SLURM's reason for which it waits, e.g. ``Priority``.
        node: the node it runs on; empty while it waits.
        elapsed_s: since it (last) started.
        left_s: until its time limit; None where SLURM does not say.
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
        """True while it waits or runs."""
        return self.state not in FINISHED_STATES


@dataclass(frozen=True)
class Queue:
    """This user's jobs, those included that ended a few minutes ago (SLURM's MinJobAge).

    Attributes:
        jobs: by id.
        owner: the user and the cluster, as ``uid@cluster``.
    """

    jobs: Mapping[str, QueuedJob]
    owner: str

    def named(self, name: str) -> QueuedJob | None:
        """Any job of this name."""
        return next((job for job in self.jobs.values() if job.name == name), None)


def is_installed() -> bool:
    """Return whether there is an `sbatch` here."""
    return shutil.which("sbatch") is not None


def is_configured() -> bool:
    """Return whether a cluster is configured on this machine."""
    usual = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf")
    return "SLURM_CONF" in os.environ or any(Path(path).is_file() for path in usual)


def is_answering() -> bool:
    """Return whether a cluster answers: installed packages alone are none."""
    return output(["sinfo", "--noheader"], limit_s=15) is not None


def queue() -> Queue | None:
    """The queue by one `squeue` call; None where SLURM is absent or does not answer, which says nothing about jobs."""
    text = output(
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
    states: dict[str, str] = {}
    ordered = sorted(job_ids)
    for start in range(0, len(ordered), IDS_PER_CALL):
        listed = ",".join(ordered[start : start + IDS_PER_CALL])
        text = output(["sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={listed}"])
        for line in (text or "").splitlines():
            job_id, _, state = line.partition("|")
            if job_id in job_ids and state:
                states[job_id] = state.split()[0]
    return states


def job_state(job_id: str) -> str | None:
    """The state of one job now, or None; a job that is being ended is ``COMPLETING`` or over."""
    text = output(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"])
    return text.split()[0] if text and text.split() else None


def cancel(job_ids: Sequence[str]) -> list[str]:
    """`scancel` the jobs; return the lines of its error messages."""
    messages = []
    for start in range(0, len(job_ids), IDS_PER_CALL):
        command = ["scancel", *job_ids[start : start + IDS_PER_CALL]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        messages += [line for line in done.stderr.splitlines() if line.strip()]
    return messages


def max_array_size() -> int:
    """Largest number of tasks of an array: the cluster's MaxArraySize, or SLURM's default."""
    return max(1, int(_configured("MaxArraySize") or DEFAULT_MAX_ARRAY_SIZE))


def owner() -> str:
    """This user on this cluster, as ``uid@cluster``: `queue` shows the jobs of nobody else."""
    return f"{os.getuid()}@{_configured('ClusterName') or 'unknown'}"


def _configured(key: str) -> str | None:
    match = re.search(rf"^{key}\s*=\s*(\S+)", _configuration(), re.MULTILINE)
    return match[1] if match else None


@cache  # the same as long as a command lasts
def _configuration() -> str:
    text = output(["scontrol", "show", "config"])
    if text is None:
        raise ClusterError("scontrol show config: SLURM does not answer; try again, or use --cluster local.")
    return text


def parse_duration_s(text: str) -> float | None:
    """A duration as SLURM writes it (``[days-][hours:]minutes:seconds``) in seconds; None for words."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def output(command: Sequence[str], limit_s: float = 60) -> str | None:
    """Standard output of a command; None where it fails, is absent or takes longer than `limit_s`."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
