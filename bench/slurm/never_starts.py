"""Reasons for which a job waits for ever, as squeue lists them, and the keys of the profile that cause each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bench.console import command

KEYS: Mapping[str, tuple[str, ...]] = {
    "PartitionConfig": ("cpus_per_gpu", "memory_gb_per_gpu", "gpu", "partition"),
    "BadConstraints": ("constraint", "gpu", "cpus_per_gpu", "memory_gb_per_gpu"),
    "AccountNotAllowed": ("account",),
    "InvalidAccount": ("account",),
    "QOSNotAllowed": ("qos",),
    "InvalidQOS": ("qos",),
    "PartitionNodeLimit": ("partition",),
    "PartitionTimeLimit": ("time_limit_min", "partition"),
    "AssocMaxWallDurationPerJobLimit": ("time_limit_min",),
    "QOSMaxWallDurationPerJobLimit": ("time_limit_min", "qos"),
    "AssocMaxCpuPerJobLimit": ("cpus_per_gpu",),
    "QOSMaxCpuPerJobLimit": ("cpus_per_gpu", "qos"),
    "AssocMaxMemPerJob": ("memory_gb_per_gpu",),
    "QOSMaxMemoryPerJob": ("memory_gb_per_gpu", "qos"),
    "AssocMaxGRESPerJob": ("gpu", "gpus"),
    "QOSMaxGRESPerJob": ("gpu", "gpus", "qos"),
}
"""Keys of a cluster profile by the reason; other reasons pass by themselves: nodes come back, jobs of others end."""


def is_permanent(reason: str) -> bool:
    """Return whether a job that waits for this reason never starts."""
    return _name(reason) in KEYS


def advice(reasons: Collection[str], results: Path) -> str:
    """Say that no node takes jobs which wait for `reasons`, what to change, and the commands that do it."""
    names = sorted({_name(reason) for reason in reasons})
    keys = list(dict.fromkeys(key for name in names for key in KEYS[name]))
    changed = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} or {keys[-1]}"
    return (
        f"{', '.join(names)}: no node can take these; change {changed} in the cluster profile, then "
        f"{command('cancel --all', results)} and {command('retry --profile NAME', results)}"
    )


def _name(reason: str) -> str:
    """The first word: SLURM may add a list of nodes, and `bench status` that a state is saved."""
    return reason.split(" ", maxsplit=1)[0].rstrip(",")
