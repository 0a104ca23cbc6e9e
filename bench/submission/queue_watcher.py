"""Successive states of SLURM's queue, and what they mean for the user."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.results.submissions import JobRef
from bench.slurm import never_starts
from bench.slurm.client import Queue
from bench.units import plural

logger = logging.getLogger(__name__)


@dataclass
class QueueWatcher:
    """Last queue state, and the messages that were given about it: each is given once.

    Attributes:
        results: the results folder, for the commands in messages.
        last: the last queue state; None before SLURM has answered.
        waiting: jobs that waited in the state before the last: SLURM keeps no trace of those cancelled before they run.
        is_silent: whether SLURM did not answer the last time.
        reported: reasons of jobs that never start, that were reported.
    """

    results: Path
    last: Queue | None = None
    waiting: Collection[str] = frozenset()
    is_silent: bool = False
    reported: set[str] = field(default_factory=set)

    def observe(self, queue: Queue | None) -> None:
        """Take the queue's new state; None where SLURM does not answer."""
        if queue is not None and self.last is not None:
            self.waiting = {job.id for job in self.last.jobs.values() if job.state == "PENDING"}
        self.last = queue or self.last
        if queue is None and not self.is_silent:
            logger.warning("SLURM does not answer; jobs go on without it, and this command waits.")
        self.is_silent = queue is None

    def report_stuck(self, tasks: Iterable[JobRef]) -> None:
        """Say which of these jobs wait for ever, and what to change."""
        if self.last is None:
            return
        jobs = [job for task in tasks if (job := task.queue_entry(self.last)) is not None and job.state == "PENDING"]
        stuck = [job.reason for job in jobs if never_starts.is_permanent(job.reason)]
        new = set(stuck) - self.reported
        if new:
            self.reported |= new
            count = sum(reason in new for reason in stuck)
            logger.warning("%s can never start, %s.", plural(count, "job"), never_starts.advice(new, self.results))
