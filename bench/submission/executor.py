"""Executor of runs: this process, local processes, or SLURM."""

from __future__ import annotations

from typing import Literal

from bench.errors import ClusterError
from bench.slurm import client

Executor = Literal["inline", "local", "slurm"]
EXECUTORS: tuple[Executor, ...] = ("inline", "local", "slurm")


def choose_executor(cluster: str, profile: str = "default") -> Executor:
    """Return the executor that `--cluster` names; ``auto`` is SLURM where it answers, otherwise local processes.

    Where SLURM's packages were installed and no cluster was ever configured, ``auto`` is local too. Where a cluster is
    configured, or a profile is named, a SLURM that does not answer is an error: nobody wants to train on a login node.

    Raises:
        ClusterError: an unknown value, SLURM where there is none, or one that does not answer.
    """
    if cluster == "auto":
        if client.is_installed() and client.is_answering():
            return "slurm"
        if client.is_installed() and (client.is_configured() or profile != "default"):
            raise ClusterError(
                "SLURM does not answer (sinfo fails): try again when it does, or use --cluster local to run here."
            )
        return "local"
    if cluster == "slurm" and not client.is_installed():
        raise ClusterError("--cluster slurm: there is no sbatch on this machine; use --cluster local or inline.")
    for executor in EXECUTORS:
        if cluster == executor:
            return executor
    raise ClusterError(f"--cluster {cluster!r}: use auto, {', '.join(EXECUTORS)}.")


def check_detachable(detach: bool, executor: str) -> None:
    """Refuse to detach from workers that end with this command.

    Raises:
        ClusterError: the executor is not SLURM.
    """
    if detach and executor != "slurm":
        raise ClusterError("--detach needs SLURM: local workers end with the command that started them.")
