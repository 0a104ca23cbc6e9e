"""Give pending runs to workers or jobs until every one has its record; nothing is given out twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import claim, ledger, record, retry, schedule, slurm
from bench.arrays import Array
from bench.cluster import ClusterProfile
from bench.errors import ClusterError, RecordError
from bench.grid import Run
from bench.job import JobResult
from bench.settle import Settled, settle
from bench.work import Places, give_up

SQUEUE_EVERY_S = 5.0
FRUITLESS = 3
"""After so many workers or jobs in a row that came to nothing, something other than the runs is broken."""


@dataclass
class Outcome:
    """What following saw.

    Attributes:
        errors: what kept jobs from working (unreadable data, a full disk), one sentence each.
        interrupted: asked to stop.
        submitted: what was given to SLURM by this command.
    """

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    submitted: list[ledger.Submission] = field(default_factory=list)


def pending(runs: Sequence[Run], places: Places, forgiven: Mapping[str, int]) -> list[Run]:
    """The runs that are due, by their records."""
    due = []
    for run in runs:
        try:
            found = record.read(places.results, run.id)
        except RecordError:
            found = None  # a file system that stutters, or a damaged record: the next attempt replaces it
        if retry.is_due(found, run, limits=places.limits, forgiven=forgiven.get(run.id, 0)):
            due.append(run)
    return due


def here(
    runs: Sequence[Run],
    places: Places,
    *,
    inline: bool,
    workers: int = 0,
    forgiven: Mapping[str, int],
    poll_s: float = 0.5,
) -> Outcome:
    """Start workers on this machine and wait until every run has its record.

    Runs that another `bench run` holds are waited for, and done here if it gives them up. A run whose process dies is
    done again, as often as the limits say; then it is recorded as failed, and the others go on.
    """
    outcome, fruitless = Outcome(), 0
    while not outcome.errors and not outcome.interrupted:
        due = pending(runs, places, forgiven)
        free = [run for run in due if claim.held(record.folder(places.results, run.id)) is None]
        free = [run for run in free if run.id not in ledger.read(places.results).cancelled]
        if not due or (not free and not any(_held(places.results, run) for run in due)):
            break
        if not free:
            time.sleep(poll_s)
            continue
        jobs = schedule.start_workers(free, places, inline=inline, workers=workers, forgiven=forgiven)
        try:
            while not inline and not all(one.done() for one in jobs):
                time.sleep(poll_s)
        except KeyboardInterrupt:
            schedule.stop(jobs)
            raise
        results = [_worker_result(one, inline) for one in jobs]
        outcome.errors += [one.error for one in results if one.error]
        outcome.interrupted = any(one.stopped for one in results)
        dead = [run for run in free if claim.died(record.folder(places.results, run.id))]
        logs = places.results / "jobs"
        for run in dead:
            give_up(run, places, f"lost: its process was killed: out of host memory? See the logs in {logs}.")
        left = {run.id for run in pending(free, places, forgiven)}
        fruitless = 0 if dead or len(left) < len(free) else fruitless + 1
        if fruitless >= FRUITLESS:
            outcome.errors.append(f"{FRUITLESS} times no worker came to anything: see the logs in {logs}.")
    return outcome


def _held(results: Path, run: Run) -> bool:
    return claim.held(record.folder(results, run.id)) is not None


def _worker_result(job: Any, inline: bool) -> JobResult:
    """What a worker came back with; a killed one left nothing."""
    if not inline and not job.paths.result_pickle.exists():
        return JobResult()
    value = job.result()
    return value if isinstance(value, JobResult) else JobResult(error=str(value))


def on_slurm(
    runs: Sequence[Run],
    places: Places,
    *,
    profile: ClusterProfile,
    forgiven: Mapping[str, int],
    arrange: Callable[[Sequence[Run]], Sequence[Array]],
    known: Mapping[str, Run],
    detach: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    observe: Callable[[slurm.Queue | None, ledger.Ledger], None] = lambda *_: None,
    poll_s: float = SQUEUE_EVERY_S,
) -> Outcome:
    """Submit what is due and in no job yet, and follow until every run has its record.

    Commands that follow the same runs share the ledger: whoever notices the end of a job accounts for it, and what
    is due again is submitted once.

    Args:
        runs: of the plan.
        places: where to work.
        profile: of the cluster.
        forgiven: by run id, how many failed attempts do not count.
        arrange: groups runs into arrays.
        known: every planned run of the results folder by id, since jobs of other plans may end too.
        detach: return once everything is submitted.
        tell: told what a person should know: who is waited for, what SLURM refuses.
        observe: given what the queue and the ledger show, every time they were looked at.
        poll_s: seconds between two looks at the queue.
    """
    outcome, fruitless, silent, first = Outcome(), 0, False, True
    refused: int | None = None  # so many tasks were in the queue when sbatch took no more
    due = {run.id: run for run in pending(runs, places, forgiven)}
    while due and not outcome.errors:
        queue = slurm.queue()
        if queue is None:
            if not silent:
                tell("SLURM does not answer; jobs go on without it, and this command waits.")
            silent = True
            time.sleep(poll_s)
            continue
        silent = False
        book = ledger.read(places.results)
        if (
            first
            or any(one.is_over(queue) for one in book.unsettled())
            or due.keys() - book.assigned().keys()
        ):
            with ledger.locked(places.results, tell):
                # Both anew: whoever held the lock before may have changed them.
                queue = slurm.queue()
                if queue is None:
                    continue
                seen = settle(ledger.read(places.results), queue, places=places, known=known)
                errors = [text for text, ids in seen.errors if ids & due.keys()]
                if first:  # of jobs that ended before this command: mended since, perhaps
                    for text in dict.fromkeys(errors):
                        tell(f"An earlier job ended with: {text}")
                else:
                    outcome.errors += errors
                    fruitless = 0 if seen.began else fruitless + seen.fruitless
                first = False
                if fruitless >= FRUITLESS:
                    logs = places.results / "jobs"
                    outcome.errors.append(
                        f"{fruitless} jobs in a row ended before they began a run: see the logs in {logs}."
                    )
                due = _still_due(due, places, forgiven, seen)
                free = [] if outcome.errors else _free(due, places.results, seen)
                queued = len(list(seen.book.unsettled()))
                if free and (refused is None or queued < refused):
                    try:
                        outcome.submitted += schedule.submit(
                            arrange(free), places, profile=profile, forgiven=forgiven
                        )
                        refused = None
                    except ClusterError as error:
                        if not queued:
                            raise
                        refused = queued
                        tell(f"{error} It is tried again when jobs that are queued have ended.")
            book = ledger.read(places.results)
        observe(queue, book)
        if detach:
            break
        if due and not outcome.errors:
            time.sleep(poll_s)
    return outcome


def _still_due(
    due: Mapping[str, Run], places: Places, forgiven: Mapping[str, int], seen: Settled
) -> dict[str, Run]:
    """What is left to do; only runs that are in no job are looked at again."""
    assigned = seen.book.assigned()
    loose = [run for run in due.values() if run.id not in assigned]
    ended = {run.id for run in loose} - {run.id for run in pending(loose, places, forgiven)}
    return {
        run_id: run
        for run_id, run in due.items()
        if run_id not in ended and (run_id in assigned or run_id not in seen.book.cancelled)
    }


def _free(due: Mapping[str, Run], results: Path, seen: Settled) -> list[Run]:
    """Due runs that are in no job and that nobody does."""
    assigned = seen.book.assigned()
    return [run for run in due.values() if run.id not in assigned and not _held(results, run)]
