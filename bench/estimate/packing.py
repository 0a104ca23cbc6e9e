"""Grouping of runs into few job arrays, by the resources that the runs take. No I/O, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.estimate.resources import Resources
from bench.grid import Run
from bench.slurm.profile import ClusterProfile, longest_signal_delay_s

TIME_CLASSES_MIN = (60, 240)
"""Time limits used besides the profile's: schedulers start short jobs sooner, in gaps between long ones."""
MAX_GROUPS = 4
USABLE_MEMORY = 0.9
"""Share of a GPU's memory that runs may fill together; the rest is lost between PyTorch's blocks."""


@dataclass(frozen=True)
class JobArray:
    """Jobs that are submitted by one call of sbatch.

    Attributes:
        time_limit_min: time limit of each job.
        runs_at_once: number of runs of a job that share its GPU at any time.
        jobs: the runs of each job, in the grid's order.
    """

    time_limit_min: int
    runs_at_once: int
    jobs: tuple[tuple[Run, ...], ...]


@dataclass(frozen=True)
class _Limits:
    """Properties that all jobs of an array have in common."""

    time_limit_min: int
    runs_at_once: int

    def cover(self, other: _Limits) -> bool:
        return self.time_limit_min >= other.time_limit_min and self.runs_at_once <= other.runs_at_once


def pack(
    runs: Sequence[Run], resources: Mapping[str, Resources], profile: ClusterProfile, max_array_size: int = 1000
) -> list[JobArray]:
    """Group runs by their resources: at most `MAX_GROUPS` groups, each split at the largest array allowed.

    A job holds ``runs_per_job`` runs, or as many as share its GPU if that is more, but never more than its time limit
    covers: `granted_minutes` of each run, one after the other, since runs that share a GPU slow one another. A run
    longer than the profile's limit has a job of its own, and is continued from its saved state.

    Args:
        runs: in the grid's order.
        resources: of the runs, by their id.
        profile: cluster profile, for its limits and packing.
        max_array_size: largest number of jobs in one array.

    Returns:
        Arrays in the order of their first run; every run is in exactly one of them.
    """
    groups: dict[_Limits, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(_limits(resources[run.id], profile), []).append(index)
    while len(groups) > MAX_GROUPS:
        _merge_smallest(groups)
    arrays = []
    for limits, members in sorted(groups.items(), key=lambda group: group[1][0]):
        jobs = tuple(_jobs([runs[index] for index in members], resources, limits, profile))
        at_once = min(limits.runs_at_once, max(len(job) for job in jobs))  # the time limit may not cover more
        arrays += [
            JobArray(limits.time_limit_min, at_once, jobs[start : start + max_array_size])
            for start in range(0, len(jobs), max_array_size)
        ]
    return arrays


def granted_minutes(resources: Resources) -> float:
    """Return the minutes that a time limit grants a run, and all of its trials; 0 where its duration is unknown."""
    if resources.minutes is None:
        return 0.0
    return (resources.minutes - resources.tuning_share + resources.tuning_minutes) * resources.factor


def _limits(resources: Resources, profile: ClusterProfile) -> _Limits:
    at_once = 1
    if resources.gpu_memory_bytes == 0:
        at_once = profile.runs_per_gpu
    elif resources.gpu_memory_bytes:
        fitting = int(profile.gpu_memory_gb * 2**30 * USABLE_MEMORY // resources.gpu_memory_bytes)
        at_once = max(1, min(profile.runs_per_gpu, fitting))
    limit = profile.time_limit_min
    if resources.minutes is not None:
        required = granted_minutes(resources) * max(profile.runs_per_job, at_once)
        shorter = [m for m in TIME_CLASSES_MIN if profile.signal_delay_s <= longest_signal_delay_s(m)]
        limit = next((minutes for minutes in shorter if required <= minutes < limit), limit)
    return _Limits(limit, at_once)


def _merge_smallest(groups: dict[_Limits, list[int]]) -> None:
    """Merge the group of fewest runs into the nearest that covers it; if there is none, into one with new limits."""
    smallest = min(groups, key=lambda limits: (len(groups[limits]), limits.runs_at_once, limits.time_limit_min))
    members = groups.pop(smallest)

    def distance(limits: _Limits) -> tuple[bool, int, int]:
        runs_apart = abs(limits.runs_at_once - smallest.runs_at_once)
        return not limits.cover(smallest), runs_apart, abs(limits.time_limit_min - smallest.time_limit_min)

    nearest = min(groups, key=distance)
    members = sorted(members + groups.pop(nearest))
    merged = _Limits(
        max(nearest.time_limit_min, smallest.time_limit_min), min(nearest.runs_at_once, smallest.runs_at_once)
    )
    groups[merged] = sorted(members + groups.pop(merged, []))


def _jobs(
    runs: Sequence[Run], resources: Mapping[str, Resources], limits: _Limits, profile: ClusterProfile
) -> Iterator[tuple[Run, ...]]:
    most = max(profile.runs_per_job, limits.runs_at_once)
    job: list[Run] = []
    minutes = 0.0
    for run in runs:
        granted = granted_minutes(resources[run.id])
        if job and (len(job) == most or minutes + granted > limits.time_limit_min):
            yield tuple(job)
            job, minutes = [], 0.0
        job.append(run)
        minutes += granted
    if job:
        yield tuple(job)
