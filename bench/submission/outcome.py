"""What is left of a plan, and what came of doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.grid import Run
from bench.results import record, retry, run_lock
from bench.results.submissions import Submission
from bench.worker.worker import WorkerSettings

MOST_JOBS_WITHOUT_RECORD = 3
"""After so many workers or jobs in a row that came to nothing, something other than the runs is broken."""


@dataclass
class Outcome:
    """What following saw.

    Attributes:
        errors: what kept jobs from working (unreadable data, a full disk), one sentence each.
        interrupted: asked to stop.
        submitted: what was given to SLURM by this command.
        refused: number of runs that `sbatch` did not take the last time.
        elsewhere: number of runs in jobs of another user or cluster.
    """

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    submitted: list[Submission] = field(default_factory=list)
    refused: int = 0
    elsewhere: int = 0


def pending(runs: Sequence[Run], places: WorkerSettings, forgiven: Mapping[str, int]) -> list[Run]:
    """The runs that are due, by their records."""
    due = []
    for run in runs:
        found = record.read_or_none(places.results, run.id)
        if retry.is_due(found, run, limits=places.limits, forgiven=forgiven.get(run.id, 0)):
            due.append(run)
    return due


def is_held(results: Path, run: Run) -> bool:
    """Whether a living process does a run."""
    return run_lock.holder(record.folder(results, run.id)) is not None
