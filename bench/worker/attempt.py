"""One attempt at a run: execute it, and leave a record whatever comes of it."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import AuditError, BenchError, DivergedError, InterruptedRunError, OtherVersionError, PluginError
from bench.grid import Run
from bench.results import record, retry
from bench.results.failure import Failure, FailureKind
from bench.results.progress import ProgressWriter
from bench.results.record import RunRecord
from bench.results.run_lock import RunLock
from bench.results.run_log import RunLog
from bench.slurm.environment import job_environment
from bench.worker import inputs, provenance
from bench.worker.settings import WorkerSettings
from bench.worker.stop import StopCheck, StopNow
from registry import atomic
from registry.errors import CacheDirError, DataError, RegistryError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    from bench.training.data import Image

STATE_FILENAME = "state.pt"
SAVING_PHASES = frozenset(("tuning", "training", "training again", "recording"))
"""Phases in which a signal waits for the next step: files are being written."""
LOOP_PHASES = frozenset(("tuning", "training", "training again"))
LOST_FILE_SYSTEM = frozenset((errno.ESTALE, errno.EIO, errno.ETIMEDOUT))
_KINDS_BY_TEXT: tuple[tuple[FailureKind, tuple[str, ...]], ...] = (
    ("out_of_memory", ("is killed by signal: killed",)),  # a process that loads samples
    ("node_failed", ("uncorrectable ecc error", "uncorrectable nvlink error", "gpu is lost", "fallen off the bus")),
    (
        "environment",
        (
            "no cuda gpus are available",
            "no cuda-capable device",
            "no nvidia driver",
            "nvidia driver on your system",
            "cuda driver",
            "driver shutting down",
            "devices are busy or unavailable",
            "cuda error: initialization error",
            "cuda error: system not yet initialized",
            "cuda error: invalid device ordinal",
            "cuda error: no kernel image is available",
            "cuda unknown error",
            "is killed by signal: bus error",  # too little shared memory
        ),
    ),
)
"""Parts of the texts (lower case) of PyTorch's `RuntimeError`, whose class says nothing, by kind of failure."""


@dataclass
class _Reporter:
    """Writes the progress file and the log, and interrupts the run between two phases when it is to stop."""

    progress: ProgressWriter
    log: RunLog
    stop: StopCheck

    def __call__(self, phase: str, values: Mapping[str, Any] | None = None) -> None:
        self.stop.allow_immediate(phase not in SAVING_PHASES)
        self.progress(phase, values)
        self.log.phase(phase, values)
        if phase == "recording":
            self.stop.check_files()  # written now, files would lie beside the record of whoever took this run over
        if phase not in LOOP_PHASES and self.stop():  # while training, the loop asks, and saves the state first
            raise InterruptedRunError(f"stopped while {phase}.")


def attempt(
    run: Run,
    load_images: Callable[[], Mapping[str, Image]],
    settings: WorkerSettings,
    *,
    earlier: RunRecord | None,
    lock: RunLock,
    stop: StopCheck,
) -> str:
    """Execute a run once; its record is written last.

    Args:
        run: the run; its folder exists, and this process holds its lock.
        load_images: returns the dataset's images by stem; images that are not those of the plan fail this run alone.
        settings: of the worker.
        earlier: record of the attempt before this one.
        lock: of the run.
        stop: tells when the run is to stop.

    Returns:
        ``ok``, ``failed``, ``interrupted``, ``cancelled`` or ``lost`` (another process took the run over).
    """
    folder = record.folder(settings.results, run.id)
    for written in (folder, folder / "trained", folder / "predictions"):
        atomic.remove_unfinished(written)  # of an attempt that was killed while it wrote
    log, progress = RunLog(folder), ProgressWriter(folder)
    device = _device(settings.device)
    log(_first_line(run, folder, device))
    origin: dict[str, Any] = {"started": provenance.now()}
    try:
        origin |= provenance.of_attempt(settings) | provenance.machine(device)
        report = _Reporter(progress, log, stop)
        report("preparing")
        inputs.check_settings(run)
        images = load_images()
        origin |= inputs.provenance(run, images, data_folder=settings.data, weights_folder=settings.weights)
        result = _execute(run, images, settings, origin, device, earlier, report, stop)
    except InterruptedRunError as error:
        log(f"{stop.why}: {error}")
        return str(stop.why)  # neither done nor failed: its state waits for the next attempt
    except StopNow:
        log("interrupted: stopped while nothing had to be saved.")
        raise
    except Exception as error:
        if stop.why:  # it broke because the processes around it were being stopped
            log(f"{stop.why}: {error}")
            return stop.why
        result = _failed(run, error, origin, log)
        if isinstance(error, DivergedError | AuditError) and lock.is_ours():
            (folder / STATE_FILENAME).unlink(missing_ok=True)  # going on from there would fail again
    finally:
        if stop.why != "lost":
            progress.clear()
    if not lock.is_ours():
        return "lost"  # another process considered this one dead and took the run over; it writes the record
    record.write(settings.results, replace(result, attempts=earlier_attempts(earlier)))
    if result.status == "ok":
        (folder / STATE_FILENAME).unlink(missing_ok=True)
        log("done")
    return result.status


def _execute(
    run: Run,
    images: Mapping[str, Image],
    settings: WorkerSettings,
    origin: Mapping[str, Any],
    device: str,
    earlier: RunRecord | None,
    report: _Reporter,
    stop: StopCheck,
) -> RunRecord:
    from bench.run import execute
    from bench.training.context import RunContext

    context = RunContext(
        results=settings.results,
        checkpoint=Path(origin["checkpoint"]) if origin["checkpoint"] else None,
        device=device,
        loader_workers=loader_workers(device, settings),
        kept_predictions=settings.keep_predictions,
        is_shared=settings.runs_at_once > 1,
        micro_batch_halvings=retry.halvings(earlier.failures, run.train.get("memory")) if earlier else 0,
        checkpointed=retry.checkpoints(earlier.failures, run.train.get("memory")) if earlier else False,
        log=settings.log,
        fast_paths=settings.fast_paths,
    )
    result = execute(run, images, context, progress=report, should_stop=stop)
    return replace(result, provenance={**origin, **(result.provenance or {}), "ended": provenance.now()})


def _failed(run: Run, error: Exception, origin: Mapping[str, Any], log: RunLog) -> RunRecord:
    failure, text = failure_of(error), "".join(traceback.format_exception(error))
    log(f"failed: {failure.reason}\n{text}")
    return RunRecord(
        id=run.id,
        status="failed",
        run=run.as_dict(),
        reason=failure.reason,
        failure={"kind": failure.kind},
        traceback=text,
        provenance={**origin, "ended": provenance.now()},
    )


def failure_of(error: BaseException) -> Failure:
    """Kind and one-line text of an error.

    Errors of the environment (files, permissions, disks, checkpoints, imports, GPUs that can't be used, names that a
    plug-in should have registered) are no bugs: the next command tries such runs again.
    """
    import torch

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DivergedError):
        return Failure("diverged", text)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text:
        return Failure("out_of_memory", text)
    if isinstance(error, RuntimeError) and (kind := _kind_by_text(error)):
        return Failure(kind, text)
    if isinstance(error, OSError) and error.errno in LOST_FILE_SYSTEM:
        return Failure("lost", f"the file system failed: {text}")
    if isinstance(error, WeightsError | DataError | CacheDirError | UnknownNameError | PluginError | OtherVersionError):
        return Failure("environment", text)
    if isinstance(error, OSError | ImportError):
        return Failure("environment", f"{type(error).__name__}: {text}")
    if isinstance(error, BenchError | RegistryError):
        return Failure("error", text)
    return Failure("error", f"{type(error).__name__}: {text}")


def _kind_by_text(error: BaseException) -> FailureKind | None:
    """Return the kind that the text of an error, or of the error that caused it, says; None if neither does."""
    text = f"{error} {error.__cause__ or ''}".lower()
    return next((kind for kind, parts in _KINDS_BY_TEXT if any(part in text for part in parts)), None)


def earlier_attempts(earlier: RunRecord | None) -> list[Mapping[str, Any]]:
    """Element ``attempts`` of the record that replaces `earlier`."""
    if earlier is None:
        return []
    origin = earlier.provenance or {}
    last = {
        "status": earlier.status,
        "reason": earlier.reason,
        "failure": {"kind": earlier.failures[-1]} if earlier.status == "failed" else None,
        "started": origin.get("started"),
        "ended": origin.get("ended"),
    }
    return [*earlier.attempts, last]


def _device(name: str) -> str:
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _first_line(run: Run, folder: Path, device: str) -> str:
    job = job_environment()
    verb = "continues" if (folder / STATE_FILENAME).exists() else "starts"
    line = f"{verb}: {run.backbone} {run.strategy} fold {run.fold} on {job.node}, {device}"
    return line + (f", job {job.id}, restarts {job.restarts}" if job.id else "")


def loader_workers(device: str, settings: WorkerSettings) -> int:
    """Return the number of processes that prepare samples of a run.

    A GPU needs many; on the CPU they use only cores that PyTorch leaves free in this run's share of the machine.
    """
    import torch

    if settings.loader_workers is not None:
        return settings.loader_workers
    cores = len(os.sched_getaffinity(0))
    if device.startswith("cuda"):
        return min(8, cores)
    return max(0, min(4, cores // settings.runs_at_once - torch.get_num_threads()))
