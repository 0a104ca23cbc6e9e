"""Pending runs → few job arrays, by what the runs need. Pure: no I/O, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.estimate.resources import Resources
from bench.grid import Run
from bench.slurm.profile import ClusterProfile, longest_signal_delay_s

TIME_CLASSES_MIN = (60, 240)
"""Time limits besides the profile's own: schedulers start short jobs sooner, in gaps that others leave."""
MOST_GROUPS = 4
USABLE_MEMORY = 0.9
"""Share of a GPU's memory that runs may fill together; the rest is lost between PyTorch's blocks."""


@dataclass(frozen=True)
class JobArray:
    """Jobs that are submitted by one call of sbatch.

    Attributes:
        time_limit_min: of each job.
        runs_at_once: runs of a job that share its GPU at any time.
        jobs: the runs of each job, in the grid's order.
    """

    time_limit_min: int
    runs_at_once: int
    jobs: tuple[tuple[Run, ...], ...]


@dataclass(frozen=True)
class _Shape:
    """What the jobs of one array have in common."""

    time_limit_min: int
    runs_at_once: int

    def covers(self, other: _Shape) -> bool:
        return self.time_limit_min >= other.time_limit_min and self.runs_at_once <= other.runs_at_once


def pack(
    runs: Sequence[Run], needs: Mapping[str, Resources], profile: ClusterProfile, max_array_size: int = 1000
) -> list[JobArray]:
    """Group runs by what they need: at most `MOST_GROUPS` groups, each split at the largest array allowed.

    A job holds ``runs_per_job`` runs, or as many as share its GPU if that is more, but never more than its time
    limit covers: `Need.factor` × minutes for each run, one after the other, since runs that share a GPU slow one
    another. A run that needs more than the profile's limit has a job of its own, and goes on from its state.

    Args:
        runs: in the grid's order.
        needs: by run id.
        profile: limits and packing.
        max_array_size: largest number of jobs in one array.

    Returns:
        Every run exactly once, arrays in the order of their first run.
    """
    groups: dict[_Shape, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(_shape(needs[run.id], profile), []).append(index)
    while len(groups) > MOST_GROUPS:
        _merge_smallest(groups)
    arrays = []
    for shape, members in sorted(groups.items(), key=lambda group: group[1][0]):
        jobs = tuple(_jobs([runs[index] for index in members], needs, shape, profile))
        at_once = min(shape.runs_at_once, max(len(job) for job in jobs))  # the time limit may not cover more
        arrays += [
            JobArray(shape.time_limit_min, at_once, jobs[start : start + max_array_size])
            for start in range(0, len(jobs), max_array_size)
        ]
    return arrays


def bound_min(need: Resources) -> float:
    """Minutes that a time limit grants a run; 0 where nothing is known of it."""
    return 0.0 if need.minutes is None else need.minutes * need.factor


def _shape(need: Resources, profile: ClusterProfile) -> _Shape:
    at_once = 1
    if need.gpu_memory_bytes == 0:
        at_once = profile.runs_per_gpu
    elif need.gpu_memory_bytes:
        fitting = int(profile.gpu_memory_gb * 2**30 * USABLE_MEMORY // need.gpu_memory_bytes)
        at_once = max(1, min(profile.runs_per_gpu, fitting))
    limit = profile.time_limit_min
    if need.minutes is not None:
        wanted = bound_min(need) * max(profile.runs_per_job, at_once)
        shorter = [m for m in TIME_CLASSES_MIN if profile.signal_delay_s <= longest_signal_delay_s(m)]
        limit = next((minutes for minutes in shorter if wanted <= minutes < limit), limit)
    return _Shape(limit, at_once)


def _merge_smallest(groups: dict[_Shape, list[int]]) -> None:
    """Give the group of fewest runs to one that covers its need; to a new shape, if there is none."""
    smallest = min(groups, key=lambda shape: (len(groups[shape]), shape.runs_at_once, shape.time_limit_min))
    members = groups.pop(smallest)

    def cost(shape: _Shape) -> tuple[bool, int, int]:
        apart = abs(shape.runs_at_once - smallest.runs_at_once)
        return not shape.covers(smallest), apart, abs(shape.time_limit_min - smallest.time_limit_min)

    nearest = min(groups, key=cost)
    members = sorted(members + groups.pop(nearest))
    shape = _Shape(
        max(nearest.time_limit_min, smallest.time_limit_min), min(nearest.runs_at_once, smallest.runs_at_once)
    )
    groups[shape] = sorted(members + groups.pop(shape, []))


def _jobs(
    runs: Sequence[Run], needs: Mapping[str, Resources], shape: _Shape, profile: ClusterProfile
) -> Iterator[tuple[Run, ...]]:
    most = max(profile.runs_per_job, shape.runs_at_once)
    job: list[Run] = []
    minutes = 0.0
    for run in runs:
        bound = bound_min(needs[run.id])
        if job and (len(job) == most or minutes + bound > shape.time_limit_min):
            yield tuple(job)
            job, minutes = [], 0.0
        job.append(run)
        minutes += bound
    if job:
        yield tuple(job)
