"""`bench cancel`: mark runs as cancelled, and end the jobs that have no other runs to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import command
from bench.errors import BenchError
from bench.results import plans, record, run_lock, submissions
from bench.results.index import Index
from bench.slurm import client
from bench.status import run_names
from bench.submission.results_folder import check_writable
from bench.units import plural

if TYPE_CHECKING:
    from rich.console import Console


def cancel(results: Path, names: Sequence[str], *, everything: bool, console: Console) -> None:
    """Mark runs as cancelled, and end the jobs that have nothing else to do.

    Runs read the mark: one that is running saves its state and gives way to the next run of its job.

    Args:
        results: the results folder.
        names: as `run_names.find` takes them.
        everything: all planned runs that are not done.
        console: to print on.

    Raises:
        BenchError: neither names nor `everything`, unknown names, or jobs that SLURM does not end.
    """
    if not names and not everything:
        raise BenchError("nothing is cancelled: name runs (their ids, or BACKBONE/STRATEGY/FOLD), or pass --all.")
    saved_plans = plans.read_all(results)
    if not saved_plans:
        raise BenchError(f"there is nothing to cancel in {results}: nothing was planned there.")
    check_writable(results.resolve())
    index = Index(results)
    index.refresh()
    done = index.done()
    if everything:
        named = {run.id for plan in saved_plans for run in plan.runs}
    else:
        named = {run_names.find(results, name) for name in names}
    wanted = named - done
    with submissions.locked(results):
        ledger = submissions.read(results)
        earlier = wanted & ledger.cancelled
        submissions.write_cancelled(results, ledger.cancelled | wanted)
        queue, idle = client.queue(), []
        if queue is not None:
            idle = _idle_jobs(ledger, queue, done, ledger.cancelled | wanted)
        complaints = client.cancel(idle)
    if queue is None and any(ledger.open_tasks()):
        complaints = ["it does not answer now."]
    if complaints:
        raise BenchError(f"SLURM did not end every job: {' '.join(complaints)} Try again, or use scancel.")
    sentences = _counts(n_new=len(wanted - earlier), n_earlier=len(earlier), n_jobs=len(idle))
    held = [run_id for run_id in wanted if run_lock.holder(record.folder(results, run_id)) is not None]
    if held:
        sentences.append(f"{plural(len(held), 'run')} running; will save their state and stop within seconds.")
    if others := _other_owners(ledger, queue, wanted):
        sentences.append(
            f"Jobs of {', '.join(others)} belong to another user or cluster and are not ended; their runs stop when "
            "they read the mark."
        )
    if named & done:
        sentences.append(f"{plural(len(named & done), 'run')} had been done already.")
    if wanted:
        sentences.append(f"`{command('retry', results)}` schedules them again.")
    console.print(" ".join(sentences), highlight=False, soft_wrap=True)


def _counts(*, n_new: int, n_earlier: int, n_jobs: int) -> list[str]:
    sentences = []
    if n_new or not n_earlier:
        sentences.append(f"Cancelled {plural(n_new, 'run')}; {plural(n_jobs, 'job')} ended.")
    elif n_jobs:
        sentences.append(f"{plural(n_jobs, 'job')} ended.")
    if n_earlier:
        sentences.append(f"{plural(n_earlier, 'run')} {'was' if n_earlier == 1 else 'were'} cancelled already.")
    return sentences


def _idle_jobs(
    ledger: submissions.Ledger, queue: client.Queue, done: set[str], cancelled: frozenset[str] | set[str]
) -> list[str]:
    """Ids of the jobs in the queue all of whose runs are done or cancelled."""
    return [
        str(task.job_id)
        for task in ledger.open_tasks()
        if (entry := task.queue_entry(queue)) is not None and entry.live and set(task.run_ids) - done <= cancelled
    ]


def _other_owners(ledger: submissions.Ledger, queue: client.Queue | None, wanted: set[str]) -> list[str]:
    """Users and clusters whose jobs have some of the runs, and are not shown in this queue."""
    if queue is None:
        return []
    owners = {task.submission.owner for run_id, task in ledger.assigned().items() if run_id in wanted}
    return sorted(owners - {queue.owner})
