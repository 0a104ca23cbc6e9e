"""What one command that follows jobs knows and decides: which ends to account for, what to submit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.grid import Run
from bench.results import plans, record, retry, submissions
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import submit
from bench.submission.outcome import MOST_JOBS_WITHOUT_RECORD, Outcome, is_held, pending
from bench.submission.reconcile import Reconciled, reconcile
from bench.units import plural
from bench.worker.worker import WorkerSettings


@dataclass
class Controller:
    """What one command that follows jobs knows and decides.

    Attributes:
        due: runs that are still to be done, by id.
        known: planned runs by id: jobs of other plans end, too.
        dying: jobs that were being ended when this command was given; its runs are wanted all the same.
        waited: jobs that waited at the look before the last.
        heard: the last look at the queue.
        refused: so many tasks were in the queue when `sbatch` took no more.
        told: what it said then.
    """

    places: WorkerSettings
    profile: ClusterProfile
    forgiven: dict[str, int]
    arrange: Callable[[Sequence[Run]], Sequence[JobArray]]
    tell: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)
    due: dict[str, Run] = field(default_factory=dict)
    known: dict[str, Run] = field(default_factory=dict)
    dying: set[str] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)
    heard: client.Queue | None = None
    refused: int | None = None
    told: str = ""
    fruitless: int = 0
    first: bool = True
    silent: bool = False

    def hears(self, queue: client.Queue | None) -> None:
        """Tell, once, that SLURM does not answer; remember what waits."""
        if queue is not None and self.heard is not None:
            self.waited = {job.id for job in self.heard.jobs.values() if job.state == "PENDING"}
        self.heard = queue or self.heard
        if queue is None and not self.silent:
            self.tell("SLURM does not answer; jobs go on without it, and this command waits.")
        self.silent = queue is None

    def has_to_act(self, queue: client.Queue, book: submissions.Ledger) -> bool:
        """Whether a job is over or was not answered for, or a run is in no job of ours: then the ledger is taken."""
        tasks = list(book.unsettled(queue.owner))
        if self.first or any(one.job_id is None or one.is_over(queue) for one in tasks):
            return True
        loose = self.due.keys() - _ours(book, queue.owner)
        return bool(loose) and (self.refused is None or len(tasks) < self.refused)

    def act(self) -> None:
        """Account for jobs that are over, and submit what is due; the ledger is held."""
        queue = client.queue()  # anew: whoever held the ledger before may have changed everything
        if queue is None:
            return
        results = self.places.results
        book = submissions.read(results)
        ended = {run for one in book.unsettled() if one.is_over(queue) for run in one.submission.tasks[one.task]}
        if ended - self.known.keys():
            self.known = {run.id: run for plan in plans.read_all(results) for run in plan.runs}
        if self.first:
            lines = (one.line(queue) for one in book.unsettled())
            self.dying = {line.id for line in lines if line and line.state == "COMPLETING"}
        seen = reconcile(book, queue, places=self.places, known=self.known, waited=self.waited)
        for run_id, text in seen.lost:
            self.tell(text)
            if (
                self.first and (found := record.read_or_none(results, run_id)) is not None
            ):  # before this command, which forgives
                self.forgiven[run_id] = retry.count_ignored(found.failures)
        book = self._want_again(seen)
        self._judge(seen)
        self._look_at_loose(book, queue.owner)
        self._tell_of_others(book, queue.owner)
        self.first = False
        if not self.outcome.errors:
            self._submit(book, queue.owner)

    def _want_again(self, seen: Reconciled) -> submissions.Ledger:
        """What was cancelled before this command was given is wanted by it."""
        again = {run for job, run in seen.cancelled if self.first or job in self.dying} & self.due.keys()
        if again:
            submissions.write_cancelled(self.places.results, seen.book.cancelled - again)
        return submissions.read(self.places.results) if again else seen.book

    def _judge(self, seen: Reconciled) -> None:
        errors = list(dict.fromkeys(text for text, ids in seen.errors if ids & self.due.keys()))
        if self.first:  # of jobs that ended before this command: mended since, perhaps
            for text in errors:
                self.tell(f"An earlier job ended with: {text}")
            return
        self.outcome.errors += errors
        self.fruitless = 0 if seen.began else self.fruitless + seen.fruitless
        if self.fruitless >= MOST_JOBS_WITHOUT_RECORD:
            self.outcome.errors.append(
                f"{self.fruitless} jobs in a row came to nothing: they began no run, or left no record in "
                f"{self.places.results}. See the logs in {self.places.results / 'jobs'}."
            )

    def _look_at_loose(self, book: submissions.Ledger, owner: str) -> None:
        """Drop what is done or not to be tried again; runs in jobs of ours need no look."""
        ours = _ours(book, owner)
        loose = [run for run in self.due.values() if run.id not in ours]
        left = {run.id for run in pending(loose, self.places, self.forgiven)} - book.cancelled
        self.due = {run_id: run for run_id, run in self.due.items() if run_id in ours or run_id in left}

    def _tell_of_others(self, book: submissions.Ledger, owner: str) -> None:
        others = [one for one in book.assigned().items() if one[0] in self.due and one[1].submission.owner != owner]
        if others and self.first:
            owners = ", ".join(sorted({one.submission.owner for _, one in others}))
            files = ", ".join(sorted({str(submissions.path(self.places.results, one.submission)) for _, one in others}))
            self.tell(
                f"{plural(len(others), 'run')} in jobs of {owners}, whose queue is not shown here: their records are "
                f"waited for. If these jobs are gone, remove {files}."
            )
        self.outcome.elsewhere = len(others)

    def _submit(self, book: submissions.Ledger, owner: str) -> None:
        assigned = book.assigned()
        free = [run for run in self.due.values() if run.id not in assigned and not is_held(self.places.results, run)]
        queued = len(list(book.unsettled(owner)))
        if not free or (self.refused is not None and queued >= self.refused):
            return
        try:
            for one in submit.submit(self.arrange(free), self.places, profile=self.profile, forgiven=self.forgiven):
                self.outcome.submitted.append(one)
                count = sum(len(task) for task in one.tasks)
                jobs = plural(len(one.tasks), "job")
                self.tell(f"Submitted {plural(count, 'run')} in {jobs}, under the number {one.job_id}.")
            self.refused = None
        except ClusterError as error:
            self.refused = len(list(submissions.read(self.places.results).unsettled(owner)))
            if not self.refused:
                raise
            if str(error) != self.told:
                self.tell(str(error))
            self.told = str(error)
            taken = {run for one in self.outcome.submitted for task in one.tasks for run in task}
            self.outcome.refused = sum(run.id not in taken for run in free)


def _ours(book: submissions.Ledger, owner: str) -> set[str]:
    """Runs in jobs whose end we shall see; of others, their records tell."""
    return {run_id for one in book.unsettled(owner) for run_id in one.submission.tasks[one.task]}
