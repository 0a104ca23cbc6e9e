"""Job: the callable that submitit runs on a node, and its result. Work, save when signalled, requeue by checkpoint."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from subprocess import SubprocessError
from typing import Any

from bench.console import LOGGERS
from bench.grid import Run
from bench.results.failure import Failure
from bench.slurm import client
from bench.slurm.environment import job_environment
from bench.worker import code
from bench.worker.attempt import failure_of
from bench.worker.code import CodeVersion
from bench.worker.settings import WorkerSettings
from bench.worker.stop import StopFlag, StopNow
from bench.worker.worker import work

logger = logging.getLogger(__name__)

STDERR = 2  # its file descriptor


@dataclass(frozen=True)
class JobResult:
    """Result of one job.

    Attributes:
        stopped: stopped by a signal.
        error: sentence that says why it could not work at all; None if it could.
        left: ids of runs that were interrupted by a signal after which the job was not requeued.
        out_of_time: it had been requeued as often as the profile allows.
        signal: the signal that stopped it.
    """

    stopped: bool = False
    error: str | None = None
    left: tuple[str, ...] = ()
    out_of_time: bool = False
    signal: int | None = None


@dataclass(frozen=True)
class Job:
    """Callable that submitit runs in the job, and asks for a checkpoint before it requeues the job.

    It holds nothing of a training: runs keep their state themselves, so a job can start again from the same pickle.

    Attributes:
        runs: to be done, as far as no other process does them.
        settings: of the worker.
        ignored_failures: by run id, number of failed attempts that don't count.
        gpu: the only GPU this job may see, as ``CUDA_VISIBLE_DEVICES`` names it; None changes nothing.
        threads: of each process; None leaves it to PyTorch.
        at_once: runs that share the GPU, each in a process of its own.
        requeue: whether SLURM may requeue the job.
        code: code of the command that submitted the job; None is not compared.
    """

    runs: tuple[Run, ...]
    settings: WorkerSettings
    ignored_failures: Mapping[str, int]
    gpu: str | None = None
    threads: int | None = None
    at_once: int = 1
    requeue: bool = False
    code: CodeVersion | None = None

    def __call__(self) -> JobResult:
        """Work, and return errors as a sentence: a debug executor would open a debugger on them."""
        with logging_to_stderr():
            return self._call()

    def _call(self) -> JobResult:
        try:
            with StopFlag(is_immediate=True) as early:  # until `work` listens: nothing has to be saved yet
                result = self._start(early)
        except StopNow:
            result = JobResult(stopped=True, signal=early.first)
        except Exception as error:
            return JobResult(error=failure_of(error).reason)
        if result.stopped and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            return self._stopped_on_slurm(result)
        return replace(result, left=())

    def checkpoint(self) -> Any:
        """Return what submitit runs after a requeue; None keeps it from requeueing."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self) if self.requeue else None

    def _start(self, early: StopFlag) -> JobResult:
        if self.code is not None:
            problem = code.difference(self.code)
            if problem:
                return JobResult(error=Failure("environment", problem).reason)
            if code.is_edited(self.code):
                logger.warning(
                    "the code in %s was edited after this job was submitted: digest %s, now %s.",
                    self.code.path,
                    self.code.digest,
                    code.code_version().digest,
                )
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # CUDA is not initialised yet
        _limit_threads(self.threads)
        if self.settings.device == "cuda" and (problem := _gpu_problem()):
            return JobResult(error=problem)
        if early():
            return JobResult(stopped=True, signal=early.first)
        return self._share() if self.at_once > 1 else self._work()

    def _work(self) -> JobResult:
        result = work(self.runs, self.settings, ignored_failures=self.ignored_failures)
        left = tuple(run_id for run_id, status in result.statuses.items() if status == "interrupted")
        return JobResult(stopped=result.stopped, left=left, signal=result.signal)

    def _share(self) -> JobResult:
        """Start several processes over the same runs: locks decide which process does which run."""
        context = multiprocessing.get_context("spawn")
        results: Any = context.SimpleQueue()
        alone = replace(self, at_once=1, requeue=False, settings=replace(self.settings, runs_at_once=self.at_once))
        processes = [context.Process(target=_put_result, args=(alone, results)) for _ in range(self.at_once)]
        with StopFlag() as stop:
            for process in processes:
                process.start()
            is_signalled = False
            while any(process.is_alive() for process in processes):
                processes[0].join(0.5) if processes[0].is_alive() else time.sleep(0.1)
                if stop() and not is_signalled:
                    is_signalled = True
                    for process in processes:
                        process.terminate()
            stopped = stop()
        collected: list[JobResult] = []
        while not results.empty():
            collected.append(results.get())
        error = next((result.error for result in collected if result.error), None)
        left = tuple(run_id for result in collected for run_id in result.left)
        return JobResult(stopped, error, left, signal=stop.first)

    def _stopped_on_slurm(self, result: JobResult) -> JobResult:
        """Requeue through submitit, unless SLURM is ending this job in its own way; the state is saved already."""
        if not client.is_installed():
            return _stopped_without_slurm(result)
        state = self._state()
        if state is not None and state not in ("RUNNING", "SUSPENDED", "SIGNALING"):
            # Cancelled, requeued or preempted. No result is left, which would be taken for that of the next start.
            raise SystemExit(128 + signal.SIGTERM)
        if not self.requeue or state is None:
            return result  # counts as a time-out: a job that never gets far enough would be submitted for ever
        import submitit

        try:
            # submitit's own handler, which `work` had replaced: it asks for the checkpoint, requeues and exits.
            signal.raise_signal(signal.SIGUSR2)
        except submitit.core.utils.UncompletedJobError as error:
            logger.warning("this job is not requeued: %s", error)
            return replace(result, out_of_time=True)
        except (SubprocessError, OSError) as error:
            logger.warning("SLURM did not requeue this job: %s", error)  # the command that follows submits it again
        return result

    def _state(self) -> str | None:
        """State of this job in the queue; asked again where the controller is busy, as when a whole array ends."""
        for pause_s in (2.0, 5.0, 0.0):
            state = client.job_state(str(job_environment().id))
            if state is not None:
                return state
            time.sleep(pause_s)
        return None


def _stopped_without_slurm(result: JobResult) -> JobResult:
    """End a job in a container whose image lacks SLURM's commands: it can neither ask for its state nor requeue.

    SLURM sends SIGUSR2 ahead of a time limit, and SIGTERM when it cancels, requeues or preempts a job.
    """
    if result.signal != signal.SIGUSR2:
        # No result is left, which would be taken for that of the next start.
        raise SystemExit(128 + signal.SIGTERM)
    logger.warning("this job is not requeued, since there are no SLURM commands in its container.")
    return result  # counts as a time-out; the command that follows submits the rest


class StderrHandler(logging.Handler):
    """Writes log messages to the job's standard error, unbuffered: a signal may interrupt a line that is printed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        with suppress(OSError):  # a full disk must not end the job
            os.write(STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Write log messages, from INFO on, to standard error while the block runs, unless a command shows them already."""
    silent = [logger for logger in map(logging.getLogger, LOGGERS) if not logger.handlers]
    before = [(logger.level, logger.propagate) for logger in silent]
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger in silent:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # the root's handlers, of a plug-in say, would write them a second time
    try:
        yield
    finally:
        for logger, (level, propagates) in zip(silent, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates


def _limit_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _gpu_problem() -> str | None:
    """A sentence if PyTorch can't use the GPU that this job has."""
    import torch

    if torch.cuda.is_available():
        return None
    job = job_environment()
    return (
        f"PyTorch finds no usable GPU in job {job.id} on {job.node}: fix the profile's setup lines (modules, "
        "environment) or exclude the node; pass --device cpu if CPUs are meant."
    )


def _put_result(job: Job, results: Any) -> None:
    try:
        _limit_threads(job.threads)
        with logging_to_stderr():
            results.put(job._work())
    except Exception as error:
        results.put(JobResult(error=failure_of(error).reason))
