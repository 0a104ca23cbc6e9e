"""Training steps and predictions of one model on one device, each in its fast and its plain forms, in turns."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

import torch

from bench import metrics
from bench.estimate import flops, step_measurements
from bench.perf.peaks import Peaks
from bench.perf.performance import Performance
from bench.perf.prediction import image_predictions
from bench.perf.steps import Steps, training_steps
from bench.perf.subject import Subject
from bench.perf.turns import seconds_of
from bench.results.measurement import LARGEST_SHARE, percent
from bench.training import fit
from bench.training.context import RunContext
from bench.training.load import Interval, n_cores
from registry import heads

LIMIT_S = 30.0
"""Time for the turns of one kind; at least two are made."""


def trial(
    subject: Subject,
    *,
    device: torch.device,
    peaks: Peaks,
    used_paths: frozenset[str],
    loader_workers: int = 0,
    rounds: int = 5,
    limit_s: float = LIMIT_S,
    busy_because: tuple[str, ...] = (),
) -> Performance:
    """Measure a model.

    Cached embeddings are held in memory here: reading them from a disk is not measured.

    Args:
        subject: what is measured.
        device: the device.
        peaks: of it.
        used_paths: names of the faster forms in use (see `bench.fast_paths`).
        loader_workers: processes that prepare training samples.
        rounds: turns of each form at most; the best counts.
        limit_s: seconds after which no further turn begins, though every form has two.
        busy_because: what else the machine did already before.

    Raises:
        torch.OutOfMemoryError: even a single image does not fit.
    """
    run = subject.run
    context = RunContext(results=Path(), device=str(device), loader_workers=loader_workers, fast_paths=used_paths)
    sam = fit.build(run, context)
    interval, workers_s = Interval(), _ended_children_s()
    predicting = image_predictions(subject, sam, context, rounds=rounds, limit_s=limit_s)
    steps = training_steps(subject, sam, context, rounds=rounds, limit_s=limit_s) if run.train else Steps()
    busy_because = busy_because or _disturbance(interval, _ended_children_s() - workers_s)
    cost = flops.cached_step_cost(run) or flops.count_step(run)
    counted = cost.train_flops * subject.images if run.train else cost.infer_flops
    if run.embeddings == "cached":
        counted -= cost.encoder_flops * (subject.images if run.train else 1)
    return Performance(
        backbone=run.backbone,
        strategy=run.strategy,
        settings=_settings(subject, steps),
        device=_device_name(device),
        kind="cuda" if device.type == "cuda" else "cpu",
        fast_paths=tuple(sorted(used_paths)),
        step=steps.best,
        images=subject.images if run.train else 1,
        predict_s=predicting.seconds,
        encode_s=predicting.encode_s,
        post_processing_s=_post_processing_s(subject, predicting.raw),
        flops=counted,
        bytes_moved=steps.bytes_moved if run.train else predicting.bytes_moved,
        peak_flops_per_s=peaks.flops_per_s,
        copy_bytes_per_s=peaks.bytes_per_s,
        dtype=peaks.dtype,
        peak_bytes=steps.peak_bytes if run.train else predicting.peak_bytes,
        trainable=cost.trainable,
        ratios=steps.ratios if run.train else predicting.ratios,
        prediction_ratios=predicting.ratios,
        busy_because=busy_because,
        measured=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _disturbance(interval: Interval, workers_s: float) -> tuple[str, ...]:
    """Return what other processes did in an interval; those that prepared samples are this one's own."""
    others = interval.load()["others"]
    if others is None:
        return ()
    others -= workers_s / ((time.perf_counter() - interval.wall) * n_cores())
    return (f"other processes took {percent(others)} of the cores' time",) if others > LARGEST_SHARE else ()


def _ended_children_s() -> float:
    """Return the CPU seconds of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def as_step_measurement(subject: Subject, measured: Performance) -> step_measurements.StepMeasurement:
    """Return what `bench plan` needs of a measurement: the optimiser's share is that of a whole batch."""
    per_image, micro_batch, is_whole = None, None, True
    if measured.step:
        batch, micro_batch = int(subject.run.train["batch_size"]), int(measured.settings["micro_batch"])
        once = measured.step["optimizer"]
        per_image = (measured.seconds - once) / measured.images + once / batch
        is_whole = measured.images >= batch or micro_batch < measured.images  # else a run has more on the device
    return step_measurements.StepMeasurement(
        device=measured.device,
        kind=measured.kind,
        train_s_per_image=per_image,
        predict_s=measured.predict_s,
        encode_s=measured.encode_s,
        post_processing_s=measured.post_processing_s,
        micro_batch=micro_batch if is_whole else None,
        peak_bytes=measured.peak_bytes if is_whole else None,
        trainable=measured.trainable,
        measured=measured.measured,
        is_recomputed=bool(measured.settings.get("recomputed")),
    )


def _post_processing_s(subject: Subject, raw: Any) -> float:
    """Return the seconds of turning a prediction into instances and scores, on one core.

    A head that reads logits gets nearly perfect ones, as a trained model predicts them: the model's weights are random,
    and noise takes longer. A head that prompts the model gets what was predicted.
    """
    head = heads.get(subject.run.head)
    (image,) = subject.parts.validation
    if head.dense:
        raw = torch.from_numpy(8 * head.targets(image.label_map) - 4)

    def call() -> None:
        metrics.score(image.label_map, head.instances(raw, **head.defaults), aji_plus=False)

    return min(seconds_of(call) for _ in range(3))


def _settings(subject: Subject, steps: Steps) -> dict[str, Any]:
    run = subject.run
    settings: dict[str, Any] = {"image_size": run.image_size, "head": run.head, "embeddings": run.embeddings}
    settings |= {"options": dict(run.options)}
    if run.train:
        settings |= {"images": subject.images, "micro_batch": steps.micro_batch, "recomputed": steps.is_recomputed}
    return settings


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return step_measurements.cpu_name(torch.get_num_threads())
