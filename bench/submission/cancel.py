"""End runs that a user no longer wants, and only these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import command
from bench.errors import BenchError
from bench.results import plans, record, run_lock, submissions
from bench.results.index import Index
from bench.slurm import client
from bench.status import logs
from bench.units import plural

if TYPE_CHECKING:
    from rich.console import Console


def cancel(results: Path, names: Sequence[str], *, everything: bool, console: Console) -> None:
    """Mark runs as cancelled, and end the jobs that have nothing else to do.

    Runs look at the mark: one that is running saves its state and gives way to the next run of its job.

    Args:
        results: the results folder.
        names: as `logs.find` takes them.
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
    index = Index(results)
    index.refresh()
    over = index.done()
    if everything:
        named = {run.id for plan in saved_plans for run in plan.runs}
    else:
        named = {logs.find(results, name) for name in names}
    wanted = named - over
    with submissions.locked(results):
        book = submissions.read(results)
        cancelled = book.cancelled | wanted
        submissions.write_cancelled(results, cancelled)
        queue = client.queue()
        live = [one for one in book.unsettled() if queue and (line := one.line(queue)) and line.live]
        given = [one for run_id, one in book.assigned().items() if run_id in wanted]
        others = {one.submission.owner for one in given if queue and one.submission.owner != queue.owner}
        idle = [str(one.job_id) for one in live if set(one.submission.tasks[one.task]) - over <= cancelled]
        complaints = client.cancel(idle)
    if queue is None and any(book.unsettled()):
        complaints = ["it does not answer now."]
    if complaints:
        raise BenchError(f"SLURM did not end every job: {' '.join(complaints)} Try again, or use scancel.")
    held = [run_id for run_id in wanted if run_lock.holder(record.folder(results, run_id)) is not None]
    told = [f"Cancelled {plural(len(wanted), 'run')}; {plural(len(idle), 'job')} ended."]
    if held:
        told.append(f"{plural(len(held), 'run')} at work will save the state within seconds, and make way.")
    if others:
        told.append(f"Jobs of {', '.join(sorted(others))} are not ours to end: their runs stop at the mark.")
    if named & over:
        told.append(f"{plural(len(named & over), 'run')} had been done already.")
    if wanted:
        told.append(f"`{command('retry', results)}` makes them wanted again.")
    console.print(" ".join(told), highlight=False, soft_wrap=True)
