"""Controller of a command that follows SLURM jobs: accounts for those that ended, and submits what is due."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.grid import Run
from bench.results import plans, record, retry, run_lock, submissions
from bench.results.submissions import Ledger, Submission
from bench.slurm import client
from bench.submission.queue_watcher import QueueWatcher
from bench.submission.reconcile import Reconciled, reconcile
from bench.submission.submitter import Submitter
from bench.units import plural
from bench.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

MOST_JOBS_WITHOUT_RECORD = 3
"""After so many workers or jobs in a row that left no record, something other than the runs is broken."""


@dataclass
class Outcome:
    """Result of following runs.

    Attributes:
        errors: sentences that say why jobs could not work (unreadable data, a full disk).
        interrupted: stopped by a signal.
        submitted: to SLURM by this command.
        refused: number of runs that `sbatch` did not take the last time.
        elsewhere: number of runs in jobs of another user or cluster.
    """

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    submitted: list[Submission] = field(default_factory=list)
    refused: int = 0
    elsewhere: int = 0


def pending(runs: Sequence[Run], settings: WorkerSettings, ignored_failures: Mapping[str, int]) -> list[Run]:
    """Return the runs that are due, by their records."""
    return [
        run
        for run in runs
        if retry.is_due(
            record.read_or_none(settings.results, run.id),
            run,
            limits=settings.limits,
            ignored_failures=ignored_failures.get(run.id, 0),
        )
    ]


def is_held(results: Path, run: Run) -> bool:
    """Return whether a living process does a run."""
    return run_lock.holder(record.folder(results, run.id)) is not None


@dataclass
class Controller:
    """Decisions of one command that follows jobs.

    Attributes:
        settings: of the workers.
        submitter: gives runs to SLURM.
        watcher: of the queue.
        ignored_failures: by run id, number of failed attempts that don't count.
        due: runs that are still to be done, by id.
        known: planned runs by id, those of other plans included: their jobs end, too.
        jobs_being_cancelled: jobs that were ending when this command was given; it wants their runs all the same.
        errors: see `Outcome`.
        elsewhere: see `Outcome`.
        jobs_without_record: number of jobs in a row that left no record.
        is_first: whether `act` was not called yet: jobs that ended before are not this command's.
    """

    settings: WorkerSettings
    submitter: Submitter
    watcher: QueueWatcher
    ignored_failures: dict[str, int]
    due: dict[str, Run]
    known: dict[str, Run] = field(default_factory=dict)
    jobs_being_cancelled: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    elsewhere: int = 0
    jobs_without_record: int = 0
    is_first: bool = True

    def outcome(self) -> Outcome:
        """Return the result so far."""
        return Outcome(
            errors=self.errors,
            submitted=self.submitter.submitted,
            refused=self.submitter.refused,
            elsewhere=self.elsewhere,
        )

    def must_act(self, queue: client.Queue, ledger: Ledger) -> bool:
        """Return whether the ledger has to be locked: a job ended or was not confirmed, or a run is in no job."""
        tasks = list(ledger.open_tasks(queue.owner))
        if self.is_first or any(task.job_id is None or task.is_over(queue) for task in tasks):
            return True
        unassigned = self.due.keys() - _run_ids(ledger, queue.owner)
        return bool(unassigned) and self.submitter.has_room(len(tasks))

    def act(self) -> None:
        """Account for jobs that are over, and submit what is due; call with the ledger locked."""
        queue = client.queue()  # read again: the command that held the lock before may have changed everything
        if queue is None:
            return
        results = self.settings.results
        ledger = submissions.read(results)
        ended = {run_id for task in ledger.open_tasks() if task.is_over(queue) for run_id in task.run_ids}
        if ended - self.known.keys():
            self.known = {run.id: run for plan in plans.read_all(results) for run in plan.runs}
        if self.is_first:
            entries = (task.queue_entry(queue) for task in ledger.open_tasks())
            self.jobs_being_cancelled = {entry.id for entry in entries if entry and entry.state == "COMPLETING"}
        reconciled = reconcile(ledger, queue, settings=self.settings, known=self.known, waiting=self.watcher.waiting)
        self._report_failures(reconciled)
        ledger = self._remove_cancel_marks(reconciled)
        self._collect_errors(reconciled)
        self._drop_finished(ledger, queue.owner)
        self._report_elsewhere(ledger, queue.owner)
        self.is_first = False
        if not self.errors:
            assigned = ledger.assigned()
            free = [run for run in self.due.values() if run.id not in assigned and not is_held(results, run)]
            self.submitter.submit(free, ledger, queue.owner, self.ignored_failures)

    def _report_failures(self, reconciled: Reconciled) -> None:
        for run_id, text in reconciled.failures:
            logger.info("%s", text)
            if not self.is_first:
                continue
            # The attempt ended before this command was given, which ignores such failures.
            latest = record.read_or_none(self.settings.results, run_id)
            if latest is not None:
                self.ignored_failures[run_id] = retry.count_ignored(latest.failures)

    def _remove_cancel_marks(self, reconciled: Reconciled) -> Ledger:
        """Runs that were cancelled before this command was given are wanted by it."""
        earlier = {
            run_id for job_id, run_id in reconciled.cancelled if self.is_first or job_id in self.jobs_being_cancelled
        }
        wanted = earlier & self.due.keys()
        if not wanted:
            return reconciled.ledger
        submissions.write_cancelled(self.settings.results, reconciled.ledger.cancelled - wanted)
        return submissions.read(self.settings.results)

    def _collect_errors(self, reconciled: Reconciled) -> None:
        errors = list(dict.fromkeys(text for text, run_ids in reconciled.errors if run_ids & self.due.keys()))
        if self.is_first:  # of jobs that ended before this command: the cause may be mended since
            for text in errors:
                logger.info("An earlier job ended with: %s", text)
            return
        self.errors += errors
        self.jobs_without_record = (
            0 if reconciled.has_progress else self.jobs_without_record + reconciled.jobs_without_record
        )
        if self.jobs_without_record >= MOST_JOBS_WITHOUT_RECORD:
            results = self.settings.results
            self.errors.append(
                f"{self.jobs_without_record} jobs in a row produced no result: they began no run, or left no record in "
                f"{results}. See the logs in {results / 'jobs'}."
            )

    def _drop_finished(self, ledger: Ledger, owner: str) -> None:
        """Forget runs that are done or not to be tried again; those in this user's jobs need no look."""
        assigned = _run_ids(ledger, owner)
        others = [run for run in self.due.values() if run.id not in assigned]
        left = {run.id for run in pending(others, self.settings, self.ignored_failures)} - ledger.cancelled
        self.due = {run_id: run for run_id, run in self.due.items() if run_id in assigned or run_id in left}

    def _report_elsewhere(self, ledger: Ledger, owner: str) -> None:
        tasks = [
            task for run_id, task in ledger.assigned().items() if run_id in self.due and task.submission.owner != owner
        ]
        if tasks and self.is_first:
            owners = ", ".join(sorted({task.submission.owner for task in tasks}))
            files = ", ".join(sorted({str(submissions.path(self.settings.results, task.submission)) for task in tasks}))
            logger.info(
                "%s in jobs of %s, whose queue is not shown here: their records are waited for. If these jobs are "
                "gone, remove %s.",
                plural(len(tasks), "run"),
                owners,
                files,
            )
        self.elsewhere = len(tasks)


def _run_ids(ledger: Ledger, owner: str) -> set[str]:
    """Runs in jobs of one owner; for those of others, only their records are seen."""
    return {run_id for task in ledger.open_tasks(owner) for run_id in task.run_ids}
