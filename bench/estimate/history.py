"""Measurements of finished runs, and the resources of planned runs estimated from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.estimate.resources import CONTEXT_BYTES, MEASURED_FACTOR, OUTPUT_BYTES, Resources, state_bytes, workload
from bench.grid import CLASSICAL, Run, identity
from bench.results.measurement import held_seconds
from bench.results.record import RunRecord
from bench.units import plural

SAME_WORK = ("backbone", "strategy", "head", "weights", "image_size", "scale", "options", "embeddings", "tta")
SAME_KIND = (
    *SAME_WORK,
    "dataset",
    "dataset_digest",
    "n_splits",
    "validation_fraction",
    "train",
    "fill_holes",
    "search",
)


def kind_of(run: Mapping[str, Any]) -> str:
    """Return a key that is equal for runs that differ only in fold and seed.

    Args:
        run: plain values, as `Run.as_dict` gives them; those of an old record may lack newer settings.
    """
    return _key(run, SAME_KIND)


@dataclass(frozen=True)
class Measurement:
    """Time, memory and disk space of one finished run.

    Attributes:
        seconds: time on its GPU, or on its CPUs.
        memory_bytes: largest GPU memory, with CUDA's own share; 0 for the classical pipeline, None on a CPU.
        micro_batch: images that were on the GPU at once.
        trainable: number of trained parameters.
        disk_bytes: size of its results.
        images: inputs it was trained on, over all epochs; without training, images it was tested on.
        gpu: name of the GPU, or ``CPU``.
    """

    seconds: float
    memory_bytes: int | None
    micro_batch: int | None
    trainable: int
    disk_bytes: int
    images: int
    gpu: str


@dataclass(frozen=True)
class History:
    """Measurements of finished runs.

    Attributes:
        by_kind: measurements of runs that differ only in fold and seed.
        by_work: measurements of runs whose training steps cost the same.
    """

    by_kind: dict[str, list[Measurement]] = field(default_factory=dict)
    by_work: dict[str, list[Measurement]] = field(default_factory=dict)

    @classmethod
    def from_records(cls, records: Iterable[RunRecord], *, device: str) -> History:
        """Read ``ok`` records of runs on ``cuda`` or ``cpu``; those of the classical pipeline are used for both."""
        history = cls()
        for record in records:
            measurement = _measurement(record, device)
            if measurement is not None:
                history.by_kind.setdefault(kind_of(record.run), []).append(measurement)
                history.by_work.setdefault(_key(record.run, SAME_WORK), []).append(measurement)
        return history

    def resources(self, run: Run, n_images: int, image_shape: tuple[int, int] | None = None) -> Resources | None:
        """Return the mean of measured runs of the same kind, or of others scaled by the number of images; else None."""
        if same_kind := self.by_kind.get(kind_of(run.as_dict())):
            return _mean(run, same_kind, [m.seconds for m in same_kind], "measured")
        same_work = [m for m in self.by_work.get(_key(run.as_dict(), SAME_WORK), ()) if m.images]
        if not same_work:
            return None
        amount, batch = workload(run, n_images, image_shape), int(run.train.get("batch_size", 1))
        images = amount.trained if run.train else amount.tested
        scaled = _mean(run, same_work, [m.seconds * images / m.images for m in same_work], "scaled")
        largest = max(m.micro_batch or 1 for m in same_work)
        if scaled.gpu_memory_bytes and batch > largest:
            memory = scaled.gpu_memory_bytes * batch // largest
            return replace(scaled, gpu_memory_bytes=memory, micro_batch=batch)
        return scaled


def _measurement(record: RunRecord, device: str) -> Measurement | None:
    """Return the measurement in a record; None for a run that failed, shared its GPU or ran on another device."""
    cost, run = record.cost or {}, record.run
    classical = run["backbone"] == CLASSICAL
    shared = (record.provenance or {}).get("runs_at_once", 1) > 1  # other runs on the same GPU slowed it down
    seconds = held_seconds(cost)
    if record.status != "ok" or shared or not seconds or not (classical or str(cost.get("device")).startswith(device)):
        return None
    peaks = [cost[key] for key in ("train_peak_bytes", "inference_peak_bytes") if cost.get(key)]
    memory = max(peaks) + CONTEXT_BYTES if peaks and cost.get("memory_kind") == "cuda" else None
    steps = (cost.get("train_steps") or 0) + (cost.get("refit_steps") or 0)
    trained = steps * run["train"].get("batch_size", 0)
    return Measurement(
        seconds=seconds,
        memory_bytes=0 if classical else memory,
        micro_batch=cost.get("micro_batch"),
        trainable=cost.get("parameters_trainable") or 0,
        disk_bytes=(cost.get("adapter_bytes") or 0) + OUTPUT_BYTES,
        images=trained if run["train"] else int((record.scores or {}).get("n_images") or 0),
        gpu="CPU" if classical else str((record.provenance or {}).get("gpu") or device.upper()),
    )


def _mean(
    run: Run, measurements: Sequence[Measurement], seconds: Sequence[float], basis: Literal["measured", "scaled"]
) -> Resources:
    n = len(measurements)
    memory = [m.memory_bytes for m in measurements if m.memory_bytes is not None]
    gpus = ", ".join(dict.fromkeys(m.gpu for m in measurements))
    difference = " of other length or batch" if basis == "scaled" else ""
    return Resources(
        minutes=sum(seconds) / n / 60,
        gpu_memory_bytes=max(memory, default=None),
        micro_batch=max((m.micro_batch for m in measurements if m.micro_batch), default=None),
        disk_bytes=max(m.disk_bytes for m in measurements),
        state_bytes=state_bytes(run, max(m.trainable for m in measurements)),
        basis=basis,
        details=f"{plural(n, 'run')}{difference} on {gpus}",
        factor=MEASURED_FACTOR,
    )


def _key(run: Mapping[str, Any], names: Sequence[str]) -> str:
    values = identity(run)
    return json.dumps([values.get(name) for name in names], sort_keys=True)
