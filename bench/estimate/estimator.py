"""What runs need, before any money is spent: measured records where there are any, counted FLOPs otherwise."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.estimate import flops, history
from bench.estimate.flops import StepCost
from bench.estimate.resources import (
    CONTEXT_BYTES,
    COUNTED_FACTOR,
    OUTPUT_BYTES,
    STATE_BYTES,
    Resources,
    Workload,
    unknown_resources,
    workload,
)
from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord
from bench.slurm.profile import ClusterProfile

POSTPROCESSING_S = 0.04
"""From logits to instances and their scores: one 512 × 512 image of 90 to 240 nuclei, one CPU core, measured."""
CLASSICAL_S = 0.4
"""The classical pipeline on such an image, measured."""


def estimate_resources(
    runs: Sequence[Run],
    *,
    records: Iterable[RunRecord],
    profile: ClusterProfile,
    n_images: int,
    image_shape: tuple[int, int] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Resources]:
    """What each run needs, by its id.

    Runs that differ in fold and seed alone are one kind. In this order: the mean of measured runs of the kind; of
    runs that differ in epochs, batch size or images, scaled by the images they handled; FLOPs. With ``gpus = 0``
    only what was measured on a CPU tells anything.

    Args:
        runs: planned, of one dataset.
        records: what was measured so far; only ``ok`` ones count.
        profile: the cluster's GPU.
        n_images: of the dataset.
        image_shape: (h, w) of its images in pixels, needed for the number of tiles where runs have a `scale`.
        progress: told what is counted next, how many kinds are counted, and how many there are to count.
    """
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(history.kind_of(vars(run)), []).append(run)
    earlier = history.History.of(records, device="cuda" if profile.gpus else "cpu")
    found = {key: earlier.need(cell[0], n_images, image_shape) for key, cell in cells.items()}
    not_measured = {key: cell[0] for key, cell in cells.items() if found[key] is None}
    for key, run in not_measured.items():
        if run.backbone == CLASSICAL:
            minutes = workload(run, n_images).post_processed * CLASSICAL_S / 60
            found[key] = Resources(minutes, 0, None, OUTPUT_BYTES, 0, "no GPU", COUNTED_FACTOR)
    if profile.gpus:
        uncounted = {key: run for key, run in not_measured.items() if found[key] is None}
        found |= _from_counts(uncounted, profile, n_images, image_shape, progress)
    nothing = unknown_resources("no run of this kind was measured on a CPU")
    return {run.id: found[key] or nothing for key, cell in cells.items() for run in cell}


def _from_counts(
    cells: Mapping[str, Run],
    profile: ClusterProfile,
    n_images: int,
    shape: tuple[int, int] | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Resources]:
    found: dict[str, Resources] = {}
    missing: dict[str, Run] = {}
    for key, run in cells.items():
        if kept := flops.cached_step_cost(run):
            found[key] = resources_from_step_cost(run, kept, profile, workload(run, n_images, shape))
        else:
            missing[key] = run
    for done, (key, run) in enumerate(missing.items()):
        progress(f"{run.backbone} × {run.strategy}", done, len(missing))
        # Two kinds may be one model trained in two ways: the second is in the cache by now.
        try:
            one = flops.cached_step_cost(run) or flops.count_step(run)
        except Exception as error:  # of a backbone, strategy or head of any origin; a plan goes on without it
            said = textwrap.shorten(str(error), 120, placeholder=" …")
            found[key] = unknown_resources(f"it can't be counted ({type(error).__name__}: {said})")
        else:
            found[key] = resources_from_step_cost(run, one, profile, workload(run, n_images, shape))
    return found


def resources_from_step_cost(run: Run, one: StepCost, profile: ClusterProfile, amount: Workload) -> Resources:
    """Need of a run whose FLOPs were counted.

    Time: FLOPs of training and prediction at the profile's peak × utilisation, and post-processing on the CPU, while
    the GPU waits. Memory: at the largest micro-batch that fits the GPU, at least 1.
    """
    flops = one.train_flops * amount.trained + one.infer_flops * amount.predicted
    seconds = flops / (profile.gpu_tflops * 1e12 * profile.utilisation)
    seconds += POSTPROCESSING_S * amount.post_processed
    micro_batch = int(run.train.get("batch_size", 1))
    while micro_batch > 1 and _memory(one, micro_batch) > profile.gpu_memory_gb * 2**30:
        micro_batch //= 2
    return Resources(
        minutes=seconds / 60,
        gpu_memory_bytes=_memory(one, micro_batch),
        micro_batch=micro_batch,
        disk_bytes=4 * one.trainable + OUTPUT_BYTES,
        state_bytes=2 * STATE_BYTES * one.trainable,
        basis=f"FLOPs at {profile.utilisation * 100:.0f} % of {profile.gpu_tflops:.0f} TFLOP/s",
        factor=COUNTED_FACTOR,
    )


def _memory(one: StepCost, micro_batch: int) -> int:
    return one.peak_bytes(micro_batch) + CONTEXT_BYTES
