"""Resources of planned runs: from records of finished runs where there are any, otherwise from counted FLOPs."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.estimate import flops, history
from bench.estimate.resources import (
    CONTEXT_BYTES,
    COUNTED_FACTOR,
    OUTPUT_BYTES,
    STATE_BYTES,
    Resources,
    StepCost,
    Workload,
    unknown_resources,
    workload,
)
from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord
from bench.slurm.profile import ClusterProfile

POSTPROCESSING_S = 0.04
"""Seconds from logits to instances and scores, measured: 512 × 512 pixels, 90 to 240 nuclei, one CPU core."""
CLASSICAL_S = 0.4
"""Seconds of the classical pipeline for such an image, measured."""

logger = logging.getLogger(__name__)


def estimate_resources(
    runs: Sequence[Run],
    *,
    records: Iterable[RunRecord],
    profile: ClusterProfile,
    n_images: int,
    image_shape: tuple[int, int] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Resources]:
    """Return the resources of each run, by its id.

    Runs that differ only in fold and seed are of one kind. In this order: the mean of measured runs of the kind; that
    of runs that differ in epochs, batch size or images, scaled by the number of images; counted FLOPs. With
    ``gpus = 0`` in the profile only runs measured on a CPU are used and nothing is counted.

    Args:
        runs: planned runs of one dataset.
        records: records so far; only those with status ``ok`` are used.
        profile: cluster profile, for its GPU.
        n_images: number of images of the dataset.
        image_shape: (h, w) of its images in pixels, for the number of tiles where runs have a `scale`.
        progress: called with the name of the model that is counted next, the number counted, and the number to count.
    """
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(history.kind_of(run.as_dict()), []).append(run)
    measured = history.History.from_records(records, device="cuda" if profile.gpus else "cpu")
    estimates: dict[str, Resources] = {}
    to_count: dict[str, Run] = {}
    for kind, (run, *_) in by_kind.items():
        if known := measured.resources(run, n_images, image_shape):
            estimates[kind] = known
        elif run.backbone == CLASSICAL:
            minutes = workload(run, n_images).post_processed * CLASSICAL_S / 60
            estimates[kind] = Resources(minutes, 0, None, OUTPUT_BYTES, 0, "no_gpu", "", COUNTED_FACTOR)
        elif profile.gpus:
            to_count[kind] = run
        else:
            estimates[kind] = unknown_resources("no run of this kind was measured on a CPU")
    step_costs = _step_costs(to_count, progress)
    for kind, run in to_count.items():
        cost, amount = step_costs[kind], workload(run, n_images, image_shape)
        estimates[kind] = (
            resources_from_step_cost(run, cost, profile, amount)
            if isinstance(cost, StepCost)
            else unknown_resources(cost)
        )
    return {run.id: estimates[kind] for kind, members in by_kind.items() for run in members}


def _step_costs(runs: Mapping[str, Run], progress: Callable[[str, int, int], None]) -> dict[str, StepCost | str]:
    """Return the cost of a step of each run, or why it can't be counted; those in the cache are read first."""
    costs: dict[str, StepCost | str] = {}
    for key, run in runs.items():
        if cached := flops.cached_step_cost(run):
            costs[key] = cached
    missing = {key: run for key, run in runs.items() if key not in costs}
    for done, (key, run) in enumerate(missing.items()):
        name = f"{run.backbone} × {run.strategy}"
        progress(name, done, len(missing))
        try:
            # Two kinds of runs may be one model trained in two ways: the second is in the cache by now.
            costs[key] = flops.cached_step_cost(run) or flops.count_step(run)
        except Exception as error:  # of a backbone, strategy or head of any origin; planning goes on without it
            logger.debug("the FLOPs of %s can't be counted", name, exc_info=True)
            message = textwrap.shorten(str(error), 120, placeholder=" …")
            costs[key] = f"it can't be counted ({type(error).__name__}: {message})"
    return costs


def resources_from_step_cost(run: Run, cost: StepCost, profile: ClusterProfile, amount: Workload) -> Resources:
    """Return the resources of a run whose FLOPs were counted.

    Time: the FLOPs of training and prediction at the profile's peak × utilisation, and post-processing on the CPU,
    while the GPU waits. Memory: at the largest micro-batch that fits the GPU, at least 1.
    """
    total_flops = cost.train_flops * amount.trained + cost.infer_flops * amount.predicted
    seconds = total_flops / (profile.gpu_tflops * 1e12 * profile.utilisation)
    seconds += POSTPROCESSING_S * amount.post_processed
    micro_batch = int(run.train.get("batch_size", 1))
    while micro_batch > 1 and _memory(cost, micro_batch) > profile.gpu_memory_gb * 2**30:
        micro_batch //= 2
    return Resources(
        minutes=seconds / 60,
        gpu_memory_bytes=_memory(cost, micro_batch),
        micro_batch=micro_batch,
        disk_bytes=4 * cost.trainable + OUTPUT_BYTES,
        state_bytes=2 * STATE_BYTES * cost.trainable,
        basis="counted",
        details=f"{profile.utilisation * 100:.0f} % of {profile.gpu_tflops:.0f} TFLOP/s",
        factor=COUNTED_FACTOR,
    )


def _memory(cost: StepCost, micro_batch: int) -> int:
    return cost.peak_bytes(micro_batch) + CONTEXT_BYTES
