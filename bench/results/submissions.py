"""Which runs were given to which jobs: one file per `sbatch` call, written before it and completed after it.

Made for shared file systems: files are whole or absent, changes are made under a claim (see `bench.results.run_lock`) and no
advisory lock is used. A job carries its submission's name, so that a crash between the two writes loses nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import LedgerError
from bench.results import record, run_lock
from bench.slurm.client import Queue, QueuedJob

LOCK_LIMIT_S = 60.0
"""The lock of a command on another host is given up when it was not touched for so long."""


@dataclass(frozen=True)
class Submission:
    """One `sbatch` call.

    Attributes:
        token: names the file and the folder of the logs; sorts by time.
        job_name: the jobs' name in the queue.
        job_id: SLURM's; None as long as `sbatch` has not answered.
        tasks: run ids of each task of the array.
        folder: where submitit keeps what belongs to the jobs, ``%j`` standing for a job's id.
        submitted: when (UTC, ISO 8601).
        array: whether it is a job array.
        owner: user and cluster: only their `squeue` tells whether the jobs live.
        settled: tasks that are over and accounted for.
    """

    token: str
    job_name: str
    job_id: str | None
    tasks: tuple[tuple[str, ...], ...]
    folder: str
    submitted: str
    array: bool
    owner: str
    settled: frozenset[int] = frozenset()

    def job_of(self, task: int) -> str | None:
        """SLURM's id of one task, ``123_4``; ``123`` where it is no array."""
        return f"{self.job_id}_{task}" if self.job_id and self.array else self.job_id

    def log(self, task: int, suffix: str = "out") -> Path:
        """What a task's process wrote: ``out`` or ``err``."""
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

    def line(self, queue: Queue) -> QueuedJob | None:
        """What `squeue` shows of it; another job of the same number, on a cluster set up anew, is not it."""
        if self.submission.owner != queue.owner:
            return None
        job = queue.jobs.get(str(self.job_id))
        return job if job is not None and job.name == self.submission.job_name else None

    def is_over(self, queue: Queue) -> bool:
        """Whether it ended or vanished; never said of jobs that this queue would not show."""
        if self.job_id is None or self.submission.owner != queue.owner:
            return False
        job = self.line(queue)
        return job is None or not job.live


@dataclass(frozen=True)
class Ledger:
    """All that was submitted.

    Attributes:
        open: submissions with tasks that are not settled, oldest first.
        closed: those that are over, oldest first.
        cancelled: ids of runs that a user cancelled; a new command about them makes them wanted again.
    """

    open: tuple[Submission, ...]
    closed: tuple[Submission, ...]
    cancelled: frozenset[str]

    def unsettled(self, owner: str | None = None) -> Iterator[JobRef]:
        """Tasks whose end nobody has looked at yet; of one owner, if asked."""
        for submission in self.open:
            if owner not in (None, submission.owner):
                continue
            for task in range(len(submission.tasks)):
                if task not in submission.settled:
                    yield JobRef(submission, task)

    def assigned(self) -> dict[str, JobRef]:
        """The job that each run was given to, as far as its end is not accounted for."""
        return {
            run_id: reference for reference in self.unsettled() for run_id in reference.submission.tasks[reference.task]
        }

    def latest(self) -> dict[str, JobRef]:
        """The last job that each run was given to, settled or not."""
        return {
            run_id: JobRef(submission, task)
            for submission in sorted((*self.closed, *self.open), key=lambda one: one.token)
            for task, run_ids in enumerate(submission.tasks)
            for run_id in run_ids
        }


@contextmanager
def locked(results: Path, waiting: Callable[[str], None] = lambda _: None, poll_s: float = 0.25) -> Iterator[None]:
    """Hold the ledger while the block runs: one command at a time decides what is submitted.

    Args:
        results: the results folder.
        waiting: told, once, who holds it.
        poll_s: how often to look again.
    """
    folder, told = results / "ledger" / "lock", False
    while (lock := run_lock.acquire(folder, limit_s=LOCK_LIMIT_S)) is None:
        holder = run_lock.holder(folder)
        if holder is not None and not told:
            told = True
            waiting(f"waiting for another bench command (process {holder.get('pid')} on {holder.get('host')})")
        time.sleep(poll_s)
    try:
        with lock.kept_alive(interval_s=LOCK_LIMIT_S / 12):
            yield
    finally:
        lock.release()


def read(results: Path) -> Ledger:
    """The ledger as it stands; reading needs no lock.

    Raises:
        LedgerError: a damaged file.
    """
    root = results / "ledger"
    # Closed last: a file that moves meanwhile is then seen twice rather than never.
    opened = _submissions(root / "open")
    closed = _submissions(root / "closed")
    over = {one.token for one in closed}
    return Ledger(tuple(one for one in opened if one.token not in over), closed, read_cancelled(results))


def read_cancelled(results: Path) -> frozenset[str]:
    """Ids of the runs that a user cancelled.

    Raises:
        LedgerError: a damaged file.
    """
    listed = results / "ledger" / "cancelled.json"
    try:
        return frozenset(map(str, json.loads(listed.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return frozenset()
    except ValueError as error:
        raise LedgerError(f"{listed} is damaged ({error}); remove it: it only names cancelled runs.") from error


def begin(results: Path, tasks: Collection[Collection[str]], *, submitted: str, owner: str) -> Submission:
    """Write down what is about to be submitted, before it is; call with the lock held."""
    unique = uuid.uuid4().hex[:8]
    token = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{unique}"  # sorts by time, within a second too
    submission = Submission(
        token=token,
        job_name=f"bench-{unique}",
        job_id=None,
        tasks=tuple(tuple(one) for one in tasks),
        folder=str((results / "jobs" / token / "%j").absolute()),
        submitted=submitted,
        array=len(tasks) > 1,
        owner=owner,
    )
    _write(results, submission)
    return submission


def confirm(results: Path, submission: Submission, job_id: str) -> Submission:
    """Add the job id that `sbatch` answered with (or that the queue shows for the submission's name)."""
    confirmed = replace(submission, job_id=job_id.partition("_")[0])
    _write(results, confirmed)
    return confirmed


def close_tasks(results: Path, submission: Submission, tasks: Collection[int]) -> Submission:
    """Note tasks that are over and accounted for; a submission without others is closed."""
    settled = replace(submission, settled=submission.settled | frozenset(tasks))
    written = _write(results, settled)
    if len(settled.settled) == len(settled.tasks):
        closed = results / "ledger" / "closed" / written.name
        closed.parent.mkdir(parents=True, exist_ok=True)
        written.replace(closed)
    return settled


def path(results: Path, submission: Submission) -> Path:
    """The file of an open submission."""
    return results / "ledger" / "open" / f"{submission.token}.json"


def write_cancelled(results: Path, run_ids: Collection[str]) -> None:
    """Replace the list of cancelled runs; call with the lock held."""
    record.write_atomically(results / "ledger" / "cancelled.json", json.dumps(sorted(run_ids)) + "\n")


def _write(results: Path, submission: Submission) -> Path:
    values: dict[str, Any] = asdict(submission) | {"settled": sorted(submission.settled)}
    target = path(results, submission)
    record.write_atomically(target, json.dumps(values, separators=(",", ":")) + "\n")
    return target


def _submissions(folder: Path) -> tuple[Submission, ...]:
    found = []
    for file in sorted(folder.glob("[!.]*.json")):
        try:
            values: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            tasks = tuple(tuple(map(str, one)) for one in values["tasks"])
            found.append(Submission(**{**values, "tasks": tasks, "settled": frozenset(values["settled"])}))
        except FileNotFoundError:
            continue  # moved to the closed ones meanwhile
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{file} is damaged ({type(error).__name__}: {error}); move it away: its jobs, if any still run, "
                "finish all the same."
            ) from error
    return tuple(found)
