"""The SLURM job that this process belongs to, from the variables that SLURM sets in it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class JobEnvironment:
    """The SLURM job of this process.

    Attributes:
        id: ``123``, or ``123_4`` for a task of an array; None outside SLURM.
        restarts: number of times that SLURM has requeued it.
        node: the node's name in SLURM, or the host's.
    """

    id: str | None
    restarts: int
    node: str


def job_environment() -> JobEnvironment:
    """The job of this process, read anew: a forked process of a job may have another environment."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return JobEnvironment(
        id=f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID"),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        node=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
    )
