"""Job arrays → sbatch, through submitit; and what submitit keeps of a job that ended."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.results import submissions
from bench.slurm import client
from bench.slurm.container import IMAGE_VARIABLE
from bench.slurm.profile import ClusterProfile
from bench.worker import provenance
from bench.worker.code import code_version, python_command
from bench.worker.job import Job, JobResult
from bench.worker.settings import WorkerSettings
from registry import cache_dir

if TYPE_CHECKING:
    import submitit

_IS_OF_OTHER_VERSION = re.compile(
    r"ModuleNotFoundError: No module named 'bench\.|AttributeError: Can't get attribute .* on <module 'bench\."
)
"""Errors of a job whose pickle names modules or classes that this version does not have."""


def submit(
    arrays: Sequence[JobArray],
    settings: WorkerSettings,
    *,
    profile: ClusterProfile,
    ignored_failures: Mapping[str, int],
) -> Iterator[submissions.Submission]:
    """Submit each array with one `sbatch` call, noted in the ledger before and after; call with the ledger locked.

    Yields:
        The submissions, as they are made.

    Raises:
        ClusterError: `sbatch` refused; arrays submitted before that one stand in the ledger.
    """
    import submitit

    if profile.gpus and settings.device == "auto":
        settings = replace(settings, device="cuda")  # a job whose GPU can't be used must say so, not train on CPUs
    for array, parallelism in zip(arrays, shares(arrays, profile.array_parallelism), strict=True):
        submission = submissions.begin(
            settings.results,
            [[run.id for run in runs] for runs in array.jobs],
            submitted=provenance.now(),
            owner=client.owner(),
        )
        try:
            executor = _executor(array, replace(profile, array_parallelism=parallelism), submission)
            with _outside_of_jobs():
                jobs = executor.submit_array(_jobs(array, settings, profile, ignored_failures))
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            message = " ".join(str(error).split())
            if "timed out" in message:
                raise ClusterError(
                    f"sbatch did not answer in time: {message} Its jobs, if there are any, are found at the next poll."
                ) from error
            submissions.close_tasks(settings.results, submission, range(len(submission.tasks)))
            raise ClusterError(
                f"sbatch refused the jobs: {message} Fix the profile (against a limit on the number of jobs: a larger "
                "runs_per_job), or use --cluster local."
            ) from error
        yield submissions.confirm(settings.results, submission, jobs[0].job_id)


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Submit from within a job as from outside: its number and restarts are not those of the new jobs."""
    kept = ("SLURM_CONF",) if "SLURM_JOB_ID" in os.environ else tuple(os.environ)
    removed = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("SLURM_") and key not in kept}
    try:
        yield
    finally:
        os.environ |= removed


def shares(arrays: Sequence[JobArray], at_once: int) -> list[int]:
    """Return how many jobs of each array may run at once, so that all together obey a limit and end together.

    Each has at least one. SLURM itself throttles arrays one by one.
    """
    minutes = [len(array.jobs) * array.time_limit_min for array in arrays]
    return [max(1, at_once * of_array // max(1, sum(minutes))) for of_array in minutes]


def sbatch_texts(arrays: Sequence[JobArray], results: Path, profile: ClusterProfile) -> list[str]:
    """Return the files that `submit` would give to `sbatch`."""
    texts = []
    parts = shares(arrays, profile.array_parallelism)
    for number, (array, parallelism) in enumerate(zip(arrays, parts, strict=True), start=1):
        folder = str((results / "jobs" / "TOKEN" / "%j").absolute())
        tasks = tuple(tuple(run.id for run in runs) for runs in array.jobs)
        submission = submissions.Submission("TOKEN", f"bench-{number}", None, tasks, folder, "", len(tasks) > 1, "")
        executor = _executor(array, replace(profile, array_parallelism=parallelism), submission)._executor
        if submission.array:
            executor.parameters["map_count"] = len(tasks)
        texts.append(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))
    return texts


def result(reference: submissions.JobRef) -> JobResult | None:
    """Return the result of a SLURM job that is over; a killed one left none."""
    from submitit.core.utils import JobPaths, pickle_load

    paths = JobPaths(reference.submission.folder, job_id=str(reference.job_id))
    try:
        status, value = pickle_load(paths.result_pickle)
    except Exception:  # absent, torn, or of another version: pickle fails in many ways, and none says more
        return None
    if status == "success":
        return value
    error = str(value).strip().rpartition("\n")[2]
    if _IS_OF_OTHER_VERSION.match(error):
        error = (
            f"job {reference.job_id} was submitted by an earlier version of nuclei-bench, which this code can't "
            "continue; the same command submits its runs anew."
        )
    return JobResult(error=error)


def has_pickles(submission: submissions.Submission) -> bool:
    """Return whether every task finds its pickled job: submitit moves it there after `sbatch` has answered."""
    from submitit.core.utils import JobPaths

    ids = [str(submission.job_of(task)) for task in range(len(submission.tasks))]
    return all(JobPaths(submission.folder, job_id=job_id).submitted_pickle.exists() for job_id in ids)


def _jobs(
    array: JobArray, settings: WorkerSettings, profile: ClusterProfile, ignored_failures: Mapping[str, int]
) -> list[Job]:
    threads = max(1, profile.cpus_per_gpu // array.runs_at_once) if array.runs_at_once > 1 else None
    return [
        Job(
            runs,
            settings,
            {run.id: ignored_failures[run.id] for run in runs if ignored_failures.get(run.id)},
            threads=threads,
            at_once=array.runs_at_once,
            requeue=profile.requeue,
            code=code_version(),
        )
        for runs in array.jobs
    ]


def _executor(array: JobArray, profile: ClusterProfile, submission: submissions.Submission) -> submitit.AutoExecutor:
    import submitit

    executor = submitit.AutoExecutor(
        folder=submission.folder,
        cluster="slurm",
        slurm_max_num_timeout=profile.timeout_retries,
        slurm_python=_python(profile),
    )
    executor.update_parameters(
        name=submission.job_name,
        cpus_per_task=profile.cpus_per_gpu,
        timeout_min=array.time_limit_min,
        slurm_array_parallelism=profile.array_parallelism,
        slurm_signal_delay_s=profile.signal_delay_s,
        slurm_setup=list(profile.setup),
        slurm_additional_parameters={"requeue" if profile.requeue else "no-requeue": True, **profile.extra},
        **({"slurm_srun_args": profile.container.srun_arguments()} if profile.container else {}),
        **_resources(profile),
    )
    return executor


def _python(profile: ClusterProfile) -> str:
    """Shell words that start Python in a job; in its container, if there is one."""
    container = profile.container
    if container is None:
        return python_command()
    # An image may have another home folder: checkpoints and caches lie where they do outside.
    variables = {"XDG_CACHE_HOME": str(cache_dir.root().parent), IMAGE_VARIABLE: container.image}
    python = python_command(container.python, **variables)
    return f"{container.command(has_gpu=profile.gpus > 0)} {python}".lstrip()


def _resources(profile: ClusterProfile) -> dict[str, Any]:
    """Options that not every cluster takes, by the names of submitit's parameters."""
    options: dict[str, Any] = {
        f"slurm_{key}": value
        for key in ("partition", "account", "qos", "constraint")
        if (value := getattr(profile, key)) is not None
    }
    if profile.gpus and profile.gpu:
        options["slurm_gres"] = f"gpu:{profile.gpu}:1"
    elif profile.gpus:
        options["gpus_per_node"] = 1
    if profile.memory_per_cpu:
        megabytes = math.ceil(profile.memory_gb_per_gpu * 1024 / profile.cpus_per_gpu)
        options["slurm_mem_per_cpu"] = f"{megabytes}M"
    else:
        options["mem_gb"] = profile.memory_gb_per_gpu
    return options
