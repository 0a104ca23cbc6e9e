"""Ledger of submissions: which runs were given to which jobs, one file per `sbatch` call.

A file is written before `sbatch` is called and completed after it has answered; a job carries the name of its
submission, so that a crash between the two writes loses nothing. Made for shared file systems: files are whole or
absent, changes are made under a lock (see `bench.results.run_lock`) and no advisory lock is used.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import LedgerError
from bench.results import run_lock
from bench.slurm.client import Queue, QueuedJob
from registry import atomic

logger = logging.getLogger(__name__)

LOCK_LIMIT_S = 60.0
"""A lock held by a command on another host is taken over when it was not touched for this long."""


@dataclass(frozen=True)
class Submission:
    """One `sbatch` call.

    Attributes:
        token: names the file and the folder of the logs; sorts by time.
        job_name: the jobs' name in the queue.
        job_id: SLURM's; None as long as `sbatch` has not answered.
        tasks: run ids of each task of the array.
        folder: submitit's folder for the jobs' files, ``%j`` standing for a job's id.
        submitted: time of the call (UTC, ISO 8601).
        array: whether it is a job array.
        owner: user and cluster, as in `Queue.owner`: only their `squeue` shows whether the jobs live.
        closed_tasks: numbers of the tasks that are over and accounted for.
    """

    token: str
    job_name: str
    job_id: str | None
    tasks: tuple[tuple[str, ...], ...]
    folder: str
    submitted: str
    array: bool
    owner: str
    closed_tasks: frozenset[int] = frozenset()

    def job_of(self, task: int) -> str | None:
        """SLURM's id of one task, ``123_4``; ``123`` where it is no array."""
        return f"{self.job_id}_{task}" if self.job_id and self.array else self.job_id

    def log(self, task: int, suffix: str = "out") -> Path:
        """File that holds what a task's process printed: ``out`` or ``err``."""
        job_id = str(self.job_of(task))
        return Path(self.folder.replace("%j", job_id)) / f"{job_id}_0_log.{suffix}"


@dataclass(frozen=True)
class JobRef:
    """A task of a submission.

    Attributes:
        submission: the submission.
        task: its number in the array.
    """

    submission: Submission
    task: int

    @property
    def job_id(self) -> str | None:
        """SLURM's id; None as long as `sbatch` has not answered."""
        return self.submission.job_of(self.task)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs that the task was given."""
        return self.submission.tasks[self.task]

    @property
    def is_closed(self) -> bool:
        """True once its end is accounted for."""
        return self.task in self.submission.closed_tasks

    def queue_entry(self, queue: Queue) -> QueuedJob | None:
        """The job in the queue; None for a job of the same number and another name, on a cluster set up anew."""
        if self.submission.owner != queue.owner:
            return None
        job = queue.jobs.get(str(self.job_id))
        return job if job is not None and job.name == self.submission.job_name else None

    def is_over(self, queue: Queue) -> bool:
        """Return whether it ended or vanished; False for jobs that this queue would not show."""
        if self.job_id is None or self.submission.owner != queue.owner:
            return False
        job = self.queue_entry(queue)
        return job is None or not job.live


@dataclass(frozen=True)
class Ledger:
    """All submissions of a results folder.

    Attributes:
        open: submissions with tasks that are not accounted for, oldest first.
        closed: the others, oldest first.
        cancelled: ids of runs that a user cancelled; a later command about them removes the mark.
    """

    open: tuple[Submission, ...]
    closed: tuple[Submission, ...]
    cancelled: frozenset[str]

    def open_tasks(self, owner: str | None = None) -> Iterator[JobRef]:
        """Tasks whose end is not accounted for; those of one owner, if one is given."""
        for submission in self.open:
            if owner not in (None, submission.owner):
                continue
            for task in range(len(submission.tasks)):
                if task not in submission.closed_tasks:
                    yield JobRef(submission, task)

    def assigned(self) -> dict[str, JobRef]:
        """The job that each run was given to, as long as its end is not accounted for."""
        return {run_id: job for job in self.open_tasks() for run_id in job.run_ids}

    def latest(self) -> dict[str, JobRef]:
        """The last job that each run was given to, over or not."""
        return {
            run_id: JobRef(submission, task)
            for submission in sorted((*self.closed, *self.open), key=lambda submission: submission.token)
            for task, run_ids in enumerate(submission.tasks)
            for run_id in run_ids
        }


@contextmanager
def locked(results: Path, poll_s: float = 0.25) -> Iterator[None]:
    """Hold the ledger while the block runs: one command at a time decides what is submitted.

    Args:
        results: the results folder.
        poll_s: seconds between two attempts to get the lock.
    """
    folder, logged = results / "ledger" / "lock", False
    while (lock := run_lock.acquire(folder, limit_s=LOCK_LIMIT_S)) is None:
        holder = run_lock.holder(folder)
        if holder is not None and not logged:
            logged = True
            logger.info("waiting for another bench command (process %s on %s)", holder.get("pid"), holder.get("host"))
        time.sleep(poll_s)
    try:
        with lock.heartbeat(interval_s=LOCK_LIMIT_S / 12):
            yield
    finally:
        lock.release()


def read(results: Path) -> Ledger:
    """The ledger as it stands; reading needs no lock.

    Raises:
        LedgerError: a damaged file.
    """
    root = results / "ledger"
    # Closed last: a file that moves meanwhile is then read twice rather than never.
    opened = _submissions(root / "open")
    closed = _submissions(root / "closed")
    over = {submission.token for submission in closed}
    return Ledger(
        tuple(submission for submission in opened if submission.token not in over), closed, read_cancelled(results)
    )


def read_cancelled(results: Path) -> frozenset[str]:
    """Ids of the runs that a user cancelled.

    Raises:
        LedgerError: a damaged file.
    """
    path = results / "ledger" / "cancelled.json"
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return frozenset()
    except ValueError as error:
        raise LedgerError(f"{path} is damaged ({error}); remove it: it only names cancelled runs.") from error


def write_cancelled(results: Path, run_ids: Collection[str]) -> None:
    """Replace the list of cancelled runs; call with the lock held."""
    atomic.write_text(results / "ledger" / "cancelled.json", json.dumps(sorted(run_ids)) + "\n")


def begin(results: Path, tasks: Collection[Collection[str]], *, submitted: str, owner: str) -> Submission:
    """Write down what is about to be submitted, before it is; call with the lock held."""
    unique = uuid.uuid4().hex[:8]
    token = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{unique}"  # sorts by time, within a second too
    submission = Submission(
        token=token,
        job_name=f"bench-{unique}",
        job_id=None,
        tasks=tuple(tuple(run_ids) for run_ids in tasks),
        folder=str((results / "jobs" / token / "%j").absolute()),
        submitted=submitted,
        array=len(tasks) > 1,
        owner=owner,
    )
    _write(results, submission)
    return submission


def confirm(results: Path, submission: Submission, job_id: str) -> Submission:
    """Add the job id that `sbatch` answered with, or that the queue shows for the submission's name."""
    confirmed = replace(submission, job_id=job_id.partition("_")[0])
    _write(results, confirmed)
    return confirmed


def close_tasks(results: Path, submission: Submission, tasks: Collection[int]) -> Submission:
    """Note tasks that are over and accounted for; a submission without others moves to the closed ones."""
    changed = replace(submission, closed_tasks=submission.closed_tasks | frozenset(tasks))
    written = _write(results, changed)
    if len(changed.closed_tasks) == len(changed.tasks):
        closed = results / "ledger" / "closed" / written.name
        closed.parent.mkdir(parents=True, exist_ok=True)
        written.replace(closed)
    return changed


def path(results: Path, submission: Submission) -> Path:
    """The file of an open submission."""
    return results / "ledger" / "open" / f"{submission.token}.json"


def _write(results: Path, submission: Submission) -> Path:
    values: dict[str, Any] = asdict(submission)
    values["settled"] = sorted(values.pop("closed_tasks"))  # the key of version 0.1.0
    target = path(results, submission)
    atomic.write_text(target, json.dumps(values, separators=(",", ":")) + "\n")
    return target


def _submissions(folder: Path) -> tuple[Submission, ...]:
    submissions = []
    for file in sorted(folder.glob("[!.]*.json")):
        try:
            values: dict[str, Any] = dict(_mapping(json.loads(file.read_text(encoding="utf-8"))))
            values["tasks"] = tuple(tuple(map(str, run_ids)) for run_ids in values["tasks"])
            closed_tasks = frozenset(values.pop("settled"))
            submissions.append(Submission(**values, closed_tasks=closed_tasks))
        except FileNotFoundError:
            continue  # moved to the closed ones meanwhile
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{file} is damaged ({type(error).__name__}: {error}); move it away: its jobs, if any still run, "
                "finish all the same."
            ) from error
    return tuple(submissions)


def _mapping(values: object) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"it holds a {type(values).__name__}")
    return values
