"""Give pending runs to workers or jobs until every one has its record; nothing is given out twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.estimate.packing import JobArray
from bench.grid import Run
from bench.results import record, run_lock, submissions
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import submit
from bench.submission.controller import Controller
from bench.submission.outcome import MOST_JOBS_WITHOUT_RECORD, Outcome, is_held, pending
from bench.worker.job import JobResult
from bench.worker.worker import WorkerSettings, record_failure

SQUEUE_EVERY_S = 5.0


def follow_local(
    runs: Sequence[Run],
    places: WorkerSettings,
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
        cancelled = submissions.read_cancelled(places.results)
        free = [run for run in due if run.id not in cancelled and not is_held(places.results, run)]
        if not due or (not free and not any(is_held(places.results, run) for run in due)):
            break
        if not free:
            time.sleep(poll_s)
            continue
        died = {run.id for run in free if run_lock.is_abandoned(record.folder(places.results, run.id))}
        jobs = submit.start_workers(free, places, inline=inline, workers=workers, forgiven=forgiven)
        try:
            while not inline and not all(one.done() for one in jobs):
                time.sleep(poll_s)
        except KeyboardInterrupt:
            submit.stop(jobs)
            raise
        results = [_worker_result(one, inline) for one in jobs]
        outcome.errors += [one.error for one in results if one.error]
        outcome.interrupted = any(one.stopped for one in results)
        # A claim that was dead before, and still is, was never reached by these workers.
        dead = [
            run for run in free if run.id not in died and run_lock.is_abandoned(record.folder(places.results, run.id))
        ]
        logs = places.results / "jobs"
        for run in dead:
            record_failure(run, places, f"lost: its process was killed: out of host memory? See the logs in {logs}.")
        left = {run.id for run in pending(free, places, forgiven)}
        fruitless = 0 if dead or len(left) < len(free) else fruitless + 1
        if fruitless >= MOST_JOBS_WITHOUT_RECORD:
            outcome.errors.append(
                f"{MOST_JOBS_WITHOUT_RECORD} times no worker came to anything: see the logs in {logs}."
            )
    return outcome


def _worker_result(job: Any, inline: bool) -> JobResult:
    """What a worker came back with; a killed one left nothing."""
    if not inline and not job.paths.result_pickle.exists():
        return JobResult()
    value = job.result()
    return value if isinstance(value, JobResult) else JobResult(error=str(value))


def follow_slurm(
    runs: Sequence[Run],
    places: WorkerSettings,
    *,
    profile: ClusterProfile,
    forgiven: dict[str, int],
    arrange: Callable[[Sequence[Run]], Sequence[JobArray]],
    detach: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    observe: Callable[[client.Queue | None, submissions.Ledger], None] = lambda *_: None,
    poll_s: float = SQUEUE_EVERY_S,
) -> Outcome:
    """Submit what is due and in no job yet, and follow until every run has its record.

    Commands that follow the same runs share the ledger: whoever notices the end of a job accounts for it, and what
    is due again is submitted once.

    Args:
        runs: of the plan.
        places: where to work.
        profile: of the cluster.
        forgiven: by run id, how many failed attempts do not count; attempts that turn out to have been lost before
            this command was given are added.
        arrange: groups runs into arrays.
        detach: return once everything is submitted.
        tell: told what a person should know: who is waited for, what SLURM refuses.
        observe: given what the queue and the ledger show, every time they were looked at.
        poll_s: seconds between two looks at the queue.

    Raises:
        ClusterError: `sbatch` refuses the jobs, and there are none whose end could make room.
    """
    crew = Controller(places, profile, forgiven, arrange, tell)
    crew.due = {run.id: run for run in pending(runs, places, forgiven)}
    while crew.due and not crew.outcome.errors:
        queue, book = client.queue(), submissions.read(places.results)
        crew.hears(queue)
        if queue is not None and crew.has_to_act(queue, book):
            with submissions.locked(places.results, tell):
                crew.act()
            book = submissions.read(places.results)
        observe(queue, book)
        if detach and not crew.first:
            break
        if crew.due and not crew.outcome.errors:
            time.sleep(poll_s)
    return crew.outcome
