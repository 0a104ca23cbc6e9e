"""Give pending runs to workers or jobs until every run has its record; no run is given out twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from bench.estimate.packing import JobArray
from bench.grid import Run
from bench.results import record, run_lock, submissions
from bench.results.failure import Failure
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import local
from bench.submission.controller import MOST_JOBS_WITHOUT_RECORD, Controller, Outcome, is_held, pending
from bench.submission.queue_watcher import QueueWatcher
from bench.submission.results_folder import PresenceCheck
from bench.submission.submitter import Submitter
from bench.worker.settings import WorkerSettings
from bench.worker.worker import record_failure

logger = logging.getLogger(__name__)

SQUEUE_EVERY_S = 5.0


def follow_local(
    runs: Sequence[Run],
    settings: WorkerSettings,
    *,
    inline: bool,
    workers: int = 0,
    ignored_failures: Mapping[str, int],
    poll_s: float = 0.5,
) -> Outcome:
    """Start workers on this machine and wait until every run has its record.

    Runs that another `bench run` holds are waited for, and done here if it gives them up. A run whose process dies is
    done again, as often as the limits say; then it is recorded as failed, and the others go on.

    Raises:
        BenchError: the results folder is gone.
    """
    outcome, rounds_without_record = Outcome(), 0
    is_present = PresenceCheck(settings.results)
    while not outcome.errors and not outcome.interrupted:
        is_present.wait(poll_s)
        due = pending(runs, settings, ignored_failures)
        cancelled = submissions.read_cancelled(settings.results)
        free = [run for run in due if run.id not in cancelled and not is_held(settings.results, run)]
        if not due or (not free and not any(is_held(settings.results, run) for run in due)):
            break
        if not free:
            time.sleep(poll_s)
            continue
        dead = _work_once(free, settings, outcome, inline, workers, ignored_failures, poll_s, is_present)
        left = pending(free, settings, ignored_failures)
        rounds_without_record = 0 if dead or len(left) < len(free) else rounds_without_record + 1
        if rounds_without_record >= MOST_JOBS_WITHOUT_RECORD:
            logs = settings.results / "jobs"
            outcome.errors.append(
                f"{rounds_without_record} times in a row the workers ended without a record: see the logs in {logs}."
            )
    return outcome


def _work_once(
    runs: Sequence[Run],
    settings: WorkerSettings,
    outcome: Outcome,
    inline: bool,
    workers: int,
    ignored_failures: Mapping[str, int],
    poll_s: float,
    is_present: PresenceCheck,
) -> list[Run]:
    """Start workers once and wait for their end; add errors to `outcome` and return the runs whose process died."""

    def abandoned() -> set[str]:
        return {run.id for run in runs if run_lock.is_abandoned(record.folder(settings.results, run.id))}

    before = abandoned()
    jobs = local.start_workers(runs, settings, inline=inline, workers=workers, ignored_failures=ignored_failures)
    try:
        while not inline and not all(job.done() for job in jobs):
            time.sleep(poll_s)
            is_present()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            logger.info("Stopping: runs that train save their state first …")
        local.stop(jobs)
        raise
    results = [local.worker_result(job, inline=inline) for job in jobs]
    is_present.wait(poll_s)
    outcome.errors += [result.error for result in results if result.error]
    outcome.interrupted = any(result.stopped for result in results)
    # A lock that was abandoned before, and still is, was never reached by these workers.
    died = abandoned() - before
    dead = [run for run in runs if run.id in died]
    logs = settings.results / "jobs"
    for run in dead:
        text = f"its process was killed: out of host memory? See the logs in {logs}."
        record_failure(run, settings, Failure("lost", text))
    return dead


def follow_slurm(
    runs: Sequence[Run],
    settings: WorkerSettings,
    *,
    profile: ClusterProfile,
    ignored_failures: dict[str, int],
    arrange: Callable[[Sequence[Run]], Sequence[JobArray]],
    detach: bool = False,
    observe: Callable[[client.Queue | None, submissions.Ledger], None] = lambda *_: None,
    poll_s: float = SQUEUE_EVERY_S,
) -> Outcome:
    """Submit what is due and in no job yet, and follow until every run has its record.

    Commands that follow the same runs share the ledger: the first that notices the end of a job accounts for it, and
    what is due again is submitted once.

    Args:
        runs: of the plan.
        settings: of the workers.
        profile: of the cluster.
        ignored_failures: by run id, number of failed attempts that don't count; attempts that turn out to have been
            lost before this command was given are added.
        arrange: groups runs into arrays.
        detach: return once everything is submitted.
        observe: called with queue and ledger at every poll.
        poll_s: seconds between two polls of the queue.

    Raises:
        ClusterError: `sbatch` refuses the jobs, and there are none whose end could make room.
        BenchError: the results folder is gone.
    """
    controller = Controller(
        settings=settings,
        submitter=Submitter(settings, profile, arrange),
        watcher=QueueWatcher(settings.results),
        ignored_failures=ignored_failures,
        due={run.id: run for run in pending(runs, settings, ignored_failures)},
    )
    is_present = PresenceCheck(settings.results)
    while controller.due and not controller.errors:
        if not is_present():
            time.sleep(poll_s)
            continue
        queue, ledger = client.queue(), submissions.read(settings.results)
        controller.watcher.observe(queue)
        if queue is not None and controller.must_act(queue, ledger):
            with submissions.locked(settings.results):
                controller.act()
            ledger = submissions.read(settings.results)
        controller.watcher.report_stuck(ledger.open_tasks())
        observe(queue, ledger)
        if detach and not controller.is_first:
            break
        if controller.due and not controller.errors:
            time.sleep(poll_s)
    return controller.outcome()
