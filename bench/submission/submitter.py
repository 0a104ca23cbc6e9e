"""Submitter: give due runs to SLURM, as far as sbatch takes jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.grid import Run
from bench.results import submissions
from bench.results.submissions import Ledger, Submission
from bench.slurm.profile import ClusterProfile
from bench.submission import submit
from bench.units import plural
from bench.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


@dataclass
class Submitter:
    """Submissions of one command.

    Attributes:
        settings: of the workers.
        profile: of the cluster.
        arrange: groups runs into job arrays.
        submitted: by this command so far.
        refused: number of runs that `sbatch` did not take the last time.
        limit: number of jobs in the queue when `sbatch` took no more; None where it has taken all so far.
        message: what it said then.
    """

    settings: WorkerSettings
    profile: ClusterProfile
    arrange: Callable[[Sequence[Run]], Sequence[JobArray]]
    submitted: list[Submission] = field(default_factory=list)
    refused: int = 0
    limit: int | None = None
    message: str = ""

    def has_room(self, n_queued: int) -> bool:
        """Return whether `sbatch` may take more: always, until it refused; then once a job has ended."""
        return self.limit is None or n_queued < self.limit

    def submit(self, runs: Sequence[Run], ledger: Ledger, owner: str, ignored_failures: Mapping[str, int]) -> None:
        """Submit runs; call with the ledger locked.

        Raises:
            ClusterError: `sbatch` refuses them, and no job is queued whose end could make room.
        """
        if not runs or not self.has_room(len(list(ledger.open_tasks(owner)))):
            return
        accepted: set[str] = set()
        try:
            arrays = self.arrange(runs)
            for submission in submit.submit(
                arrays, self.settings, profile=self.profile, ignored_failures=ignored_failures
            ):
                self.submitted.append(submission)
                run_ids = [run_id for task in submission.tasks for run_id in task]
                accepted.update(run_ids)
                jobs = plural(len(submission.tasks), "job")
                logger.info(
                    "Submitted %s in %s, under the number %s.", plural(len(run_ids), "run"), jobs, submission.job_id
                )
            self.limit, self.refused = None, 0
        except ClusterError as error:
            self.limit = len(list(submissions.read(self.settings.results).open_tasks(owner)))
            if not self.limit:
                raise
            if str(error) != self.message:
                logger.warning("%s", error)
            self.message = str(error)
            self.refused = sum(run.id not in accepted for run in runs)
