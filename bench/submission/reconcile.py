"""Jobs that are over: what became of their runs, by SLURM's word and by what they left behind."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.grid import Run
from bench.results import record, run_lock, submissions
from bench.results.submissions import JobRef, Ledger, Submission
from bench.slurm import client
from bench.submission import submit
from bench.worker.job import JobResult
from bench.worker.worker import WorkerSettings, record_failure

UNANSWERED_S = 30.0
"""A submission that crashed is looked for in the queue for so long before it is taken for never made."""
MEANT = frozenset(("CANCELLED", "PREEMPTED", "REVOKED"))
NODE_DIED = frozenset(("NODE_FAIL", "BOOT_FAIL"))


@dataclass
class Reconciled:
    """What became of the jobs that were over.

    Attributes:
        book: the ledger afterwards.
        errors: what kept jobs from working, with the ids of the runs they were for.
        cancelled: job and run of all that was cancelled by `scancel`.
        lost: the attempts that were lost: run and a line each.
        began: whether any of the jobs came to something.
        fruitless: number of jobs that came to nothing: no run was begun, or none left a record here.
    """

    book: Ledger
    errors: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    cancelled: set[tuple[str, str]] = field(default_factory=set)
    lost: list[tuple[str, str]] = field(default_factory=list)
    began: bool = False
    fruitless: int = 0


def reconcile(
    book: Ledger, queue: client.Queue, *, places: WorkerSettings, known: Mapping[str, Run], waited: Collection[str] = ()
) -> Reconciled:
    """Account for every task that is over; call with the ledger locked.

    A run that a dead job held gets a record of the lost attempt. A run whose job saved its state and ended has none:
    it is simply due again. Runs of a job that a user cancelled are cancelled.

    Args:
        book: the ledger.
        queue: what SLURM shows.
        places: where the runs work.
        known: runs by id.
        waited: jobs that waited a moment ago: SLURM keeps no trace of those that are cancelled before they begin.
    """
    results = places.results
    book = _adopt(book, queue, results)
    over = [one for one in book.unsettled() if one.is_over(queue)]
    unknown = [str(one.job_id) for one in over if one.line(queue) is None]
    told = client.final_states(unknown) if unknown else {}
    seen = Reconciled(book)
    settled: dict[str, tuple[Submission, set[int]]] = {}

    def lost(run: Run, why: str) -> None:
        if record_failure(run, places, why):
            seen.lost.append((run.id, f"{run.backbone} {run.strategy} fold {run.fold}: {why}"))

    for one in over:
        line = one.line(queue)
        state = line.state if line else told.get(str(one.job_id))
        run_ids = one.submission.tasks[one.task]
        came = submit.result(one)
        held = [
            run_id for run_id in run_ids if run_lock.remove_lock_of_job(record.folder(results, run_id), str(one.job_id))
        ]
        begun = held or came is not None or one.submission.log(one.task).exists()
        if state is None and not begun and one.job_id in waited:
            state = "CANCELLED"
        if came is not None and came.error:
            seen.errors.append((came.error, frozenset(run_ids)))
        for run_id in held:
            if state not in MEANT and run_id in known:
                lost(known[run_id], _why(one, state, line.node if line else ""))
        for run_id in _left(came, run_ids, results):
            why = (
                f"out of time: job {one.job_id} was requeued at its time limit as often as timeout_retries allows."
                if came and came.out_of_time
                else f"timed out: job {one.job_id} was told to end and was not requeued; its state is saved."
            )
            if run_id in known:
                lost(known[run_id], why)
        if state == "CANCELLED":
            seen.cancelled |= {(str(one.job_id), run_id) for run_id in run_ids if not _is_done(results, run_id)}
        told_why = came is not None and (came.stopped or came.error is not None)
        if held or told_why or state in MEANT or _worked(results, run_ids, str(one.job_id), book.cancelled):
            seen.began = True
        elif state not in NODE_DIED:  # one node takes many jobs along, and says nothing of them
            seen.fruitless += 1
        settled.setdefault(one.submission.token, (one.submission, set()))[1].add(one.task)
    if seen.cancelled:
        submissions.write_cancelled(results, book.cancelled | {run_id for _, run_id in seen.cancelled})
    for submission, tasks in settled.values():
        submissions.close_tasks(results, submission, tasks)
    if settled:
        seen.book = submissions.read(results)
    return seen


def _left(came: JobResult | None, run_ids: Sequence[str], results: Path) -> Sequence[str]:
    """What a job that was stopped and not requeued was at; the first that is not done, if it never got to any."""
    if came is None or not came.stopped:
        return ()
    return came.left or [run_id for run_id in run_ids if not _is_done(results, run_id)][:1]


def _adopt(book: Ledger, queue: client.Queue, results: Path) -> Ledger:
    """Submissions whose command ended between `sbatch` and its note: found in the queue by their name, or forgotten."""
    orphans = [one for one in book.open if one.job_id is None and one.owner == queue.owner]
    for orphan in orphans:
        job = queue.named(orphan.job_name)
        if job is not None:
            confirmed = submissions.confirm(results, orphan, job.id)
            if not submit.has_pickles(confirmed):  # such jobs would wait for them in vain
                client.cancel([str(confirmed.job_id)])
                submissions.close_tasks(results, confirmed, range(len(confirmed.tasks)))
        elif time.time() - submissions.path(results, orphan).stat().st_mtime > UNANSWERED_S:
            submissions.close_tasks(results, orphan, range(len(orphan.tasks)))
    return submissions.read(results) if orphans else book


def _why(one: JobRef, state: str | None, node: str) -> str:
    """The reason of a lost attempt; its first words are its kind (see `bench.results.retry.failure_kind`)."""
    job = f"job {one.job_id}" + (f" on {node}" if node else "")
    log = one.submission.log(one.task, "err")
    if state in NODE_DIED:
        return f"lost: the node failed under {job}."
    match state:
        case "TIMEOUT" | "DEADLINE":
            return f"timed out: {job} met its time limit before it could save and requeue; longer signal_delay_s?"
        case "OUT_OF_MEMORY":
            return f"out of memory: SLURM killed {job}: host memory, see memory_gb_per_gpu in the profile."
        case None:
            return f"lost: {job} vanished from the queue without a word; see {log}."
        case "COMPLETED":
            return f"lost: its process in {job} was killed, out of host memory perhaps; see {log}."
    return f"lost: {job} was killed, SLURM says {state}; see {log}."


def _is_done(results: Path, run_id: str) -> bool:
    found = record.read_or_none(results, run_id)
    return found is not None and found.status == "ok"


def _worked(results: Path, run_ids: Collection[str], job_id: str, cancelled: Collection[str]) -> bool:
    """Whether a job left a record, or had no reason to: everything was done, cancelled, or somebody else's."""
    wanted = [run_id for run_id in run_ids if run_id not in cancelled]
    found = {run_id: record.read_or_none(results, run_id) for run_id in wanted}
    if any(one and (one.provenance or {}).get("slurm_job_id") == job_id for one in found.values()):
        return True
    return all(
        (one is not None and one.status == "ok") or run_lock.holder(record.folder(results, run_id)) is not None
        for run_id, one in found.items()
    )
