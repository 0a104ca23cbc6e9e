"""Reasons for which a job waits for ever, as squeue lists them, and the keys of the profile that cause each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bench.console import command

CAUSES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "no node can take these": {
        "PartitionConfig": ("cpus_per_gpu", "memory_gb_per_gpu", "gpu", "partition"),
        "BadConstraints": ("constraint", "gpu", "cpus_per_gpu", "memory_gb_per_gpu"),
        "MaxMemPerLimit": ("memory_gb_per_gpu", "partition"),
    },
    "the account may not be used": {"AccountNotAllowed": ("account", "partition"), "InvalidAccount": ("account",)},
    "the account allows less for one job": {
        "AssocMaxCpuPerJobLimit": ("cpus_per_gpu",),
        "AssocMaxMemPerJob": ("memory_gb_per_gpu",),
        "AssocMaxGRESPerJob": ("gpu", "gpus"),
    },
    "the QOS may not be used": {"QOSNotAllowed": ("qos", "partition"), "InvalidQOS": ("qos",)},
    "the QOS does not allow such jobs": {
        "QOSMaxCpuPerJobLimit": ("cpus_per_gpu", "qos"),
        "QOSMaxMemoryPerJob": ("memory_gb_per_gpu", "qos"),
        "QOSMaxGRESPerJob": ("gpu", "gpus", "qos"),
        "QOSMinGRES": ("gpu", "gpus", "qos"),
    },
    "the time limit is longer than allowed": {
        "PartitionTimeLimit": ("time_limit_min", "partition"),
        "AssocMaxWallDurationPerJobLimit": ("time_limit_min",),
        "QOSMaxWallDurationPerJobLimit": ("time_limit_min", "qos"),
    },
    "the reservation no longer exists": {"ReservationDeleted": ("extra",)},
}
"""Keys of a cluster profile by cause and reason.

Other reasons pass by themselves: nodes come back, jobs of others end. PartitionNodeLimit is among them: SLURM gives it
also while nodes of the partition are down or drained.
"""
KEYS: Mapping[str, tuple[str, ...]] = {name: keys for reasons in CAUSES.values() for name, keys in reasons.items()}


def is_permanent(reason: str) -> bool:
    """Return whether a job that waits for this reason never starts."""
    return _name(reason) in KEYS


def advice(reasons: Collection[str], results: Path) -> str:
    """Say for each cause why jobs that wait for `reasons` can't start and what to change, and the commands to give."""
    names = {_name(reason) for reason in reasons}
    clauses = []
    for cause, keys_by_reason in CAUSES.items():
        if present := sorted(names & keys_by_reason.keys()):
            keys = list(dict.fromkeys(key for name in present for key in keys_by_reason[name]))
            changed = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} or {keys[-1]}"
            clauses.append(f"{', '.join(present)}: {cause}; change {changed} in the cluster profile")
    return (
        f"{'. '.join(clauses)}, then {command('cancel --all', results)} and {command('retry --profile NAME', results)}"
    )


def _name(reason: str) -> str:
    """The first word: SLURM may add a list of nodes, and `bench status` that a state is saved."""
    return reason.split(" ", maxsplit=1)[0].rstrip(",")
