"""Pending Runs → submitit jobs. The only module that imports submitit."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import claim, cluster, record
from bench.errors import ClusterError
from bench.grid import Run
from bench.work import Places, work

if TYPE_CHECKING:
    import submitit

Kind = Literal["inline", "local", "slurm"]
KINDS: tuple[Kind, ...] = ("inline", "local", "slurm")


@dataclass(frozen=True)
class JobResult:
    """What one job came back with: statuses by run id, or what kept it from working at all."""

    done: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Outcome:
    """What `follow` saw.

    Attributes:
        errors: what kept jobs from working (unreadable data, a full disk), one sentence each.
        interrupted: asked to stop.
    """

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False


def choose(kind: str) -> Kind:
    """``auto`` is SLURM where `sbatch` is found, otherwise local processes.

    Raises:
        ClusterError: an unknown kind, or SLURM where there is none.
    """
    if kind == "auto":
        return "slurm" if shutil.which("sbatch") else "local"
    if kind == "slurm" and not shutil.which("sbatch"):
        raise ClusterError(
            "--cluster slurm: there is no sbatch on this machine; use --cluster local or inline."
        )
    for known in KINDS:
        if kind == known:
            return known
    raise ClusterError(f"--cluster {kind!r}: use auto, {', '.join(KINDS)}.")


def job(
    runs: Sequence[Run], places: Places, redo_failed_before: str, worker: int, threads: int | None
) -> JobResult:
    """The function every job calls; it returns its errors, since a debug executor would open a debugger on them."""
    try:
        if threads:
            import torch

            torch.set_num_threads(threads)
        if places.device == "cuda" and worker:
            places = replace(places, device=f"cuda:{worker}")
        return JobResult(done=work(runs, places, redo_failed_before=redo_failed_before))
    except Exception as error:
        from bench.work import reason

        return JobResult(error=reason(error))


def submit(
    runs: Sequence[Run], places: Places, *, kind: Kind, workers: int, profile: str, redo_failed_before: str
) -> list[submitit.Job[JobResult]]:
    """Submit jobs that together do `runs`.

    Inline and local workers are all given every run: claims decide who does which, so none ever waits idle.
    SLURM jobs are given ``runs_per_job`` runs each.
    """
    import submitit

    folder = places.results / "jobs" / "%j"
    executor = submitit.AutoExecutor(folder=str(folder), cluster="debug" if kind == "inline" else kind)
    if kind == "slurm":
        settings = cluster.load(profile)
        executor.update_parameters(
            name="nuclei-bench", gpus_per_node=settings.gpus, cpus_per_task=settings.cpus, mem_gb=settings.memory_gb,
            timeout_min=settings.time_limit_min, slurm_array_parallelism=settings.array_parallelism,
            slurm_setup=list(settings.setup),
            **{
                f"slurm_{key}": value
                for key in ("partition", "account", "qos", "constraint")
                if (value := getattr(settings, key)) is not None
            },
        )  # fmt: skip
        chunks = [runs[i : i + settings.runs_per_job] for i in range(0, len(runs), settings.runs_per_job)]
        with executor.batch():
            return [executor.submit(job, chunk, places, redo_failed_before, 0, None) for chunk in chunks]
    gpus = 0 if places.device == "cpu" else _gpu_count()
    if kind == "local":
        executor.update_parameters(timeout_min=60 * 24 * 30, gpus_per_node=gpus)
    count = 1 if kind == "inline" else workers or max(1, gpus)
    threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
    with _ctrl_c_is_ours():
        return [
            executor.submit(job, list(runs), places, redo_failed_before, i % max(1, gpus), threads)
            for i in range(count)
        ]


def follow(
    runs: Sequence[Run],
    places: Places,
    *,
    kind: Kind,
    workers: int = 0,
    profile: str = "default",
    redo_failed_before: str,
    poll_s: float = 0.5,
) -> Outcome:
    """Submit what is pending and wait until every run has its record.

    Runs that another `bench run` holds are waited for, and done here if it gives them up. A run whose job ends
    without a record (killed, say) is submitted once more.
    """
    outcome = Outcome()
    submissions: dict[str, int] = {}
    while not outcome.errors and not outcome.interrupted:
        pending = [run for run in runs if not finished(places.results, run, redo_failed_before)]
        free = [run for run in pending if claim.held(record.folder(places.results, run.id)) is None]
        lost = [run for run in free if submissions.get(run.id, 0) >= 2]
        if lost:
            outcome.errors.append(
                f"{len(lost)} runs ended twice without a record, {lost[0].id} first: "
                f"see the logs in {places.results / 'jobs'}."
            )
        elif not pending:
            break
        elif not free:
            time.sleep(poll_s)
        else:
            submissions |= {run.id: submissions.get(run.id, 0) + 1 for run in free}
            jobs = submit(
                free,
                places,
                kind=kind,
                workers=workers,
                profile=profile,
                redo_failed_before=redo_failed_before,
            )
            try:
                results = _wait(jobs, poll_s, wait_first=kind != "inline")
            except KeyboardInterrupt:
                if kind == "local":
                    _stop(jobs, poll_s)
                raise
            outcome.errors += [r.error for r in results if r.error]
            outcome.interrupted = any("interrupted" in r.done.values() for r in results)
    return outcome


def finished(results: Path, run: Run, redo_failed_before: str) -> bool:
    """Whether a run needs no attempt: it is done, or has failed since `redo_failed_before` (UTC, ISO 8601)."""
    found = record.read(results, run.id)
    return found is not None and not found.wants_retry(redo_failed_before)


def _wait(jobs: Sequence[Any], poll_s: float, *, wait_first: bool) -> list[JobResult]:
    while wait_first and not all(one.done() for one in jobs):
        time.sleep(poll_s)
    results = []
    for one in jobs:
        try:
            results.append(one.result())
        except Exception as error:  # submitit's own: the process was killed, or its result can't be read
            results.append(JobResult(done={}, error=None if _was_killed(error) else str(error)))
    return results


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Processes started here ignore the terminal's SIGINT: `_stop` tells them, once, and leaves them time to save."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _stop(jobs: Sequence[Any], poll_s: float) -> None:
    """Ask local jobs to save their state and end; wait until they have."""
    for one in jobs:
        with suppress(ProcessLookupError):  # ended by itself meanwhile
            os.kill(int(one.job_id), signal.SIGTERM)
    while not all(one.done() for one in jobs):
        time.sleep(poll_s)


def _was_killed(error: Exception) -> bool:
    import submitit

    return isinstance(error, submitit.core.utils.UncompletedJobError)


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()
