"""Nodes that the cluster has, as sinfo lists them, and what of a profile none of them can serve."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from registry.errors import unknown

FORMAT = "%R|%P|%l|%c|%m|%G|%f"
MB_PER_GB = 1024  # SLURM counts in powers of two
SKIP = "If jobs start there all the same, write check_nodes = false in the profile."
OTHER_CLUSTERS = frozenset(("clusters", "cluster", "M"))
"""Options of sbatch that submit to another cluster, whose nodes sinfo does not list."""


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


@dataclass(frozen=True)
class Comparison:
    """Differences between a profile and the nodes, a sentence each.

    Attributes:
        problems: requests that no node can serve.
        warnings: requests that perhaps no node can serve: the cluster may change a job's partition, or hide some.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read() -> tuple[NodeGroup, ...]:
    """All nodes, down ones too, by one `sinfo` call; empty where SLURM does not answer, or not in the usual form.

    A list that is understood in part only (several clusters, other fields) is not used: nodes might be missing in it.
    """
    if "SINFO_PARTITION" in os.environ:  # sinfo then lists these partitions only
        return ()
    text = client.output(["sinfo", "--noheader", "--all", "--exact", f"--format={FORMAT}"], limit_s=20) or ""
    groups = [_group(line) for line in text.splitlines() if line.strip()]
    known = tuple(group for group in groups if group is not None)
    return known if len(known) == len(groups) else ()


def _group(line: str) -> NodeGroup | None:
    fields = line.strip().split("|")
    if len(fields) != 7 or not fields[3].rstrip("+").isdigit():
        return None
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


def compare(profile: ClusterProfile, groups: Sequence[NodeGroup]) -> Comparison:
    """Compare the requests of a profile with the nodes; each sentence names the key to change.

    Jobs without a partition go to the default one, unless the cluster's own rules choose another: they are a problem
    only if no node of any partition serves them. A partition that sinfo does not list is a warning for the same reason.

    Args:
        profile: as it is submitted: ``gpus = 0`` for runs on CPUs.
        groups: all nodes; without any, nothing is said.
    """
    if _is_skipped(profile, groups):
        return Comparison()
    key, wanted = _partitions(profile)
    listed = list(dict.fromkeys(group.partition for group in groups))
    absent = [unknown("partition", name, listed) for name in wanted if name not in listed]
    if absent:
        return Comparison(warnings=(f"{key} = {','.join(wanted)!r}: {' '.join(absent)}",))
    offered = _offered(wanted, groups)
    sentences = _unserved(profile, offered, groups)
    if wanted or not any(_serves(group, profile) for group in groups):
        return Comparison(problems=tuple(f"{sentence} {SKIP}" for sentence in sentences))
    return Comparison(warnings=tuple(f"{sentence} {_other_partitions(profile, groups)}" for sentence in sentences))


def compare_time_limit(profile: ClusterProfile, longest_min: int, groups: Sequence[NodeGroup]) -> Comparison:
    """Compare the longest time limit of a job with those of the partitions.

    Only a warning are limits of jobs with a QOS, which may allow more, and those of the default partition where
    another one grants the time.
    """
    if _is_skipped(profile, groups):
        return Comparison()
    _, wanted = _partitions(profile)
    offered = _offered(wanted, groups)
    if not offered or any(_grants(group, longest_min) for group in offered):
        return Comparison()
    most = max(group.time_limit_min or 0 for group in offered)
    sentence = (
        f"time_limit_min = {profile.time_limit_min}: a job asks for {longest_min} minutes, and {_where(offered)} "
        f"allows {most:.0f}; write time_limit_min = {most:.0f} in the profile, or choose another partition."
    )
    if profile.qos or os.environ.get("SBATCH_QOS"):
        return Comparison(warnings=(f"{sentence} A QOS may allow more.",))
    granting = [group for group in groups if _grants(group, longest_min) and _serves(group, profile)]
    if not wanted and granting:
        return Comparison(warnings=(f"{sentence} {_other_partitions(profile, granting)}",))
    return Comparison(problems=(f"{sentence} {SKIP}",))


def _is_skipped(profile: ClusterProfile, groups: Sequence[NodeGroup]) -> bool:
    """Return whether there is nothing to compare: no list, not wanted, or jobs for another cluster."""
    elsewhere = profile.extra.keys() & OTHER_CLUSTERS or os.environ.get("SBATCH_CLUSTERS")
    return not groups or not profile.check_nodes or bool(elsewhere)


def _partitions(profile: ClusterProfile) -> tuple[str, list[str]]:
    """Where the partitions of jobs are set, and their names; sbatch prefers its variable to the profile's option."""
    variable = os.environ.get("SBATCH_PARTITION")
    given = variable or profile.partition
    return "SBATCH_PARTITION" if variable else "partition", given.split(",") if given else []


def _offered(wanted: Sequence[str], groups: Sequence[NodeGroup]) -> list[NodeGroup]:
    """Return the nodes of the wanted partitions; without any, of the default one, or all where there is none."""
    if wanted:
        return [group for group in groups if group.partition in wanted]
    return [group for group in groups if group.is_default] or list(groups)


def _where(offered: Sequence[NodeGroup]) -> str:
    return f"partition {', '.join(dict.fromkeys(group.partition for group in offered))}"


def _grants(group: NodeGroup, minutes: int) -> bool:
    return group.time_limit_min is None or minutes <= group.time_limit_min


def _other_partitions(profile: ClusterProfile, groups: Sequence[NodeGroup]) -> str:
    serving = dict.fromkeys(group.partition for group in groups if _serves(group, profile))
    return f"Jobs without a partition may wait for ever there; set partition in the profile ({', '.join(serving)})."


def _unserved(profile: ClusterProfile, offered: Sequence[NodeGroup], groups: Sequence[NodeGroup]) -> list[str]:
    """Say what none of the offered nodes serves; empty if a node serves all of it."""
    where = _where(offered)
    sentences = [*_too_large(profile, offered, where), *_not_there(profile, offered, groups, where)]
    if not sentences and not any(_serves(group, profile) for group in offered):
        sentences.append(
            f"no node of {where} has {profile.cpus_per_gpu} CPUs (cpus_per_gpu), {profile.memory_gb_per_gpu} GB "
            "(memory_gb_per_gpu) and what gpu and constraint ask for together; `sinfo -N -o '%N %P %c %m %G %f'` "
            "lists what each has."
        )
    return sentences


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
