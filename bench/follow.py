"""Give pending runs to workers or jobs until every one has its record; nothing is given out twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import claim, ledger, manifest, record, retry, schedule, slurm
from bench.arrays import Array
from bench.cluster import ClusterProfile
from bench.errors import ClusterError
from bench.grid import Run
from bench.job import JobResult
from bench.settle import Settled, settle
from bench.terminal import plural
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
        refused: number of runs that `sbatch` did not take the last time.
    """

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    submitted: list[ledger.Submission] = field(default_factory=list)
    refused: int = 0


def pending(runs: Sequence[Run], places: Places, forgiven: Mapping[str, int]) -> list[Run]:
    """The runs that are due, by their records."""
    due = []
    for run in runs:
        found = record.last(places.results, run.id)
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
        cancelled = ledger.read(places.results).cancelled
        free = [run for run in due if run.id not in cancelled and not _held(places.results, run)]
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
        detach: return once everything is submitted.
        tell: told what a person should know: who is waited for, what SLURM refuses.
        observe: given what the queue and the ledger show, every time they were looked at.
        poll_s: seconds between two looks at the queue.

    Raises:
        ClusterError: `sbatch` refuses the jobs, and there are none whose end could make room.
    """
    crew = _Crew(places, profile, forgiven, arrange, tell)
    crew.due = {run.id: run for run in pending(runs, places, forgiven)}
    while crew.due and not crew.outcome.errors:
        queue, book = slurm.queue(), ledger.read(places.results)
        crew.hears(queue)
        if queue is not None and crew.has_to_act(queue, book):
            with ledger.locked(places.results, tell):
                crew.act()
            book = ledger.read(places.results)
        observe(queue, book)
        if detach and not crew.first:
            break
        if crew.due and not crew.outcome.errors:
            time.sleep(poll_s)
    return crew.outcome


@dataclass
class _Crew:
    """What one command that follows jobs knows and decides.

    Attributes:
        due: runs that are still to be done, by id.
        known: planned runs by id: jobs of other plans end, too.
        dying: jobs that were being ended when this command was given; its runs are wanted all the same.
        waited: jobs that waited at the look before the last.
        heard: the last look at the queue.
        refused: so many tasks were in the queue when `sbatch` took no more.
    """

    places: Places
    profile: ClusterProfile
    forgiven: Mapping[str, int]
    arrange: Callable[[Sequence[Run]], Sequence[Array]]
    tell: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)
    due: dict[str, Run] = field(default_factory=dict)
    known: dict[str, Run] = field(default_factory=dict)
    dying: set[str] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)
    heard: slurm.Queue | None = None
    refused: int | None = None
    fruitless: int = 0
    first: bool = True
    silent: bool = False

    def hears(self, queue: slurm.Queue | None) -> None:
        """Tell, once, that SLURM does not answer; remember what waits."""
        if queue is not None and self.heard is not None:
            self.waited = {job.id for job in self.heard.jobs.values() if job.state == "PENDING"}
        self.heard = queue or self.heard
        if queue is None and not self.silent:
            self.tell("SLURM does not answer; jobs go on without it, and this command waits.")
        self.silent = queue is None

    def has_to_act(self, queue: slurm.Queue, book: ledger.Ledger) -> bool:
        """Whether a job is over, or a run is in no job of ours: only then is the ledger taken."""
        tasks = list(book.unsettled())
        if self.first or any(one.is_over(queue) for one in tasks):
            return True
        loose = self.due.keys() - _ours(book, queue.owner)
        return bool(loose) and (self.refused is None or len(tasks) < self.refused)

    def act(self) -> None:
        """Account for jobs that are over, and submit what is due; the ledger is held."""
        queue = slurm.queue()  # anew: whoever held the ledger before may have changed everything
        if queue is None:
            return
        results = self.places.results
        book = ledger.read(results)
        ended = {
            run for one in book.unsettled() if one.is_over(queue) for run in one.submission.tasks[one.task]
        }
        if ended - self.known.keys():
            self.known = {run.id: run for plan in manifest.read_all(results) for run in plan.runs}
        if self.first:
            lines = (one.line(queue) for one in book.unsettled())
            self.dying = {line.id for line in lines if line and line.state == "COMPLETING"}
        seen = settle(book, queue, places=self.places, known=self.known, waited=self.waited)
        for text in seen.lost:
            self.tell(text)
        book = self._want_again(seen)
        self._judge(seen)
        self._look_at_loose(book, queue.owner)
        self.first = False
        if not self.outcome.errors:
            self._submit(book)

    def _want_again(self, seen: Settled) -> ledger.Ledger:
        """What was cancelled before this command was given is wanted by it."""
        again = {run for job, run in seen.cancelled if self.first or job in self.dying} & self.due.keys()
        if again:
            ledger.write_cancelled(self.places.results, seen.book.cancelled - again)
        return ledger.read(self.places.results) if again else seen.book

    def _judge(self, seen: Settled) -> None:
        errors = list(dict.fromkeys(text for text, ids in seen.errors if ids & self.due.keys()))
        if self.first:  # of jobs that ended before this command: mended since, perhaps
            for text in errors:
                self.tell(f"An earlier job ended with: {text}")
            return
        self.outcome.errors += errors
        self.fruitless = 0 if seen.began else self.fruitless + seen.fruitless
        if self.fruitless >= FRUITLESS:
            self.outcome.errors.append(
                f"{self.fruitless} jobs in a row came to nothing: they began no run, or left no record in "
                f"{self.places.results}. See the logs in {self.places.results / 'jobs'}."
            )

    def _look_at_loose(self, book: ledger.Ledger, owner: str) -> None:
        """Drop what is done or not to be tried again; runs in jobs of ours need no look."""
        ours = _ours(book, owner)
        loose = [run for run in self.due.values() if run.id not in ours]
        left = {run.id for run in pending(loose, self.places, self.forgiven)} - book.cancelled
        self.due = {run_id: run for run_id, run in self.due.items() if run_id in ours or run_id in left}

    def _submit(self, book: ledger.Ledger) -> None:
        assigned = book.assigned()
        free = [
            run for run in self.due.values() if run.id not in assigned and not _held(self.places.results, run)
        ]
        queued = len(list(book.unsettled()))
        if not free or (self.refused is not None and queued >= self.refused):
            return
        try:
            for one in schedule.submit(
                self.arrange(free), self.places, profile=self.profile, forgiven=self.forgiven
            ):
                self.outcome.submitted.append(one)
                count = sum(len(task) for task in one.tasks)
                jobs = plural(len(one.tasks), "job")
                self.tell(f"Submitted {plural(count, 'run')} in {jobs}, under the number {one.job_id}.")
            self.refused = None
        except ClusterError as error:
            self.refused = len(list(ledger.read(self.places.results).unsettled()))
            if not self.refused:
                raise
            self.tell(str(error))
            taken = {run for one in self.outcome.submitted for task in one.tasks for run in task}
            self.outcome.refused = sum(run.id not in taken for run in free)


def _ours(book: ledger.Ledger, owner: str) -> set[str]:
    """Runs in jobs whose end we shall see; of others, their records tell."""
    return {run_id for run_id, one in book.assigned().items() if one.submission.owner == owner}
