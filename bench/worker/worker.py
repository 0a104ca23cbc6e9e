"""What a job does: take runs that nobody has taken, one after the other, and leave a record of every attempt."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import AuditError, BenchError, DivergedError, InterruptedRunError
from bench.grid import Run
from bench.results import record, retry, run_lock
from bench.results.progress import ProgressWriter
from bench.results.record import RunRecord
from bench.results.run_log import RunLog
from bench.slurm.environment import job_environment
from bench.worker import inputs, provenance
from bench.worker.stop import StopCheck, StopFlag, is_cancelled
from registry.errors import RegistryError

if TYPE_CHECKING:
    from bench.training.data import Image


@dataclass(frozen=True)
class WorkerSettings:
    """Where jobs find and leave things, and other settings that never enter a run's identity.

    Attributes:
        results: the results folder.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        loader_workers: processes that prepare training samples; None chooses by device.
        limits: how often runs are tried again.
        runs_at_once: runs that share the device.
    """

    results: Path
    data: Path
    weights: Path | None = None
    device: str = "auto"
    loader_workers: int | None = None
    limits: retry.Limits = field(default_factory=retry.Limits)
    runs_at_once: int = 1


@dataclass(frozen=True)
class WorkResult:
    """What `work` did.

    Attributes:
        done: status of the runs done here, by id.
        stopped: asked to stop before the end.
    """

    done: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def work(runs: Sequence[Run], places: WorkerSettings, *, forgiven: Mapping[str, int] | None = None) -> WorkResult:
    """Do every run that is due and not taken.

    Images are decoded once for all runs of a dataset. One run's failure never ends the others.

    Args:
        runs: of one dataset.
        places: where to work.
        forgiven: by run id, how many failed attempts do not count (see `retry.is_due`).
    """
    done: dict[str, str] = {}
    images: dict[str, Image] = {}
    with StopFlag() as flag:
        left = list(runs)
        while left and not flag():
            for run in left:
                status = _take(run, places, images, flag, (forgiven or {}).get(run.id, 0))
                if status is not None:
                    done[run.id] = status
                else:
                    done.pop(run.id, None)
                if flag():
                    break
            # Cancelled when their turn came, and wanted again since: nobody else would do them.
            left = [run for run in left if done.get(run.id) == "cancelled" and not is_cancelled(places.results, run.id)]
        return WorkResult(done, stopped=flag())


def _take(run: Run, places: WorkerSettings, images: dict[str, Image], flag: StopFlag, forgiven: int) -> str | None:
    """Attempt a run until it is not due; its status, or None if there was nothing to do or somebody else does it."""
    if is_cancelled(places.results, run.id):
        return "cancelled"
    taken = run_lock.acquire(record.folder(places.results, run.id))
    if taken is None:
        return None
    due = partial(retry.is_due, run=run, limits=places.limits, forgiven=forgiven)
    status = None
    try:
        with taken.kept_alive():
            while due(earlier := record.read_or_none(places.results, run.id)) and not flag():
                if not images:
                    images |= inputs.images(run, places.data)
                stop = StopCheck(flag, taken, partial(is_cancelled, places.results, run.id))
                status = _attempt(run, images, places, earlier, taken, stop)
                if status not in ("ok", "failed"):
                    break
    finally:
        taken.release()
    return status


def record_failure(run: Run, places: WorkerSettings, why: str) -> bool:
    """Leave a ``failed`` record of an attempt that ended without one; False if somebody does the run, or it is done."""
    taken = run_lock.acquire(record.folder(places.results, run.id))
    if taken is None:
        return False
    try:
        earlier = record.read_or_none(places.results, run.id)
        if earlier is not None and earlier.status == "ok":
            return False
        ended = {"ended": provenance.now()}
        failed = RunRecord(id=run.id, status="failed", run=run.as_dict(), reason=why, provenance=ended)
        record.write(places.results, replace(failed, attempts=_attempts(earlier)))
        RunLog(record.folder(places.results, run.id))(f"failed: {why}")
    finally:
        taken.release()
    return True


def _attempt(
    run: Run,
    images: Mapping[str, Image],
    places: WorkerSettings,
    earlier: RunRecord | None,
    taken: run_lock.RunLock,
    stop: StopCheck,
) -> str:
    """One attempt, whose record is written last; returns its status."""
    import torch

    from bench.run import RunContext, execute

    folder = record.folder(places.results, run.id)
    report, log = ProgressWriter(folder), RunLog(folder)
    for pattern in (".state.pt.*.tmp", ".record.json.*.tmp", ".progress.json.*.tmp"):
        for torn in folder.glob(pattern):
            torn.unlink(missing_ok=True)  # of an attempt that was killed while it wrote

    def told(phase: str, values: Mapping[str, Any] | None = None) -> None:
        report(phase, values)
        log.phase(phase, values)
        if phase == "recording":
            stop.look()  # what is written now would lie beside the record of whoever took this run over
        if phase != "training" and stop():  # while training, `train.fit` asks, and saves the state first
            raise InterruptedRunError(f"asked to stop while {phase}.")

    job = job_environment()
    origin: dict[str, Any] = {"started": provenance.now(), "versions": provenance.package_versions()}
    origin["runs_at_once"] = places.runs_at_once
    origin["commit"], origin["dirty"] = provenance.commit()
    device = places.device if places.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    log(
        f"{'goes on' if (folder / 'state.pt').exists() else 'starts'}: {run.backbone} {run.strategy} fold {run.fold} "
        f"on {job.node}, {device}" + (f", job {job.id}, restarts {job.restarts}" if job.id else "")
    )
    try:
        origin |= provenance.machine(device)
        told("preparing")
        origin |= inputs.provenance(run, images, data_folder=places.data, weights_folder=places.weights)
        place = RunContext(
            results=places.results,
            checkpoint=Path(origin["checkpoint"]) if origin["checkpoint"] else None,
            device=device,
            loader_workers=_loader_workers(device) if places.loader_workers is None else places.loader_workers,
            is_shared=places.runs_at_once > 1,
            micro_batch_halvings=retry.halvings(earlier.failures) if earlier else 0,
        )
        result = execute(run, images, place, progress=told, should_stop=stop)
        result = replace(result, provenance={**origin, **(result.provenance or {}), "ended": provenance.now()})
    except InterruptedRunError as error:
        log(f"{stop.why}: {error}")
        return str(stop.why)  # neither done nor failed: its state waits for whoever does it next
    except Exception as error:
        if stop.why:  # whatever broke, broke because everything around was being stopped
            log(f"{stop.why}: {error}")
            return stop.why
        why = reason(error)
        log(f"failed: {why}\n{traceback.format_exc()}")
        result = RunRecord(
            id=run.id,
            status="failed",
            run=run.as_dict(),
            reason=why,
            traceback=traceback.format_exc(),
            provenance={**origin, "ended": provenance.now()},
        )
        if isinstance(error, DivergedError | AuditError) and taken.is_ours():
            (folder / "state.pt").unlink(missing_ok=True)  # going on from there would fail again
    finally:
        if stop.why != "lost":
            report.clear()
    if not taken.is_ours():
        return "lost"  # somebody else took this run for dead and does it; theirs is the record
    record.write(places.results, replace(result, attempts=_attempts(earlier)))
    if result.status == "ok":
        (folder / "state.pt").unlink(missing_ok=True)
        log("done")
    return result.status


def _loader_workers(device: str) -> int:
    """Processes that keep a GPU fed; on the CPU they would only compete with training."""
    return min(8, len(os.sched_getaffinity(0))) if device.startswith("cuda") else 0


def reason(error: BaseException) -> str:
    """One line that begins with the kind of failure (see `bench.results.retry.failure_kind`)."""
    import torch

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DivergedError):
        return f"diverged: {text}"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text:
        return f"out of memory: {text}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full: {text}"
    if isinstance(error, OSError) and error.errno in (errno.ESTALE, errno.EIO, errno.ETIMEDOUT):
        return f"lost: the file system failed: {text}"
    if isinstance(error, BenchError | RegistryError):
        return text
    return f"{type(error).__name__}: {text}"


def _attempts(earlier: RunRecord | None) -> list[Mapping[str, Any]]:
    if earlier is None:
        return []
    origin = earlier.provenance or {}
    last = {
        "status": earlier.status,
        "reason": earlier.reason,
        "started": origin.get("started"),
        "ended": origin.get("ended"),
    }
    return [*earlier.attempts, last]
