"""Worker: do the runs of a job that nobody else does, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.grid import Run
from bench.planning import plugins
from bench.planning.plan import with_neutral_options
from bench.results import record, retry, run_lock
from bench.results.failure import Failure
from bench.results.record import RunRecord
from bench.results.run_log import RunLog
from bench.worker import inputs, provenance
from bench.worker.attempt import attempt, earlier_attempts
from bench.worker.settings import WorkerSettings
from bench.worker.stop import StopCheck, StopFlag, StopNow, is_cancelled

if TYPE_CHECKING:
    from bench.training.data import Image


@dataclass(frozen=True)
class WorkResult:
    """Result of `work`.

    Attributes:
        statuses: of the runs attempted here, by id; see `bench.worker.attempt.attempt`.
        stopped: stopped by a signal before the end.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def work(
    runs: Sequence[Run], settings: WorkerSettings, *, ignored_failures: Mapping[str, int] | None = None
) -> WorkResult:
    """Do every run that is due and that no other process does.

    Images are decoded once for all runs of a dataset. One run's failure never ends the others.

    Args:
        runs: of one dataset.
        settings: of the worker.
        ignored_failures: by run id, number of failed attempts that don't count (see `retry.is_due`).

    Raises:
        BenchError, RegistryError: plug-ins that can't be loaded; images that are missing or have changed.
    """
    plugins.load(settings.plugins)
    ignored = ignored_failures or {}
    statuses: dict[str, str] = {}
    images: dict[str, Image] = {}
    with StopFlag() as flag:
        remaining = [with_neutral_options(run) for run in runs]
        while remaining and not flag():
            for run in remaining:
                try:
                    status = _do(run, settings, images, flag, ignored.get(run.id, 0))
                except StopNow:
                    status = "interrupted"
                if status is not None:
                    statuses[run.id] = status
                else:
                    statuses.pop(run.id, None)
                if flag():
                    break
            # Skipped as cancelled, and scheduled again since: no other job has them.
            remaining = [
                run
                for run in remaining
                if statuses.get(run.id) == "cancelled" and not is_cancelled(settings.results, run.id)
            ]
        return WorkResult(statuses, stopped=flag())


def _do(
    run: Run, settings: WorkerSettings, images: dict[str, Image], flag: StopFlag, ignored_failures: int
) -> str | None:
    """Attempt a run until it is not due; its status, or None if it was not due or another process does it."""
    if is_cancelled(settings.results, run.id):
        return "cancelled"
    lock = run_lock.acquire(record.folder(settings.results, run.id))
    if lock is None:
        return None
    due = partial(retry.is_due, run=run, limits=settings.limits, ignored_failures=ignored_failures)
    status = None
    try:
        with lock.heartbeat():
            while due(earlier := record.read_or_none(settings.results, run.id)) and not flag():
                flag.is_immediate = True  # until the training starts, see `attempt`
                if not images:
                    images |= inputs.images(run, settings.data)
                stop = StopCheck(flag, lock, partial(is_cancelled, settings.results, run.id))
                status = attempt(run, images, settings, earlier=earlier, lock=lock, stop=stop)
                if status not in ("ok", "failed"):
                    break
    finally:
        flag.is_immediate = False
        lock.release()
    return status


def record_failure(run: Run, settings: WorkerSettings, failure: Failure) -> bool:
    """Leave a ``failed`` record of an attempt that ended without one.

    Returns:
        False, with nothing written, if a living process does the run, or it is done.
    """
    lock = run_lock.acquire(record.folder(settings.results, run.id))
    if lock is None:
        return False
    try:
        earlier = record.read_or_none(settings.results, run.id)
        if earlier is not None and earlier.status == "ok":
            return False
        failed = RunRecord(
            id=run.id,
            status="failed",
            run=run.as_dict(),
            reason=failure.reason,
            failure={"kind": failure.kind},
            provenance={"ended": provenance.now()},
            attempts=earlier_attempts(earlier),
        )
        record.write(settings.results, failed)
        RunLog(record.folder(settings.results, run.id))(f"failed: {failure.reason}")
    finally:
        lock.release()
    return True
