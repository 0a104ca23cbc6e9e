"""State of one run, from its record, its lock, the job that it was given to and the queue.

| state       | condition                                                                                          |
|-------------|----------------------------------------------------------------------------------------------------|
| done        | it has an ``ok`` record                                                                            |
| running     | a living process holds its lock, and SLURM does not say that the process's job waits or is over    |
| queued      | a job that waits or runs was given it; also while SLURM, which had its job last, does not answer   |
| waiting     | none of the others: no job was given it yet, or it failed and is to be tried again                 |
| interrupted | it was stopped in order, and saved its state: the next attempt continues from there                |
| cancelled   | a user cancelled it, and no process is left that works on it                                       |
| lost        | its process was killed, or its job is over and left nothing; continues from its saved state, if any |
| failed      | its last attempt failed in a way that is not tried again, or too often                             |
| skipped     | it is impossible; the plan says why                                                                |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.grid import Run
from bench.results import progress, record, run_lock
from bench.results.failure import FailureKind
from bench.results.index import Entry
from bench.results.submissions import JobRef
from bench.slurm.client import Queue, QueuedJob

State = Literal["done", "running", "queued", "waiting", "interrupted", "cancelled", "lost", "failed", "skipped"]
STATES: tuple[State, ...] = (
    "done",
    "running",
    "queued",
    "waiting",
    "interrupted",
    "cancelled",
    "lost",
    "failed",
    "skipped",
)
ACTIVE_JOB_STATES = frozenset(
    ("CONFIGURING", "RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
)
"""States in which a job's processes may still exist."""


@dataclass(frozen=True, slots=True)
class RunState:
    """State of one run.

    Attributes:
        id: the run's.
        backbone, strategy, fold: as in the run.
        state: one of `STATES`.
        detail: one line for people: why it waits or failed, how its job ended.
        pending_reason: SLURM's reason why its job waits; None unless the state is ``queued`` and SLURM gives one.
        is_retry: whether it waits to be tried again after a failure.
        failure: kind of the last failure of a failed run.
        needs_final_state: whether its job is gone from the queue, so that only the accounting knows how it ended.
        job: SLURM's id of the last job that it was given to.
        node: where it runs.
        progress: while it runs: phase, epoch, epochs, loss, images_per_s, eta_s, image, images.
        job_left_s: until the job's time limit; None if that is not known.
        restarts: number of times that SLURM requeued the job that runs it.
        pq: of a done run.
        run: the planned run; None for a record without a plan.
    """

    id: str
    backbone: str
    strategy: str
    fold: int
    state: State
    detail: str = ""
    pending_reason: str | None = None
    is_retry: bool = False
    failure: FailureKind | None = None
    needs_final_state: bool = False
    job: str | None = None
    node: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    job_left_s: float | None = None
    restarts: int = 0
    pq: float | None = None
    run: Run | None = None


def run_states(
    runs: Sequence[Run],
    *,
    results: Path,
    entries: Mapping[str, Entry],
    jobs: Mapping[str, JobRef],
    cancelled: Collection[str],
    queue: Queue | None,
    is_final: Callable[[Entry], bool],
    queue_is_newer: bool = True,
) -> list[RunState]:
    """The states of some runs.

    Args:
        runs: the runs.
        results: the results folder.
        entries: summaries of the records.
        jobs: the last job that each run was given to.
        cancelled: ids of runs that a user cancelled.
        queue: the queue, or None where SLURM does not answer.
        is_final: returns whether a failed run is not to be tried again.
        queue_is_newer: whether the queue was read after `jobs`, so that a job it lacks is gone.
    """
    started = record.folders(results)
    states = []
    for run in runs:
        entry, job = entries.get(run.id), jobs.get(run.id)
        state = RunState(run.id, run.backbone, run.strategy, run.fold, "waiting", run=run)
        if entry is not None and entry.status == "ok":
            state = replace(state, state="done", pq=entry.pq, job=entry.job, node=entry.node)
        elif run.id in started or job is not None or entry is not None or run.id in cancelled:
            folder = record.folder(results, run.id) if run.id in started else None
            last_job = _LastJob(job, job.queue_entry(queue) if job and queue else None, queue, queue_is_newer)
            state = _unfinished(state, folder, entry, last_job, run.id in cancelled, is_final)
        states.append(state)
    return states


@dataclass(frozen=True, slots=True)
class _LastJob:
    """The last job of a run, as SLURM shows it.

    Attributes:
        job: the job.
        entry: of the queue.
        queue: the queue.
        queue_is_newer: see `run_states`.
    """

    job: JobRef | None
    entry: QueuedJob | None
    queue: Queue | None
    queue_is_newer: bool

    @property
    def open(self) -> JobRef | None:
        """The job, as long as its end is not accounted for."""
        return self.job if self.job and not self.job.is_closed else None

    def has_no_process(self, job_id: str | None) -> bool:
        """Return whether SLURM says that the job of a lock has no process: its node died a moment ago, say."""
        if self.job is None or self.job.job_id != job_id or self.queue is None:
            return False
        if self.entry is None:
            return self.queue_is_newer and self.job.is_over(self.queue)
        return self.entry.state not in ACTIVE_JOB_STATES

    def queued_detail(self) -> str | None:
        """Reason why the job has not begun the run; None if it never will."""
        job = self.open
        if job is None:
            return None
        if self.queue is None:
            return "SLURM does not answer"
        if job.submission.owner != self.queue.owner:
            return "in another user's or cluster's queue"
        if job.job_id is None:
            return "being submitted" if self.queue.named(job.submission.job_name) else None
        if self.entry is None:
            return None if self.queue_is_newer else "just submitted"
        if not self.entry.live:
            return None
        if self.entry.state in ACTIVE_JOB_STATES:
            return "in a running job"
        return self.entry.reason or self.entry.state

    @property
    def pending_reason(self) -> str | None:
        """SLURM's reason why the job waits."""
        waits = self.entry is not None and self.entry.state == "PENDING"
        return self.entry.reason or None if self.entry and waits else None


def _unfinished(
    state: RunState,
    folder: Path | None,
    entry: Entry | None,
    last_job: _LastJob,
    is_cancelled: bool,
    is_final: Callable[[Entry], bool],
) -> RunState:
    """State of a run that is not done."""
    holder = run_lock.holder(folder) if folder else None
    if folder and holder is not None and not last_job.has_no_process(holder.get("job")):
        return _running(state, folder, holder, last_job)
    job = last_job.open
    state = replace(state, job=last_job.job.job_id if last_job.job else None)
    failed = entry if entry and entry.status == "failed" else None
    if failed and job and str(failed.ended or "") < job.submission.submitted:
        failed = None  # of an attempt before this job
    if failed and is_final(failed):
        return replace(state, state="failed", detail=str(failed.reason), node=failed.node, failure=failed.failures[-1])
    if entry and entry.status == "skipped":
        return replace(state, state="skipped", detail=str(entry.reason))
    if is_cancelled:
        return replace(state, state="cancelled")
    saved = folder is not None and (folder / "state.pt").exists()
    if (detail := last_job.queued_detail()) is not None:
        detail = f"{detail} (state saved)" if saved else detail
        return replace(state, state="queued", detail=detail, pending_reason=last_job.pending_reason)
    if failed:
        return replace(state, is_retry=True, detail=f"to be tried again after {failed.reason}")
    is_abandoned = holder is not None or (folder is not None and run_lock.is_abandoned(folder))
    return _ended(state, last_job, saved=saved, is_abandoned=is_abandoned)


def _running(state: RunState, folder: Path, holder: Mapping[str, Any], last_job: _LastJob) -> RunState:
    return replace(
        state,
        state="running",
        job=holder.get("job"),
        node=holder.get("node") or holder.get("host"),
        progress=progress.read(folder) or {},
        job_left_s=last_job.entry.left_s if last_job.entry else None,
        restarts=int(holder.get("restarts") or 0),
    )


def _ended(state: RunState, last_job: _LastJob, *, saved: bool, is_abandoned: bool) -> RunState:
    """State of a run that no process works on, that waits in no job and has no record that counts."""
    job, entry = last_job.open, last_job.entry if last_job.open else None
    detail = f"job {entry.id}: {entry.state}" if entry else ""
    if entry and entry.state == "CANCELLED":  # by scancel itself
        return replace(state, state="cancelled", detail=detail)
    if saved and not is_abandoned:
        return replace(state, state="interrupted", detail=detail, needs_final_state=not entry)
    if is_abandoned or (job and job.job_id):
        unexplained = not (entry or is_abandoned or saved)
        detail = detail or ("its process is gone" if is_abandoned else "")
        detail = f"{detail} (state saved)" if saved else detail
        return replace(state, state="lost", detail=detail, needs_final_state=unexplained)
    return replace(state, detail="its submission was not answered") if job else state
