"""Pending Runs → submitit jobs. The only module that imports submitit."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import claim, cluster, record
from bench.errors import ClusterError, RecordError
from bench.grid import Run
from bench.work import Places, give_up, work

if TYPE_CHECKING:
    import submitit

Kind = Literal["inline", "local", "slurm"]
SQUEUE_EVERY_S = 5.0
ARRAY_SIZE = 1000  # SLURM's MaxArraySize is 1001 unless a cluster says otherwise
KINDS: tuple[Kind, ...] = ("inline", "local", "slurm")


@dataclass(frozen=True)
class JobResult:
    """What one job came back with.

    Attributes:
        stopped: it was asked to stop.
        error: what kept it from working at all.
    """

    stopped: bool = False
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
        return "slurm" if shutil.which("sbatch") and _slurm_answers() else "local"
    if kind == "slurm" and not shutil.which("sbatch"):
        raise ClusterError(
            "--cluster slurm: there is no sbatch on this machine; use --cluster local or inline."
        )
    for known in KINDS:
        if kind == known:
            return known
    raise ClusterError(f"--cluster {kind!r}: use auto, {', '.join(KINDS)}.")


def _slurm_answers() -> bool:
    """Whether there is a cluster behind the SLURM commands: packages alone are not one."""
    try:
        answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def job(
    runs: Sequence[Run], places: Places, redo_failed_before: str, gpu: str | None, threads: int | None
) -> JobResult:
    """The function every job calls; it returns its errors, since a debug executor would open a debugger on them.

    Args:
        runs: what to do, as far as nobody else does it.
        places: where to work.
        redo_failed_before: see `work`.
        gpu: the one GPU this job may see, as ``CUDA_VISIBLE_DEVICES`` names it; None changes nothing.
        threads: of this process; None leaves it to PyTorch.
    """
    try:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA is not initialised yet
        if threads:
            import torch

            torch.set_num_threads(threads)
        return JobResult(stopped=work(runs, places, redo_failed_before=redo_failed_before).stopped)
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

    # A folder of its own: local job numbers are process numbers, which come again.
    folder = places.results / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}" / "%j"
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
        jobs: list[submitit.Job[JobResult]] = []
        try:
            for start in range(0, len(chunks), ARRAY_SIZE):
                with executor.batch():
                    jobs += [
                        executor.submit(job, chunk, places, redo_failed_before, None, None)
                        for chunk in chunks[start : start + ARRAY_SIZE]
                    ]
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).split())
            raise ClusterError(
                f"sbatch refused the jobs: {said} Mend the profile, or use --cluster local."
            ) from error
        return jobs
    gpus = [] if places.device == "cpu" or kind == "inline" else _gpus()
    if kind == "local":
        executor.update_parameters(timeout_min=60 * 24 * 30, gpus_per_node=len(gpus))
    count = 1 if kind == "inline" else workers or max(1, len(gpus))
    threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
    with _ctrl_c_is_ours():
        return [
            executor.submit(
                job, list(runs), places, redo_failed_before, gpus[i % len(gpus)] if gpus else None, threads
            )
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

    Runs that another `bench run` holds are waited for, and done here if it gives them up. A run whose process dies
    is done once more; after a second death it is recorded as failed, and the others go on.
    """
    outcome = Outcome()
    deaths: Counter[str] = Counter()
    fruitless = 0
    while not outcome.errors and not outcome.interrupted:
        pending = [run for run in runs if not finished(places.results, run, redo_failed_before)]
        free = [run for run in pending if claim.held(record.folder(places.results, run.id)) is None]
        if not pending:
            break
        if not free:
            time.sleep(poll_s)
            continue
        jobs = submit(
            free, places, kind=kind, workers=workers, profile=profile, redo_failed_before=redo_failed_before
        )
        try:
            results = _wait(jobs, poll_s, kind=kind)
        except KeyboardInterrupt:
            if kind == "local":
                _stop(jobs)
            raise
        outcome.errors += [r.error for r in results if r.error]
        # A job that SLURM ended before its time saved its state; its runs are simply still pending.
        outcome.interrupted = kind != "slurm" and any(r.stopped for r in results)
        dead = [run for run in free if claim.died(record.folder(places.results, run.id))]
        deaths.update(run.id for run in dead)
        for run in dead:
            if deaths[run.id] >= 2:
                why = f"killed twice without a word: out of host memory? See the logs in {places.results / 'jobs'}."
                give_up(run, places, why)
        fruitless = (
            0
            if dead or any(finished(places.results, run, redo_failed_before) for run in free)
            else fruitless + 1
        )
        if fruitless >= 3:
            outcome.errors.append(
                f"three times no job came to anything: see the logs in {places.results / 'jobs'}."
            )
    return outcome


def finished(results: Path, run: Run, redo_failed_before: str) -> bool:
    """Whether a run needs no attempt: it is done, or has failed since `redo_failed_before` (UTC, ISO 8601)."""
    try:
        found = record.read(results, run.id)
    except RecordError:
        return False  # a file system that stutters, or a damaged record: the next attempt replaces it
    return found is not None and not found.wants_retry(redo_failed_before)


def _wait(jobs: Sequence[Any], poll_s: float, *, kind: Kind) -> list[JobResult]:
    if kind == "inline":
        return [one.result() for one in jobs]
    while _in_queue(jobs) if kind == "slurm" else not all(one.done() for one in jobs):
        time.sleep(max(poll_s, SQUEUE_EVERY_S) if kind == "slurm" else poll_s)
    return [_result(one) for one in jobs]


def _in_queue(jobs: Sequence[Any]) -> bool:
    """Whether any of our jobs still waits or runs.

    One call for all jobs. submitit would ask sacct, which many clusters don't have, and warn of it each time.
    """
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return True  # a controller that restarts, say; the jobs go on without it
    return bool(set(answer.stdout.split()) & {one.job_id for one in jobs})


def _result(one: Any) -> JobResult:
    """What a job that is over came back with; a killed one left nothing."""
    from submitit.core.utils import pickle_load

    if not one.paths.result_pickle.exists():
        return JobResult()
    outcome, value = pickle_load(one.paths.result_pickle)
    return value if outcome == "success" else JobResult(error=str(value).strip().rpartition("\n")[2])


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Processes started here ignore the terminal's SIGINT: `_stop` tells them, once, and leaves them time to save."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _stop(jobs: Sequence[Any], again_s: float = 5.0) -> None:
    """Ask local jobs to save their state and end; wait until they have. A job that is starting up hears it late."""
    while running := [one for one in jobs if not one.done()]:
        for one in running:
            with suppress(ProcessLookupError):  # ended by itself meanwhile
                os.kill(int(one.job_id), signal.SIGTERM)
        deadline = time.monotonic() + again_s
        while time.monotonic() < deadline and not all(one.done() for one in running):
            time.sleep(0.1)


def _gpus() -> list[str]:
    """The GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
