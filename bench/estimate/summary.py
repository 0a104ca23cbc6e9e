"""Costs of a plan: a line per backbone × strategy × swept setting, totals, warnings, notes on the numbers. No I/O."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.estimate import tuning_costs
from bench.estimate.estimator import POSTPROCESSING_S
from bench.estimate.packing import JobArray
from bench.estimate.resources import COUNTED_FACTOR, MEASURED_FACTOR, Basis, Resources
from bench.grid import Run
from bench.planning.setting_labels import setting_labels
from bench.slurm.profile import ClusterProfile
from bench.units import gibibytes, gigabytes, hours

MAX_LONG_RUN_WARNINGS = 3
"""If runs of more lines exceed the time limit, one warning names the longest."""
SAME_COST = ("seed", "fold_seed")
"""Settings that don't change what a run takes: their runs share a line."""
BASIS_TITLES: Mapping[Basis, str] = {
    "measured": "measured",
    "scaled": "scaled",
    "perf": "bench perf",
    "counted": "FLOPs",
    "no_gpu": "no GPU",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class CostLine:
    """Costs of the runs of one backbone × strategy under one choice of settings, which all take the same resources.

    Attributes:
        settings: label that tells lines of one backbone × strategy apart, e.g. ``rank=8``; empty where there is one.
        pending: number of runs to be done.
        done: number of runs with an ``ok`` record.
        batch_size: images of an optimiser step; None where nothing is trained.
        resources: of one run; None if all are done.
    """

    backbone: str
    strategy: str
    pending: int
    done: int
    batch_size: int | None
    resources: Resources | None
    settings: str = ""

    @property
    def name(self) -> str:
        """Backbone × strategy, with the settings if there are several."""
        return f"{self.backbone} × {self.strategy}" + (f" ({self.settings})" if self.settings else "")

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours of all runs to be done; None if unknown."""
        if self.resources is None or self.resources.gpu_memory_bytes == 0:
            return 0.0
        return None if self.resources.minutes is None else self.pending * self.resources.minutes / 60


@dataclass(frozen=True)
class CostSummary:
    """Costs of a plan.

    Attributes:
        lines: in the grid's order.
        arrays: job arrays that would be submitted.
        gpu_hours: sum over all runs of known duration.
        wall_hours: from the first job's start to the last one's end if `array_parallelism` jobs run at any time.
        unknown: number of pending runs of unknown duration; they are in no sum.
        disk_bytes: size of the results when all runs are done.
        state_bytes: largest size of the training states of all runs that run at once, in addition to `disk_bytes`.
        cache_bytes: size of the embeddings that the runs cache together, in the user's cache.
        tuning: what the trials of encoder rates take, in a phrase; empty where nothing is tuned.
    """

    lines: tuple[CostLine, ...]
    arrays: tuple[JobArray, ...]
    gpu_hours: float
    wall_hours: float
    unknown: int
    disk_bytes: int
    state_bytes: int
    cache_bytes: int = 0
    tuning: str = ""


def summarise(
    runs: Sequence[Run],
    done: frozenset[str],
    resources: Mapping[str, Resources],
    arrays: Sequence[JobArray],
    profile: ClusterProfile,
    shared_bytes: int = 0,
) -> CostSummary:
    """Add up the costs of a plan.

    Args:
        runs: all planned runs, in the grid's order.
        done: ids of those with an ``ok`` record.
        resources: of the others, by run id.
        arrays: job arrays of the others.
        profile: cluster profile.
        shared_bytes: size of files of the results that belong to several runs, or depend on the dataset.
    """
    labels = setting_labels(runs, ignored=SAME_COST)
    members_by_name: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        members_by_name.setdefault((run.backbone, run.strategy, labels[run.id]), []).append(run)
    lines = []
    for (backbone, strategy, label), members in members_by_name.items():
        pending = [run for run in members if run.id not in done]
        of_one_run = resources[pending[0].id] if pending else None
        batch = members[0].train.get("batch_size")
        n_done = len(members) - len(pending)
        lines.append(CostLine(backbone, strategy, len(pending), n_done, batch, of_one_run, label))
    jobs = [job for array in arrays for job in array.jobs]
    minutes = [sum(resources[run.id].minutes or 0.0 for run in job) for job in jobs]
    at_once = profile.array_parallelism * max((array.runs_at_once for array in arrays), default=1)
    states = sorted((resources[run.id].state_bytes or 0 for job in jobs for run in job), reverse=True)
    return CostSummary(
        lines=tuple(lines),
        arrays=tuple(arrays),
        gpu_hours=sum(line.gpu_hours or 0.0 for line in lines),
        wall_hours=makespan(minutes, profile.array_parallelism) / 60,
        unknown=sum(line.pending for line in lines if line.resources and line.resources.minutes is None),
        disk_bytes=sum((resources[run.id].disk_bytes or 0 for job in jobs for run in job), start=shared_bytes),
        state_bytes=sum(states[:at_once]),
        cache_bytes=sum(resources[run.id].cache_bytes for job in jobs for run in job),
        tuning=tuning_costs.describe([run for run in runs if run.id not in done], resources),
    )


def makespan(durations: Sequence[float], parallel: int) -> float:
    """Return when the last job ends if `parallel` jobs run at once and each starts, in order, when another ends."""
    ends = [0.0] * min(parallel, len(durations))
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends, default=0.0)


def warnings(costs: CostSummary, profile: ClusterProfile, free_bytes: int | None) -> list[str]:
    """Return what would fail or take longer than expected, one sentence each.

    Args:
        costs: of the plan.
        profile: cluster profile.
        free_bytes: on the disk of the results; None if unknown.
    """
    sentences: list[str] = []
    too_long: list[tuple[float, str]] = []
    for line in costs.lines:
        if line.resources is None:
            continue
        name = line.name
        memory, minutes = line.resources.gpu_memory_bytes or 0, line.resources.minutes or 0.0
        smallest = line.resources.smallest_micro_batch
        if memory > profile.gpu_memory_gb * 2**30 and line.resources.micro_batch in (smallest, None):
            sentences.append(
                f"{name} needs ≈ {gibibytes(memory)} even at a micro-batch of {smallest}, and a GPU of this "
                f"profile has {profile.gpu_memory_gb} GiB: take a larger GPU, or a smaller image_size."
            )
        if minutes > profile.time_limit_min:
            too_long.append((minutes, name))
    if len(too_long) > MAX_LONG_RUN_WARNINGS:
        minutes, longest = max(too_long)
        too_long = [(minutes, f"runs of {len(too_long)} backbones × strategies, the longest of {longest}")]
    sentences += [f"{name}: {_over_limit(minutes, profile)}" for minutes, name in too_long]
    required = costs.disk_bytes + costs.state_bytes
    if free_bytes is not None and required > free_bytes:
        sentences.append(
            f"the results may take {gigabytes(required)} while jobs run, and {gigabytes(free_bytes)} are free: free "
            "some space, choose another disk with --results DIR, or lower array_parallelism."
        )
    return sentences


def _over_limit(minutes: float, profile: ClusterProfile) -> str:
    limit, times = profile.time_limit_min, math.ceil(minutes / profile.time_limit_min) - 1
    text = f"≈ {hours(minutes / 60)} a run, and the time limit is {hours(limit / 60)}: "
    often = "once" if times == 1 else f"{times} times"
    if not profile.requeue:
        return text + f"each stops and must be submitted again about {often}; `bench run` does so while it follows."
    text += f"each will be requeued about {often} and continue from its saved state."
    if times > profile.timeout_retries:
        text += f" That is more than timeout_retries = {profile.timeout_retries} allows; raise it."
    return text


def basis_notes(lines: Sequence[CostLine], profile: ClusterProfile) -> list[tuple[str, str]]:
    """Return titles and explanations of the origins of the estimates in `lines`, and of their micro-batches."""
    details: dict[Basis, dict[str, None]] = {}
    for line in lines:
        if line.resources:
            details.setdefault(line.resources.basis, {})[line.resources.details] = None
    ends: dict[Basis, str] = {
        "measured": f". Time limits are {MEASURED_FACTOR:g} × that.",
        "scaled": f". Time limits are {MEASURED_FACTOR:g} × that.",
        "perf": f": steps and predictions measured by `bench perf`. Time limits are {MEASURED_FACTOR:g} × that.",
        "unknown": ". Jobs of these runs have the profile's time limit.",
    }
    notes = [(BASIS_TITLES[basis], "; ".join(details[basis]) + end) for basis, end in ends.items() if basis in details]
    if "counted" in details:
        text = (
            "forward and backward pass of one image, counted for each strategy without computing them, times images "
            f"and epochs, at {profile.utilisation * 100:.0f} % of the {profile.gpu_tflops:.0f} TFLOP/s that the "
            f"profile states. Post-processing takes {POSTPROCESSING_S * 1000:.0f} ms of a core for each image "
            "validated or tested, beside the predictions where there are cores for it. Reading images, which small "
            "models may wait for, is not included; nor is early stopping, which shortens runs. Time limits are "
            f"{COUNTED_FACTOR:g} × that."
        )
        notes.append((BASIS_TITLES["counted"], text))
    if profile.gpus and any(is_batch_split(line) for line in lines):
        text = (
            f"the largest micro-batch that fits {profile.gpu_memory_gb} GiB. Training finds it by itself, and an "
            "optimiser step uses the whole batch all the same."
        )
        notes.append(("batch", text))
    if recomputed := [line.name for line in lines if line.resources and line.resources.is_recomputed]:
        text = "activations of the encoder's blocks are computed again in the backward pass, for want of memory: "
        notes.append(("↻", text + ", ".join(recomputed) + "."))
    return notes


def is_batch_split(line: CostLine) -> bool:
    """Return whether the GPU can't hold the whole batch at once."""
    micro = line.resources.micro_batch if line.resources else None
    return micro is not None and line.batch_size is not None and micro < line.batch_size
