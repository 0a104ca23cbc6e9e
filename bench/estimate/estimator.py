"""Resources of planned runs: from records, else from steps that `bench perf` measured, else from counted FLOPs."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bench import fast_paths
from bench.estimate import flops, history, shared_embeddings, step_measurements, tuning_costs
from bench.estimate.resources import (
    CONTEXT_BYTES,
    COUNTED_FACTOR,
    EMBEDDING_BYTES,
    MEASURED_FACTOR,
    OUTPUT_BYTES,
    Resources,
    StepCost,
    Workload,
    state_bytes,
    unknown_resources,
    workload,
)
from bench.estimate.step_measurements import StepMeasurement
from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord
from bench.slurm.profile import ClusterProfile
from bench.training import side_processes
from registry import backbones, strategies

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
    used_paths: frozenset[str] = fast_paths.DEFAULT,
) -> dict[str, Resources]:
    """Return the resources of each run, by its id.

    Runs that differ only in fold and seed are of one kind. In this order: the mean of measured runs of the kind; that
    of runs that differ in epochs, batch size or images, scaled by the number of images; steps of the same model that
    `bench perf` measured on the profile's GPU; counted FLOPs. With ``gpus = 0`` in the profile only what was measured
    on a CPU is used (by `bench perf`: on this one), and nothing is counted.

    Args:
        runs: planned runs of one dataset.
        records: records so far; only those with status ``ok`` are used.
        profile: cluster profile, for its GPU.
        n_images: number of images of the dataset.
        image_shape: (h, w) of its images in pixels, for the number of tiles where runs have a `scale`.
        progress: called with the name of the model that is counted next, the number counted, and the number to count.
        used_paths: names of the faster forms that runs use (see `bench.fast_paths`).
    """
    records = list(records)
    tunings = tuning_costs.of_runs(runs, records)
    trials = {tuning.trial.id: tuning.trial for tuning in tunings.values()}
    by_kind: dict[str, list[Run]] = {}
    for run in (*runs, *trials.values()):
        by_kind.setdefault(history.kind_of(run.as_dict()), []).append(run)
    measured = history.History.from_records(records, device="cuda" if profile.gpus else "cpu")
    estimates: dict[str, Resources] = {}
    to_count: dict[str, Run] = {}
    amounts: dict[str, Workload] = {}
    shared = shared_embeddings.sharing(runs)
    for kind, (run, *_) in by_kind.items():
        amounts[kind] = workload(run, n_images, image_shape, shared=shared(run))
        if known := measured.resources(run, n_images, image_shape):
            estimates[kind] = replace(known, cache_bytes=_cache_bytes(run, amounts[kind]))
        elif run.backbone == CLASSICAL:
            minutes = amounts[kind].post_processed * CLASSICAL_S / 60
            estimates[kind] = Resources(minutes, 0, None, OUTPUT_BYTES, 0, "no_gpu", "", COUNTED_FACTOR)
        elif steps := step_measurements.find(run, profile, used_paths):
            estimates[kind] = resources_from_measured_steps(run, steps, profile, amounts[kind], used_paths)
        elif profile.gpus:
            to_count[kind] = run
        else:
            estimates[kind] = unknown_resources("no run of this kind was measured on a CPU")
    counted = _step_costs(to_count, progress, is_recomputed=lambda run: _memory_setting(run) == "checkpoint")
    again = {kind: run for kind, run in to_count.items() if _needs_recomputing(run, counted[kind], profile)}
    recomputed = _step_costs(again, progress, is_recomputed=lambda _: True)
    for kind, run in to_count.items():
        cost = recomputed.get(kind, counted[kind])
        is_recomputed = kind in again or _memory_setting(run) == "checkpoint"
        estimates[kind] = (
            resources_from_step_cost(run, cost, profile, amounts[kind], used_paths, is_recomputed=is_recomputed)
            if isinstance(cost, StepCost)
            else unknown_resources(cost)
        )
    of_all = {run.id: estimates[kind] for kind, members in by_kind.items() for run in members}
    tuned = {
        run_id: tuning_costs.with_trials(of_all[run_id], of_all[tuning.trial.id], tuning)
        for run_id, tuning in tunings.items()
    }
    return {run.id: tuned.get(run.id, of_all[run.id]) for run in runs}


def _memory_setting(run: Run) -> str:
    """Return ``train.memory``; ``full`` where the encoder is not trained, since there is nothing to compute again."""
    frozen = not run.train or strategies.get(run.strategy).freezes_encoder
    return "full" if frozen else str(run.train.get("memory", "full"))


def _needs_recomputing(run: Run, cost: StepCost | str, profile: ClusterProfile) -> bool:
    """Return True if not even the smallest micro-batch fits with all activations, and they may be computed again.

    Smaller micro-batches come first, as they do in training: they cost no FLOPs.
    """
    if not isinstance(cost, StepCost) or _memory_setting(run) != "auto":
        return False
    return _memory(run, cost, _smallest_micro_batch(run)) > profile.gpu_memory_gb * 2**30


def _smallest_micro_batch(run: Run) -> int:
    return int(run.train.get("batch_size", 1)) if run.train.get("batchnorm") == "trained" else 1


def _step_costs(
    runs: Mapping[str, Run], progress: Callable[[str, int, int], None], *, is_recomputed: Callable[[Run], bool]
) -> dict[str, StepCost | str]:
    """Return the cost of a step of each run, or why it can't be counted; those in the cache are read first."""
    costs: dict[str, StepCost | str] = {}
    for key, run in runs.items():
        if cached := flops.cached_step_cost(run, recomputed=is_recomputed(run)):
            costs[key] = cached
    missing = {key: run for key, run in runs.items() if key not in costs}
    for done, (key, run) in enumerate(missing.items()):
        name, again = f"{run.backbone} × {run.strategy}", is_recomputed(run)
        progress(name, done, len(missing))
        try:
            # Two kinds of runs may be one model trained in two ways: the second is in the cache by now.
            costs[key] = flops.cached_step_cost(run, recomputed=again) or flops.count_step(run, recomputed=again)
        except Exception as error:  # of a backbone, strategy or head of any origin; planning goes on without it
            logger.debug("the FLOPs of %s can't be counted", name, exc_info=True)
            message = textwrap.shorten(str(error), 120, placeholder=" …")
            costs[key] = f"it can't be counted ({type(error).__name__}: {message})"
    return costs


def resources_from_step_cost(
    run: Run,
    cost: StepCost,
    profile: ClusterProfile,
    amount: Workload,
    used_paths: frozenset[str] = fast_paths.DEFAULT,
    *,
    is_recomputed: bool = False,
) -> Resources:
    """Return the resources of a run whose FLOPs were counted.

    Time: the FLOPs of training and prediction at the profile's peak × utilisation, and post-processing on the CPU
    (see `_with_post_processing`). Memory: at the largest micro-batch that fits the GPU, at least 1.

    Args:
        run: the run.
        cost: of its step, counted in the form of `is_recomputed`.
        profile: cluster profile.
        amount: images that it processes.
        used_paths: names of the faster forms that it uses.
        is_recomputed: activations of the encoder's blocks are computed again.
    """
    given = cost.encoder_flops if run.embeddings == "cached" else 0
    speed = profile.gpu_tflops * 1e12 * profile.utilisation
    training_s = (cost.train_flops - given) * amount.trained / speed
    predicting_s = ((cost.infer_flops - given) * amount.predicted + cost.encoder_flops * amount.encoded) / speed
    seconds = training_s + _with_post_processing(
        predicting_s, POSTPROCESSING_S * amount.post_processed, profile, used_paths
    )
    micro_batch, smallest = int(run.train.get("batch_size", 1)), _smallest_micro_batch(run)
    if is_recomputed and _memory_setting(run) == "auto":
        micro_batch = smallest  # a larger one did not fit before activations were computed again
    while micro_batch > smallest and _memory(run, cost, micro_batch) > profile.gpu_memory_gb * 2**30:
        micro_batch //= 2
    return Resources(
        minutes=seconds / 60,
        gpu_memory_bytes=_memory(run, cost, micro_batch),
        micro_batch=micro_batch,
        disk_bytes=4 * cost.trainable + OUTPUT_BYTES,
        state_bytes=state_bytes(run, cost.trainable),
        smallest_micro_batch=smallest,
        basis="counted",
        details=f"{profile.utilisation * 100:.0f} % of {profile.gpu_tflops:.0f} TFLOP/s",
        factor=COUNTED_FACTOR,
        is_recomputed=is_recomputed,
        cache_bytes=_cache_bytes(run, amount),
    )


def resources_from_measured_steps(
    run: Run, steps: StepMeasurement, profile: ClusterProfile, amount: Workload, used_paths: frozenset[str]
) -> Resources:
    """Return the resources of a run whose steps and predictions `bench perf` measured.

    Args:
        run: the run.
        steps: of its model.
        profile: cluster profile.
        amount: images that it processes.
        used_paths: names of the faster forms that it uses.
    """
    training_s = (steps.train_s_per_image or 0.0) * amount.trained
    predicting_s = steps.predict_s * amount.predicted + steps.encode_s * amount.encoded
    post_s = steps.post_processing_s * amount.post_processed
    seconds = training_s + _with_post_processing(predicting_s, post_s, profile, used_paths)
    on_gpu = steps.kind == "cuda"
    return Resources(
        minutes=seconds / 60,
        gpu_memory_bytes=steps.peak_bytes + CONTEXT_BYTES if on_gpu and steps.peak_bytes else None,
        micro_batch=steps.micro_batch,
        disk_bytes=4 * steps.trainable + OUTPUT_BYTES,
        state_bytes=state_bytes(run, steps.trainable),
        basis="perf",
        details=steps.device,
        factor=MEASURED_FACTOR,
        is_recomputed=steps.is_recomputed,
        cache_bytes=_cache_bytes(run, amount),
    )


def _with_post_processing(
    predicting_s: float, post_processing_s: float, profile: ClusterProfile, used_paths: frozenset[str]
) -> float:
    """Return the seconds of predictions with their post-processing: one after the other, or side by side.

    Side by side (fast path ``overlap``) the processes share the work, and the slower of the two decides. Without a GPU
    predictions take all cores.
    """
    processes = min(side_processes.MOST, profile.cpus_per_gpu - 1) if profile.gpus and "overlap" in used_paths else 0
    if processes < 1:
        return predicting_s + post_processing_s
    return max(predicting_s, post_processing_s / processes)


def _memory(run: Run, cost: StepCost, micro_batch: int) -> int:
    weights, is_cached = run.train.get("base_weights", "full"), run.embeddings == "cached"
    averaged = bool(run.train.get("ema"))
    peak = cost.peak_bytes(micro_batch, cached=is_cached, base_weights=weights, averaged=averaged)
    return peak + CONTEXT_BYTES


def _cache_bytes(run: Run, amount: Workload) -> int:
    """Return the size of a run's share of the cached embeddings (256 channels)."""
    if not amount.encoded:
        return 0
    side = run.image_size // backbones.card(run.backbone).stride
    return round(amount.encoded * 256 * side**2 * EMBEDDING_BYTES)
