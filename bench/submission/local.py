"""Local workers: processes on this machine that together do the runs of a plan."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.grid import Run
from bench.worker.code import code_version, for_child_processes
from bench.worker.job import Job, JobResult
from bench.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import submitit

LONGEST_MIN = 60 * 24 * 30


def start_workers(
    runs: Sequence[Run], settings: WorkerSettings, *, inline: bool, workers: int, ignored_failures: Mapping[str, int]
) -> list[submitit.Job[JobResult]]:
    """Start processes here that together do `runs`; `inline` does them in this process, when the result is asked for.

    Each is given every run: locks decide which process does which, so none ever waits idle.
    """
    import submitit

    _leave_removed_folder(settings.results)
    # A folder of its own: local job numbers are process numbers, which are used again. Without %j in it, since
    # submitit's local controller makes the folder before it knows the number.
    folder = settings.results / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    executor = submitit.AutoExecutor(folder=str(folder), cluster="debug" if inline else "local")
    gpus = [] if settings.device == "cpu" or inline else visible_gpus()
    if not inline:
        executor.update_parameters(timeout_min=LONGEST_MIN, gpus_per_node=len(gpus))
    count = 1 if inline else workers or max(1, len(gpus))
    job = Job(
        tuple(runs),
        replace(settings, runs_at_once=-(-count // max(1, len(gpus)))),
        ignored_failures,
        threads=max(1, (os.cpu_count() or 1) // count) if count > 1 else None,
        code=code_version(),
    )
    # Processes started here ignore the terminal's SIGINT: `stop` signals them, once, and leaves them time to save.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with for_child_processes():
            return [
                executor.submit(replace(job, gpu=gpus[number % len(gpus)] if gpus else None)) for number in range(count)
            ]
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave_removed_folder(results: Path) -> None:
    """Change to the results folder if the current one was removed: no process can load MKL there, and all would die."""
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir(results)


def stop(jobs: Sequence[Any], again_s: float = 1.0) -> None:
    """Signal local jobs to save their state and end; wait until they have.

    The signal is repeated: a process that is just starting may not listen yet.
    """
    while running := [job for job in jobs if not job.done()]:
        for job in running:
            with suppress(ProcessLookupError):  # ended by itself meanwhile
                os.kill(int(job.job_id), signal.SIGTERM)
        deadline = time.monotonic() + again_s
        while time.monotonic() < deadline and not all(job.done() for job in running):
            time.sleep(0.05)


def worker_result(job: Any, *, inline: bool) -> JobResult:
    """Return the result of a worker that ended; a killed one left none, which counts as an empty result."""
    if not inline and not job.paths.result_pickle.exists():
        return JobResult()
    value = job.result()
    return value if isinstance(value, JobResult) else JobResult(error=str(value))


def visible_gpus() -> list[str]:
    """Return the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
