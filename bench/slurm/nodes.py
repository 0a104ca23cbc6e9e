"""Nodes that the cluster has, as sinfo lists them, and what of a profile none of them can serve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from registry.errors import unknown

FORMAT = "%R|%P|%l|%c|%m|%G|%f"
MB_PER_GB = 1024  # SLURM counts in powers of two


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one partition that are alike.

    Attributes:
        partition: its name.
        is_default: whether jobs without a partition go there.
        time_limit_min: longest time limit of its jobs; None is no limit.
        cpus: of each node.
        memory_mb: of each node, in MiB; None where the cluster does not state it.
        gpus: kinds of GPUs of each node; "" for those without a kind.
        features: as ``--constraint`` takes them.
    """

    partition: str
    is_default: bool
    time_limit_min: float | None
    cpus: int
    memory_mb: int | None
    gpus: frozenset[str]
    features: frozenset[str]


def read() -> tuple[NodeGroup, ...]:
    """All nodes, down ones too, by one `sinfo` call; empty where SLURM does not answer."""
    text = client.output(["sinfo", "--noheader", "--all", "--exact", f"--format={FORMAT}"], limit_s=20) or ""
    return tuple(group for line in text.splitlines() if (group := _group(line)) is not None)


def _group(line: str) -> NodeGroup | None:
    fields = line.strip().split("|")
    if len(fields) != 7 or not fields[3].rstrip("+").isdigit():
        return None  # a headline of several clusters, say
    partition, starred, limit, cpus, memory, gres, features = fields
    megabytes = int(memory.rstrip("+")) if memory.rstrip("+").isdigit() else 0
    seconds = client.parse_duration_s(limit)
    return NodeGroup(
        partition=partition,
        is_default=starred.endswith("*"),
        time_limit_min=None if seconds is None else seconds / 60,
        cpus=int(cpus.rstrip("+")),
        memory_mb=megabytes if megabytes > 1 else None,  # 1 is what SLURM writes where none is configured
        gpus=_gpus(gres),
        features=frozenset() if features == "(null)" else frozenset(features.split(",")),
    )


def _gpus(gres: str) -> frozenset[str]:
    """Kinds in ``gpu:a100:4(S:0-1),nvme:1``; ``gpu:4`` has none."""
    kinds = set()
    for resource in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = resource.split(":")
        if name == "gpu":
            kinds.add("" if not rest or rest[0].isdigit() else rest[0])
    return frozenset(kinds)


def problems(profile: ClusterProfile, groups: Sequence[NodeGroup]) -> list[str]:
    """Requests of a profile that no node can serve, a sentence each with the key to change.

    Args:
        profile: as it is submitted: ``gpus = 0`` for runs on CPUs.
        groups: all nodes; without any, nothing is said.
    """
    if not groups or profile.extra.keys() & {"clusters", "cluster"}:  # those of another cluster are not listed
        return []
    names = list(dict.fromkeys(group.partition for group in groups))
    wanted = profile.partition.split(",") if profile.partition else []
    absent = [unknown("partition", name, names) for name in wanted if name not in names]
    if absent:
        return [f"partition = {profile.partition!r}: {' '.join(absent)}"]
    offered = [group for group in groups if group.partition in wanted or (not wanted and group.is_default)]
    if not offered:  # no default: sbatch says so
        return []
    where = f"partition {', '.join(dict.fromkeys(group.partition for group in offered))}"
    found = [*_too_large(profile, offered, where), *_not_there(profile, offered, groups, where)]
    if not found and not any(_serves(group, profile) for group in offered):
        found.append(
            f"no node of {where} has {profile.cpus_per_gpu} CPUs (cpus_per_gpu), {profile.memory_gb_per_gpu} GB "
            "(memory_gb_per_gpu) and what gpu and constraint ask for together; `sinfo -N -o '%N %P %c %m %G %f'` "
            "lists what each has."
        )
    return found


def time_limit_problem(profile: ClusterProfile, longest_min: int, groups: Sequence[NodeGroup]) -> str | None:
    """Say that a job's time limit is longer than its partition allows; None where it is not."""
    wanted = profile.partition.split(",") if profile.partition else []
    offered = [group for group in groups if group.partition in wanted or (not wanted and group.is_default)]
    limits = [group.time_limit_min for group in offered]
    if not limits or any(limit is None or longest_min <= limit for limit in limits):
        return None
    most = max(limit for limit in limits if limit is not None)
    return (
        f"time_limit_min = {profile.time_limit_min}: a job asks for {longest_min} minutes, and partition "
        f"{', '.join(dict.fromkeys(group.partition for group in offered))} allows {most:.0f}; write time_limit_min = "
        f"{most:.0f} in the profile, or choose another partition."
    )


def _too_large(profile: ClusterProfile, offered: Sequence[NodeGroup], where: str) -> list[str]:
    found = []
    cpus = max(group.cpus for group in offered)
    if profile.cpus_per_gpu > cpus:
        found.append(
            f"cpus_per_gpu = {profile.cpus_per_gpu}: no node of {where} has more than {cpus} CPUs; write "
            f"cpus_per_gpu = {cpus} or less in the profile."
        )
    memory = [group.memory_mb for group in offered]
    most = max((known for known in memory if known is not None), default=0) // MB_PER_GB
    if None not in memory and profile.memory_gb_per_gpu > most:
        found.append(
            f"memory_gb_per_gpu = {profile.memory_gb_per_gpu}: no node of {where} has more than {most} GB; write "
            f"memory_gb_per_gpu = {most} or less in the profile."
        )
    return found


def _not_there(
    profile: ClusterProfile, offered: Sequence[NodeGroup], groups: Sequence[NodeGroup], where: str
) -> list[str]:
    found = []
    kinds = frozenset().union(*(group.gpus for group in offered))
    elsewhere = sorted({group.partition for group in groups if group.gpus} - {group.partition for group in offered})
    if profile.gpus and not kinds:
        others = f"; partition {', '.join(elsewhere)} has some" if elsewhere else ""
        found.append(
            f"gpus = {profile.gpus}: no node of {where} has a GPU{others}. Write another partition or gpus = 0 in the "
            "profile, or pass --device cpu."
        )
    elif profile.gpus and profile.gpu and profile.gpu not in kinds:
        listed = ", ".join(sorted(kinds - {""})) or "GPUs without a kind (leave gpu out)"
        found.append(f"gpu = {profile.gpu!r}: no node of {where} has such a GPU; there are: {listed}.")
    features = frozenset().union(*(group.features for group in offered))
    simple = profile.constraint is not None and re.fullmatch(r"[\w.-]+", profile.constraint)
    if simple and profile.constraint not in features:
        listed = ", ".join(sorted(features)) or "none"
        found.append(f"constraint = {profile.constraint!r}: no node of {where} has this feature; there are: {listed}.")
    return found


def _serves(group: NodeGroup, profile: ClusterProfile) -> bool:
    """Return whether a node has all at once; of a constraint in words (``a&b``), SLURM itself is the judge."""
    simple = profile.constraint is not None and re.fullmatch(r"[\w.-]+", profile.constraint)
    return (
        group.cpus >= profile.cpus_per_gpu
        and (group.memory_mb is None or group.memory_mb >= profile.memory_gb_per_gpu * MB_PER_GB)
        and (not profile.gpus or (profile.gpu in group.gpus if profile.gpu else bool(group.gpus)))
        and (not simple or profile.constraint in group.features)
    )
