"""Worker: do the runs of a job that nobody else does, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ResultsFolderError
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
from registry.errors import DataError

if TYPE_CHECKING:
    from bench.training.data import Image

Images = dict[tuple[str, str], "dict[str, Image]"]
"""Decoded images by dataset and its digest: runs of one folder may be of several datasets, or of several plans."""


@dataclass(frozen=True)
class WorkResult:
    """Result of `work`.

    Attributes:
        statuses: of the runs attempted here, by id; see `bench.worker.attempt.attempt`.
        stopped: stopped by a signal before the end.
        signal: the first one; None if there was none.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    signal: int | None = None


def work(
    runs: Sequence[Run], settings: WorkerSettings, *, ignored_failures: Mapping[str, int] | None = None
) -> WorkResult:
    """Do every run that is due and that no other process does.

    Images are decoded once for all runs with the same images. One run's failure never ends the others.

    Args:
        runs: to be done.
        settings: of the worker.
        ignored_failures: by run id, number of failed attempts that don't count (see `retry.is_due`).

    Raises:
        BenchError, RegistryError: plug-ins that can't be loaded; a folder of images or of results that is gone.
    """
    plugins.load(settings.plugins)
    settings.results.mkdir(parents=True, exist_ok=True)
    results_inode = settings.results.stat().st_ino
    ignored = ignored_failures or {}
    statuses: dict[str, str] = {}
    images: Images = {}
    with StopFlag() as flag:
        remaining = [with_neutral_options(run) for run in runs]
        while remaining and not flag():
            for run in remaining:
                _check_results(settings.results, results_inode)
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
        return WorkResult(statuses, stopped=flag(), signal=flag.first)


def _check_results(results: Path, inode: int) -> None:
    """Refuse to go on in a results folder that is no longer the one of the start: locking a run would make it anew.

    Only the inode is compared: the device number of a network file system changes when it is mounted again.
    """
    try:
        same = results.stat().st_ino == inode
    except FileNotFoundError:
        same = False
    if not same:
        raise ResultsFolderError(
            f"the results folder {results} is gone: it was moved, removed or unmounted while runs went on. Bring it "
            "back and give the same command again, or give its new place with --results DIR."
        )


def _images(run: Run, settings: WorkerSettings, decoded: Images) -> dict[str, Image]:
    """Return a run's images, decoded now if no run before had the same; see `inputs.images`."""
    key = run.dataset, run.dataset_digest
    if key not in decoded:
        decoded[key] = inputs.images(run, settings.data)
    return decoded[key]


def _do(run: Run, settings: WorkerSettings, images: Images, flag: StopFlag, ignored_failures: int) -> str | None:
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
                if not settings.data.exists():  # the other runs lack it as well: no failure of this one
                    raise DataError(f"{settings.data} does not exist. See that the nodes have it, or give --data DIR.")
                flag.is_immediate = True  # until the training starts, see `attempt`
                stop = StopCheck(flag, lock, partial(is_cancelled, settings.results, run.id))
                load_images = partial(_images, run, settings, images)
                status = attempt(run, load_images, settings, earlier=earlier, lock=lock, stop=stop)
                if status != "failed" or not lock.is_ours():  # without its lock, a run is never tried again
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
