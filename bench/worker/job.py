"""What runs inside a job: work, save when told to stop, and requeue through submitit's checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from subprocess import SubprocessError
from typing import Any

from bench.grid import Run
from bench.slurm import client
from bench.slurm.environment import job_environment
from bench.worker.attempt import failure_of
from bench.worker.settings import WorkerSettings
from bench.worker.stop import StopFlag
from bench.worker.worker import work


@dataclass(frozen=True)
class JobResult:
    """What one job came back with.

    Attributes:
        stopped: it was asked to stop.
        error: what kept it from working at all.
        left: ids of runs that it was at when it was told to stop and was not requeued.
        out_of_time: it had been requeued as often as the profile allows.
    """

    stopped: bool = False
    error: str | None = None
    left: tuple[str, ...] = ()
    out_of_time: bool = False


@dataclass(frozen=True)
class Job:
    """What submitit calls in the job, and asks for a checkpoint before it requeues it.

    Nothing of a training is in here: runs keep their state themselves, so a job can start again from the same pickle.

    Attributes:
        runs: what to do, as far as nobody else does it.
        places: where to work.
        forgiven: by run id, how many failed attempts do not count.
        gpu: the one GPU this job may see, as ``CUDA_VISIBLE_DEVICES`` names it; None changes nothing.
        threads: of each process; None leaves it to PyTorch.
        at_once: runs that share the GPU, each in a process of its own.
        requeue: whether SLURM may requeue the job.
    """

    runs: tuple[Run, ...]
    places: WorkerSettings
    forgiven: Mapping[str, int]
    gpu: str | None = None
    threads: int | None = None
    at_once: int = 1
    requeue: bool = False

    def __call__(self) -> JobResult:
        """Work, and return errors as a sentence: a debug executor would open a debugger on them."""
        try:
            with StopFlag() as early:  # while all is still being imported, nothing else listens
                if self.gpu is not None:
                    os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # CUDA is not initialised yet
                _limit_threads(self.threads)
                if self.places.device == "cuda" and (why := _no_gpu()):
                    return JobResult(error=why)
                if early():
                    result = JobResult(stopped=True)
                elif self.at_once > 1:
                    result = self._share()
                else:
                    result = self._work()
        except Exception as error:
            return JobResult(error=failure_of(error).reason)
        if result.stopped and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            return self._stopped_on_slurm(result)
        return replace(result, left=())

    def checkpoint(self) -> Any:
        """Asked by submitit; None keeps it from requeueing."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self) if self.requeue else None

    def _work(self) -> JobResult:
        worked = work(self.runs, self.places, ignored_failures=self.forgiven)
        left = tuple(run_id for run_id, status in worked.statuses.items() if status == "interrupted")
        return JobResult(stopped=worked.stopped, left=left)

    def _share(self) -> JobResult:
        """Several processes over the same runs: claims decide who does which."""
        context = multiprocessing.get_context("spawn")
        results: Any = context.SimpleQueue()
        places = replace(self.places, runs_at_once=self.at_once)
        alone = replace(self, at_once=1, requeue=False, places=places)
        processes = [context.Process(target=_put_result, args=(alone, results)) for _ in range(self.at_once)]
        with StopFlag() as stop:
            for process in processes:
                process.start()
            told = False
            while any(process.is_alive() for process in processes):
                processes[0].join(0.5) if processes[0].is_alive() else time.sleep(0.1)
                if stop() and not told:
                    told = True
                    for process in processes:
                        process.terminate()
            stopped = stop()
        found = []
        while not results.empty():
            found.append(results.get())
        error = next((one.error for one in found if one.error), None)
        return JobResult(stopped, error, tuple(run_id for one in found for run_id in one.left))

    def _stopped_on_slurm(self, result: JobResult) -> JobResult:
        """The state is saved. Requeue through submitit, unless SLURM is ending this job in its own way."""
        state = self._state()
        if state is not None and state not in ("RUNNING", "SUSPENDED", "SIGNALING"):
            # Cancelled, requeued or preempted. No result is left, which would be taken for that of the next start.
            raise SystemExit(128 + signal.SIGTERM)
        if not self.requeue or state is None:
            return result  # counts as a time-out, or what never gets far enough would be submitted for ever
        import submitit

        try:
            # submitit's own handler, which `work` had replaced: it asks for the checkpoint, requeues and exits.
            signal.raise_signal(signal.SIGUSR2)
        except submitit.core.utils.UncompletedJobError as error:
            print(f"this job is not requeued: {error}", flush=True)
            return replace(result, out_of_time=True)
        except (SubprocessError, OSError) as error:
            print(f"SLURM did not requeue this job: {error}", flush=True)  # whoever follows submits it again
        return result

    def _state(self) -> str | None:
        """What SLURM says of this job; a controller that is busy, as when a whole array ends, is asked again."""
        for pause_s in (2.0, 5.0, 0.0):
            state = client.job_state(str(job_environment().id))
            if state is not None:
                return state
            time.sleep(pause_s)
        return None


def _limit_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _no_gpu() -> str | None:
    """What is wrong if PyTorch can't use the GPU that this job has."""
    import torch

    if torch.cuda.is_available():
        return None
    job = job_environment()
    return (
        f"PyTorch finds no usable GPU in job {job.id} on {job.node}: mend the profile's setup lines (modules, "
        "environment) or exclude the node; --device cpu, if that is what is meant."
    )


def _put_result(job: Job, results: Any) -> None:
    try:
        _limit_threads(job.threads)
        results.put(job._work())
    except Exception as error:
        results.put(JobResult(error=failure_of(error).reason))
