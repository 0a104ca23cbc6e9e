"""The state of one run, from its record, its claim, the job that it was given to and the queue.

| state       | a run is so when                                                                                   |
|-------------|----------------------------------------------------------------------------------------------------|
| done        | it has an ``ok`` record                                                                            |
| running     | a living process holds its claim, and SLURM does not say that the process's job waits or is over   |
| queued      | a job that waits or runs was given it; also while SLURM, which had its job last, does not answer   |
| waiting     | nothing of the rest: nobody was given it yet, or it failed and is to be tried again                |
| interrupted | it was stopped in order, and saved its state: it will go on from there                             |
| cancelled   | a user cancelled it, and no process is left that works on it                                       |
| lost        | its process was killed, or its job is over and left nothing; from its last saved state, if any     |
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
TRIED = "to be tried again after"
"""How the detail of a run begins that failed and waits."""
AT_WORK = frozenset(
    ("CONFIGURING", "RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
)
"""States in which a job's processes may still be there."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where one run stands.

    Attributes:
        id: the run's.
        backbone, strategy, fold: as in the run.
        state: one of `STATES`.
        detail: one line: why it waits or failed, how its job ended.
        job: SLURM's id of the last job that it was given to.
        node: where it runs.
        told: its progress while it runs: phase, epoch, epochs, loss, images_per_s, eta_s, image, images.
        job_left_s: until the job's time limit; None if that is not known.
        restarts: how often SLURM requeued the job that runs it.
        pq: of a done run.
        run: what was planned; None for a record without a plan.
    """

    id: str
    backbone: str
    strategy: str
    fold: int
    state: State
    detail: str = ""
    job: str | None = None
    node: str | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
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
    """The state of some runs.

    Args:
        runs: in question.
        results: the results folder.
        entries: what is known of the records.
        jobs: the last job that each run was given to.
        cancelled: ids of runs that a user cancelled.
        queue: the queue, or None where SLURM does not answer.
        is_final: whether a failed run is not to be tried again.
        queue_is_newer: whether the queue was asked after `jobs` were known, so that a job it lacks is gone.
    """
    started = record.folders(results)
    found = []
    for run in runs:
        entry, ref = entries.get(run.id), jobs.get(run.id)
        one = RunState(run.id, run.backbone, run.strategy, run.fold, "waiting", run=run)
        if entry is not None and entry.status == "ok":
            one = replace(one, state="done", pq=entry.pq, job=entry.job, node=entry.node)
        elif run.id in started or ref is not None or entry is not None or run.id in cancelled:
            folder = record.folder(results, run.id) if run.id in started else None
            look = _Look(ref, ref.line(queue) if ref and queue else None, queue, queue_is_newer)
            one = _judge(one, folder, entry, look, run.id in cancelled, is_final)
        found.append(one)
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """What SLURM says of a run's last job.

    Attributes:
        ref: the job.
        line: of the queue.
        queue: the queue.
        is_newer: see `judge`.
    """

    ref: JobRef | None
    line: QueuedJob | None
    queue: Queue | None
    is_newer: bool

    @property
    def owed(self) -> JobRef | None:
        """The job, as long as nobody has accounted for its end."""
        return self.ref if self.ref and self.ref.task not in self.ref.submission.settled else None

    def is_stale(self, job: str | None) -> bool:
        """Whether the job of a claim has no process by SLURM's word: its node died a moment ago, say."""
        if self.ref is None or self.ref.job_id != job or self.queue is None:
            return False
        if self.line is None:
            return self.is_newer and self.ref.is_over(self.queue)
        return self.line.state not in AT_WORK

    def why_queued(self) -> str | None:
        """Why the job has not begun the run; None if it never will."""
        if self.owed is None:
            return None
        if self.queue is None:
            return "SLURM does not answer"
        if self.owed.submission.owner != self.queue.owner:
            return "in another user's or cluster's queue"
        if self.owed.job_id is None:
            return "being submitted" if self.queue.named(self.owed.submission.job_name) else None
        if self.line is None:
            return None if self.is_newer else "just submitted"
        if not self.line.live:
            return None
        return "in a running job" if self.line.state in AT_WORK else self.line.reason or self.line.state


def _judge(
    one: RunState,
    folder: Path | None,
    entry: Entry | None,
    look: _Look,
    is_cancelled: bool,
    is_final: Callable[[Entry], bool],
) -> RunState:
    """The state of a run that is not done, from what it left behind."""
    holder = run_lock.holder(folder) if folder else None
    if folder and holder is not None and not look.is_stale(holder.get("job")):
        return replace(
            one,
            state="running",
            job=holder.get("job"),
            node=holder.get("node") or holder.get("host"),
            told=progress.read(folder) or {},
            job_left_s=look.line.left_s if look.line else None,
            restarts=int(holder.get("restarts") or 0),
        )
    owed = look.owed
    one = replace(one, job=look.ref.job_id if look.ref else None)
    failed = entry if entry and entry.status == "failed" else None
    if failed and owed and str(failed.ended or "") < owed.submission.submitted:
        failed = None  # of an attempt before this job
    if failed and is_final(failed):
        return replace(one, state="failed", detail=str(failed.reason), node=failed.node)
    if entry and entry.status == "skipped":
        return replace(one, state="skipped", detail=str(entry.reason))
    if is_cancelled:
        return replace(one, state="cancelled")
    saved = folder is not None and (folder / "state.pt").exists()
    if (why := look.why_queued()) is not None:
        return replace(one, state="queued", detail=f"{why} (state saved)" if saved else why)
    if failed:
        return replace(one, detail=f"{TRIED} {failed.reason}")
    end = f"job {look.line.id}: {look.line.state}" if owed and look.line else ""
    if end.endswith(": CANCELLED"):
        return replace(one, state="cancelled", detail=end)  # by scancel itself
    gone = holder is not None or (folder is not None and run_lock.is_abandoned(folder))
    if saved and not gone:
        return replace(one, state="interrupted", detail=end)
    if gone or (owed and owed.job_id):
        end = end or ("its process is gone" if gone else "")
        return replace(one, state="lost", detail=f"{end} (state saved)" if saved else end)
    return replace(one, detail="its submission was not answered") if owed else one
