"""What a plan comes to: one line per backbone × strategy, totals, and what a user should be warned of. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.estimate.packing import JobArray
from bench.estimate.resources import Resources
from bench.grid import Run
from bench.slurm.profile import ClusterProfile
from bench.units import gigabytes, hours

MOST_TOLD = 3
"""Warnings of one sort; more become one that names the worst."""


@dataclass(frozen=True)
class CostLine:
    """Runs of one backbone × strategy; they all need the same.

    Attributes:
        todo: runs to be done.
        done: runs that have an ``ok`` record.
        batch_size: images of an optimiser step; None where nothing is trained.
        need: of one of them; None if all are done.
    """

    backbone: str
    strategy: str
    todo: int
    done: int
    batch_size: int | None
    need: Resources | None

    @property
    def gpu_hours(self) -> float | None:
        """Of all runs to be done."""
        if self.need is None or self.need.gpu_memory_bytes == 0:
            return 0.0
        return None if self.need.minutes is None else self.todo * self.need.minutes / 60


@dataclass(frozen=True)
class CostSummary:
    """Everything that a plan costs.

    Attributes:
        lines: in the grid's order.
        arrays: what would be submitted.
        gpu_hours: of all runs whose need is known.
        wall_hours: from the first job to the last if `array_parallelism` jobs run at any time.
        unknown: runs to be done whose time is unknown; they are in no sum.
        disk_bytes: that stay.
        state_bytes: that come on top while jobs run: the largest states of as many runs as run at once.
    """

    lines: tuple[CostLine, ...]
    arrays: tuple[JobArray, ...]
    gpu_hours: float
    wall_hours: float
    unknown: int
    disk_bytes: int
    state_bytes: int


def summarise(
    runs: Sequence[Run],
    done: frozenset[str],
    needs: Mapping[str, Resources],
    arrays: Sequence[JobArray],
    profile: ClusterProfile,
) -> CostSummary:
    """Add everything up.

    Args:
        runs: all that are planned, in the grid's order.
        done: ids of those that need nothing any more.
        needs: of the others, by run id.
        arrays: of the others.
        profile: the cluster's.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.backbone, run.strategy), []).append(run)
    lines = []
    for (backbone, strategy), members in cells.items():
        pending = [run for run in members if run.id not in done]
        need = needs[pending[0].id] if pending else None
        batch = members[0].train.get("batch_size")
        lines.append(CostLine(backbone, strategy, len(pending), len(members) - len(pending), batch, need))
    jobs = [job for array in arrays for job in array.jobs]
    minutes = [sum(needs[run.id].minutes or 0.0 for run in job) for job in jobs]
    at_once = profile.array_parallelism * max((array.runs_at_once for array in arrays), default=1)
    states = sorted((needs[run.id].state_bytes or 0 for job in jobs for run in job), reverse=True)
    return CostSummary(
        lines=tuple(lines),
        arrays=tuple(arrays),
        gpu_hours=sum(line.gpu_hours or 0.0 for line in lines),
        wall_hours=makespan(minutes, profile.array_parallelism) / 60,
        unknown=sum(line.todo for line in lines if line.need and line.need.minutes is None),
        disk_bytes=sum(needs[run.id].disk_bytes or 0 for job in jobs for run in job),
        state_bytes=sum(states[:at_once]),
    )


def makespan(durations: Sequence[float], places: int) -> float:
    """When the last job ends if each starts as soon as one of the places is free, in the given order."""
    free = [0.0] * min(places, len(durations))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free, default=0.0)


def warnings(bill: CostSummary, profile: ClusterProfile, free_bytes: int | None) -> list[str]:
    """What would go wrong or take longer than it seems, a sentence each.

    Args:
        bill: the sums.
        profile: the cluster's.
        free_bytes: on the results' disk; None if nobody knows.
    """
    told: list[str] = []
    too_long: list[tuple[float, str]] = []
    for line in bill.lines:
        if line.need is None:
            continue
        name, memory, minutes = (f"{line.backbone} × {line.strategy}", line.need.gpu_memory_bytes, line.need.minutes)
        if memory and memory > profile.gpu_memory_gb * 2**30 and line.need.micro_batch in (1, None):
            told.append(
                f"{name} needs ≈ {memory / 2**30:.0f} GiB even at a micro-batch of 1, and a GPU of this profile has "
                f"{profile.gpu_memory_gb} GiB: take a larger GPU, or a smaller image_size."
            )
        if minutes and minutes > profile.time_limit_min:
            too_long.append((minutes, name))
    if len(too_long) > MOST_TOLD:
        minutes, longest = max(too_long)
        name = f"{len(too_long)} kinds of runs take longer than a job may, {longest} most"
        too_long = [(minutes, name)]
    told += [f"{name}: {_over_limit(minutes, profile)}" for minutes, name in too_long]
    needed = bill.disk_bytes + bill.state_bytes
    if free_bytes is not None and needed > free_bytes:
        told.append(
            f"the results may take {gigabytes(needed)} while jobs run, and {gigabytes(free_bytes)} are free: make "
            "room, choose another disk with --results DIR, or lower array_parallelism."
        )
    return told


def _over_limit(minutes: float, profile: ClusterProfile) -> str:
    limit, times = profile.time_limit_min, math.ceil(minutes / profile.time_limit_min) - 1
    text = f"≈ {hours(minutes / 60)} a run, and the time limit is {hours(limit / 60)}: "
    often = "once" if times == 1 else f"{times} times"
    if not profile.requeue:
        return text + f"each stops and must be submitted again about {often}; `bench run` does so while it follows."
    text += f"each will be requeued about {often} and go on from its state."
    if times > profile.timeout_retries:
        text += f" That is more than timeout_retries = {profile.timeout_retries} allows; raise it."
    return text
