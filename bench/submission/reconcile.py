"""Reconcile: match jobs that ended with the records they left, and record the attempts that left none."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.grid import Run
from bench.results import record, run_lock, submissions
from bench.results.failure import Failure
from bench.results.submissions import JobRef, Ledger, Submission
from bench.slurm import client
from bench.submission import submit
from bench.worker.job import JobResult
from bench.worker.settings import WorkerSettings
from bench.worker.worker import record_failure

UNCONFIRMED_S = 30.0
"""A submission whose command crashed is looked for in the queue for so long before it counts as never made."""
DELIBERATE = frozenset(("CANCELLED", "PREEMPTED", "REVOKED"))
NODE_FAILED = frozenset(("NODE_FAIL", "BOOT_FAIL"))


@dataclass
class Reconciled:
    """Result of `reconcile`.

    Attributes:
        ledger: afterwards.
        errors: sentences that say why jobs could not work, with the ids of their runs.
        cancelled: (job, run) of all that was cancelled by `scancel`.
        failures: (run id, line) of the attempts that were recorded as failed.
        has_progress: whether any of the jobs did some of its work, or was ended on purpose.
        jobs_without_record: number of jobs that began no run, or left no record here.
    """

    ledger: Ledger
    errors: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    cancelled: set[tuple[str, str]] = field(default_factory=set)
    failures: list[tuple[str, str]] = field(default_factory=list)
    has_progress: bool = False
    jobs_without_record: int = 0


@dataclass(frozen=True)
class _EndedJob:
    """A job that is over.

    Attributes:
        task: of the ledger.
        state: its final state; None where neither queue nor accounting know it.
        node: where it ran; empty where that is not known.
        result: what submitit kept; None for a killed one.
        locked: runs whose lock it left behind, which is removed by now.
    """

    task: JobRef
    state: str | None
    node: str
    result: JobResult | None
    locked: tuple[str, ...]

    @property
    def name(self) -> str:
        """The job and its node, for messages."""
        return f"job {self.task.job_id}" + (f" on {self.node}" if self.node else "")


def reconcile(
    ledger: Ledger,
    queue: client.Queue,
    *,
    settings: WorkerSettings,
    known: Mapping[str, Run],
    waiting: Collection[str] = (),
) -> Reconciled:
    """Account for every task that is over; call with the ledger locked.

    A run whose lock a dead job left gets a record of the lost attempt. A run whose job saved its state and ended has
    none: it is simply due again. Runs of a job that a user cancelled are cancelled.

    Args:
        ledger: as it was read under the lock.
        queue: SLURM's.
        settings: of the workers.
        known: runs by id.
        waiting: jobs that waited a moment ago: SLURM keeps no trace of those that are cancelled before they begin.
    """
    results = settings.results
    ledger = _resolve_unconfirmed(ledger, queue, results)
    reconciled = Reconciled(ledger)
    closed: dict[str, tuple[Submission, set[int]]] = {}
    for job in _ended_jobs(ledger, queue, results, waiting):
        run_ids = job.task.run_ids
        if job.result is not None and job.result.error:
            reconciled.errors.append((job.result.error, frozenset(run_ids)))
        for run_id, failure in _failures(job, results):
            run = known.get(run_id)
            if run is not None and record_failure(run, settings, failure):
                line = f"{run.backbone} {run.strategy} fold {run.fold}: {failure.reason}"
                reconciled.failures.append((run_id, line))
        if job.state == "CANCELLED":
            reconciled.cancelled |= {
                (str(job.task.job_id), run_id) for run_id in run_ids if not _is_done(results, run_id)
            }
        if _has_worked(job, results, ledger.cancelled):
            reconciled.has_progress = True
        elif job.state not in NODE_FAILED:  # a failed node ends many jobs, which are not at fault
            reconciled.jobs_without_record += 1
        closed.setdefault(job.task.submission.token, (job.task.submission, set()))[1].add(job.task.task)
    if reconciled.cancelled:
        submissions.write_cancelled(results, ledger.cancelled | {run_id for _, run_id in reconciled.cancelled})
    for submission, tasks in closed.values():
        submissions.close_tasks(results, submission, tasks)
    if closed:
        reconciled.ledger = submissions.read(results)
    return reconciled


def _ended_jobs(ledger: Ledger, queue: client.Queue, results: Path, waiting: Collection[str]) -> Iterator[_EndedJob]:
    """Jobs that are over, one after the other: the locks of each are removed when its turn has come."""
    ended = [(task, task.queue_entry(queue)) for task in ledger.open_tasks() if task.is_over(queue)]
    forgotten = [str(task.job_id) for task, entry in ended if entry is None]
    states = client.final_states(forgotten) if forgotten else {}
    for task, entry in ended:
        job_id = str(task.job_id)
        state = entry.state if entry else states.get(job_id)
        result = submit.result(task)
        locked = tuple(
            run_id for run_id in task.run_ids if run_lock.remove_lock_of_job(record.folder(results, run_id), job_id)
        )
        has_begun = bool(locked) or result is not None or task.submission.log(task.task).exists()
        if state is None and not has_begun and job_id in waiting:
            state = "CANCELLED"
        yield _EndedJob(task, state, entry.node if entry else "", result, locked)


def _failures(job: _EndedJob, results: Path) -> Iterator[tuple[str, Failure]]:
    """Attempts of an ended job that left no record of their own, by run id."""
    if job.state not in DELIBERATE:
        for run_id in job.locked:
            yield run_id, _failure_of_killed(job)
    if job.result is None or not job.result.stopped:
        return
    if job.result.out_of_time:
        text = f"job {job.task.job_id} was requeued at its time limit as often as timeout_retries allows."
        failure = Failure("requeue_limit", text)
    else:
        text = f"job {job.task.job_id} was told to end and was not requeued; its state is saved."
        failure = Failure("timed_out", text)
    # If the job was stopped before any run began, a time-out is counted for its first unfinished run: otherwise a time
    # limit shorter than the imports would cause endless resubmission.
    first = [run_id for run_id in job.task.run_ids if not _is_done(results, run_id)][:1]
    for run_id in job.result.left or first:
        yield run_id, failure


def _failure_of_killed(job: _EndedJob) -> Failure:
    log = job.task.submission.log(job.task.task, "err")
    if job.state in NODE_FAILED:
        return Failure("node_failed", f"{job.name} ended with it.")
    match job.state:
        case "TIMEOUT" | "DEADLINE":
            text = f"{job.name} met its time limit before it could save and requeue; longer signal_delay_s?"
            return Failure("timed_out", text)
        case "OUT_OF_MEMORY":
            text = f"SLURM killed {job.name}: host memory, see memory_gb_per_gpu in the profile."
            return Failure("out_of_memory", text)
        case None:
            return Failure("lost", f"{job.name} disappeared from the queue, and SLURM gives no final state; see {log}.")
        case "COMPLETED":
            return Failure("lost", f"its process in {job.name} was killed, out of host memory perhaps; see {log}.")
    return Failure("lost", f"{job.name} was killed, SLURM says {job.state}; see {log}.")


def _has_worked(job: _EndedJob, results: Path, cancelled: Collection[str]) -> bool:
    """Return whether a job did some of its work, was ended on purpose, or said itself why it did not work."""
    if job.locked or job.state in DELIBERATE:
        return True
    if job.result is not None and (job.result.stopped or job.result.error is not None):
        return True
    return _left_records(job, results, cancelled)


def _left_records(job: _EndedJob, results: Path, cancelled: Collection[str]) -> bool:
    """Return whether a job left a record, or had no reason to: all was done, cancelled, or another process's."""
    wanted = [run_id for run_id in job.task.run_ids if run_id not in cancelled]
    records = {run_id: record.read_or_none(results, run_id) for run_id in wanted}
    job_id = str(job.task.job_id)
    if any(latest and (latest.provenance or {}).get("slurm_job_id") == job_id for latest in records.values()):
        return True
    return all(
        (latest is not None and latest.status == "ok") or run_lock.holder(record.folder(results, run_id)) is not None
        for run_id, latest in records.items()
    )


def _resolve_unconfirmed(ledger: Ledger, queue: client.Queue, results: Path) -> Ledger:
    """Confirm submissions whose command ended between `sbatch` and its note, or close those that were never made."""
    unconfirmed = [call for call in ledger.open if call.job_id is None and call.owner == queue.owner]
    for submission in unconfirmed:
        job = queue.named(submission.job_name)
        if job is not None:
            confirmed = submissions.confirm(results, submission, job.id)
            if not submit.has_pickles(confirmed):  # such jobs would wait for them in vain
                client.cancel([str(confirmed.job_id)])
                submissions.close_tasks(results, confirmed, range(len(confirmed.tasks)))
        elif time.time() - submissions.path(results, submission).stat().st_mtime > UNCONFIRMED_S:
            submissions.close_tasks(results, submission, range(len(submission.tasks)))
    return submissions.read(results) if unconfirmed else ledger


def _is_done(results: Path, run_id: str) -> bool:
    latest = record.read_or_none(results, run_id)
    return latest is not None and latest.status == "ok"
