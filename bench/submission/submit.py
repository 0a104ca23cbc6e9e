"""Pending Runs → submitit jobs. Only this module, and `job` within a job, import submitit."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.grid import Run
from bench.results import submissions
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.worker import provenance
from bench.worker.job import Job, JobResult
from bench.worker.worker import WorkerSettings

if TYPE_CHECKING:
    import submitit

Executor = Literal["inline", "local", "slurm"]
EXECUTORS: tuple[Executor, ...] = ("inline", "local", "slurm")


def choose_executor(kind: str, profile: str = "default") -> Executor:
    """``auto`` is SLURM where `sbatch` is found, otherwise local processes.

    Where packages were installed and no cluster was ever configured, it is local too. Where one was, or a profile is
    named, silence is no reason to train on a login node.

    Raises:
        ClusterError: an unknown kind, SLURM where there is none, or one that does not answer.
    """
    if kind == "auto":
        if client.is_installed() and client.is_answering():
            return "slurm"
        if client.is_installed() and (client.is_configured() or profile != "default"):
            raise ClusterError(
                "SLURM does not answer (sinfo fails): try again when it does, or use --cluster local to run here."
            )
        return "local"
    if kind == "slurm" and not client.is_installed():
        raise ClusterError("--cluster slurm: there is no sbatch on this machine; use --cluster local or inline.")
    for known in EXECUTORS:
        if kind == known:
            return known
    raise ClusterError(f"--cluster {kind!r}: use auto, {', '.join(EXECUTORS)}.")


def start_workers(
    runs: Sequence[Run], places: WorkerSettings, *, inline: bool, workers: int, forgiven: Mapping[str, int]
) -> list[submitit.Job[JobResult]]:
    """Start processes here that together do `runs`; `inline` does them in this one.

    All are given every run: claims decide who does which, so none ever waits idle.
    """
    import submitit

    # A folder of its own: local job numbers are process numbers, which come again.
    folder = places.results / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}" / "%j"
    executor = submitit.AutoExecutor(folder=str(folder), cluster="debug" if inline else "local")
    gpus = [] if places.device == "cpu" or inline else _gpus()
    if not inline:
        executor.update_parameters(timeout_min=60 * 24 * 30, gpus_per_node=len(gpus))
    count = 1 if inline else workers or max(1, len(gpus))
    threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
    shared = replace(places, runs_at_once=-(-count // max(1, len(gpus))))
    one = Job(tuple(runs), shared, forgiven, threads=threads)
    # Processes started here ignore the terminal's SIGINT: `stop` tells them, once, and leaves them time to save.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return [executor.submit(replace(one, gpu=gpus[i % len(gpus)] if gpus else None)) for i in range(count)]
    finally:
        signal.signal(signal.SIGINT, previous)


def submit(
    arrays: Sequence[JobArray], places: WorkerSettings, *, profile: ClusterProfile, forgiven: Mapping[str, int]
) -> Iterator[submissions.Submission]:
    """Submit each array with one `sbatch` call, noted in the ledger before and after; call with the ledger locked.

    Yields:
        The submissions, as they are made.

    Raises:
        ClusterError: `sbatch` refused; arrays submitted before that one stand in the ledger.
    """
    import submitit

    if profile.gpus and places.device == "auto":
        places = replace(places, device="cuda")  # a job that has a GPU and can't use it had better say so
    for array, parallelism in zip(arrays, shares(arrays, profile.array_parallelism), strict=True):
        note = submissions.begin(
            places.results,
            [[run.id for run in runs] for runs in array.jobs],
            submitted=provenance.now(),
            owner=client.owner(),
        )
        try:
            executor = _executor(array, replace(profile, array_parallelism=parallelism), note)
            with _outside_of_jobs():
                jobs = executor.submit_array(_jobs(array, places, profile, forgiven))
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            said = " ".join(str(error).split())
            if "timed out" in said:
                raise ClusterError(
                    f"sbatch did not answer in time: {said} Its jobs, if there are any, are found at the next look."
                ) from error
            submissions.close_tasks(places.results, note, range(len(note.tasks)))
            raise ClusterError(
                f"sbatch refused the jobs: {said} Mend the profile (against a limit on the number of jobs: a larger "
                "runs_per_job), or use --cluster local."
            ) from error
        yield submissions.confirm(places.results, note, jobs[0].job_id)


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Submit from within a job as from outside: its number and restarts are not those of its children."""
    kept = ("SLURM_CONF",) if "SLURM_JOB_ID" in os.environ else tuple(os.environ)
    mine = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("SLURM_") and key not in kept}
    try:
        yield
    finally:
        os.environ |= mine


def shares(arrays: Sequence[JobArray], at_once: int) -> list[int]:
    """How many jobs of each array may run at once, so that all arrays together obey a limit and end together.

    Each has at least one. SLURM itself throttles arrays one by one.
    """
    hours = [len(array.jobs) * array.time_limit_min for array in arrays]
    return [max(1, at_once * mine // max(1, sum(hours))) for mine in hours]


def sbatch_texts(arrays: Sequence[JobArray], results: Path, profile: ClusterProfile) -> list[str]:
    """The files that `submit` would give to `sbatch`."""
    texts = []
    parts = shares(arrays, profile.array_parallelism)
    for number, (array, parallelism) in enumerate(zip(arrays, parts, strict=True), start=1):
        folder = str((results / "jobs" / "TOKEN" / "%j").absolute())
        tasks = tuple(tuple(run.id for run in runs) for runs in array.jobs)
        note = submissions.Submission("TOKEN", f"bench-{number}", None, tasks, folder, "", len(tasks) > 1, "")
        executor = _executor(array, replace(profile, array_parallelism=parallelism), note)._executor
        if note.array:
            executor.parameters["map_count"] = len(tasks)
        texts.append(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))
    return texts


def result(reference: submissions.JobRef) -> JobResult | None:
    """What a SLURM job that is over came back with; a killed one left nothing."""
    from submitit.core.utils import JobPaths, pickle_load

    paths = JobPaths(reference.submission.folder, job_id=str(reference.job_id))
    try:
        outcome, value = pickle_load(paths.result_pickle)
    except Exception:  # absent, torn, or of another version: pickle fails in many ways, and it tells nothing then
        return None
    return value if outcome == "success" else JobResult(error=str(value).strip().rpartition("\n")[2])


def has_pickles(submission: submissions.Submission) -> bool:
    """Whether every task finds what it is to do: submitit puts it there after `sbatch` has answered."""
    from submitit.core.utils import JobPaths

    ids = [str(submission.job_of(task)) for task in range(len(submission.tasks))]
    return all(JobPaths(submission.folder, job_id=one).submitted_pickle.exists() for one in ids)


def stop(jobs: Sequence[Any], again_s: float = 5.0) -> None:
    """Ask local jobs to save their state and end; wait until they have. A job that is starting up hears it late."""
    while running := [one for one in jobs if not one.done()]:
        for one in running:
            with suppress(ProcessLookupError):  # ended by itself meanwhile
                os.kill(int(one.job_id), signal.SIGTERM)
        deadline = time.monotonic() + again_s
        while time.monotonic() < deadline and not all(one.done() for one in running):
            time.sleep(0.1)


def _jobs(array: JobArray, places: WorkerSettings, profile: ClusterProfile, forgiven: Mapping[str, int]) -> list[Job]:
    threads = max(1, profile.cpus_per_gpu // array.runs_at_once) if array.runs_at_once > 1 else None
    return [
        Job(
            runs,
            places,
            {run.id: forgiven[run.id] for run in runs if forgiven.get(run.id)},
            threads=threads,
            at_once=array.runs_at_once,
            requeue=profile.requeue,
        )
        for runs in array.jobs
    ]


def _executor(array: JobArray, profile: ClusterProfile, note: submissions.Submission) -> submitit.AutoExecutor:
    import submitit

    executor = submitit.AutoExecutor(folder=note.folder, cluster="slurm", slurm_max_num_timeout=profile.timeout_retries)
    asked = asdict(profile)
    more: dict[str, Any] = {
        f"slurm_{key}": asked[key] for key in ("partition", "account", "qos", "constraint") if asked[key] is not None
    }
    if profile.gpus and profile.gpu:
        more["slurm_gres"] = f"gpu:{profile.gpu}:1"
    elif profile.gpus:
        more["gpus_per_node"] = 1
    executor.update_parameters(
        name=note.job_name,
        cpus_per_task=profile.cpus_per_gpu,
        mem_gb=profile.memory_gb_per_gpu,
        timeout_min=array.time_limit_min,
        slurm_array_parallelism=profile.array_parallelism,
        slurm_signal_delay_s=profile.signal_delay_s,
        slurm_setup=list(profile.setup),
        slurm_additional_parameters={"requeue" if profile.requeue else "no-requeue": True, **profile.extra},
        **more,
    )
    return executor


def _gpus() -> list[str]:
    """The GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
