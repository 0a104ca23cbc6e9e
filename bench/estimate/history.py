"""What finished runs tell of those to come: records → the need of a run of the same kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.estimate.resources import CONTEXT_BYTES, MEASURED_FACTOR, OUTPUT_BYTES, STATE_BYTES, Resources, workload
from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord

SAME_WORK = ("backbone", "strategy", "head", "weights", "image_size", "scale", "options")
SAME_KIND = (*SAME_WORK, "dataset", "dataset_digest", "n_splits", "validation_fraction", "train")


def kind_of(run: Mapping[str, Any]) -> str:
    """What runs share that differ in fold and seed alone."""
    return _key(run, SAME_KIND)


@dataclass(frozen=True)
class Measurement:
    """One finished run, as far as it tells something.

    Attributes:
        seconds: that it held its GPU, or its CPUs.
        memory_bytes: most GPU memory, CUDA's own share included; 0 for the classical pipeline.
        micro_batch: images that went through the GPU at once.
        trainable: parameters.
        disk_bytes: that it left.
        images: inputs it trained on, over all epochs; without training, images it was tested on.
        gpu: its name.
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
    """Measurements, by kind and by what makes a step of training equally expensive."""

    by_kind: dict[str, list[Measurement]] = field(default_factory=dict)
    by_work: dict[str, list[Measurement]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[RunRecord], *, device: str) -> History:
        """Read ``ok`` records of runs on a device, ``cuda`` or ``cpu``; the classical pipeline's count for both."""
        earlier = cls()
        for record in records:
            one = _measurement(record, device)
            if one is not None:
                earlier.by_kind.setdefault(kind_of(record.run), []).append(one)
                earlier.by_work.setdefault(_key(record.run, SAME_WORK), []).append(one)
        return earlier

    def need(self, run: Run, n_images: int, image_shape: tuple[int, int] | None = None) -> Resources | None:
        """Mean of measured runs of the kind, or of others scaled by the images they handled; None without any."""
        if alike := self.by_kind.get(kind_of(vars(run))):
            return _mean(alike, [one.seconds for one in alike], "measured")
        alike = [one for one in self.by_work.get(_key(vars(run), SAME_WORK), ()) if one.images]
        if not alike:
            return None
        amount, batch = workload(run, n_images, image_shape), int(run.train.get("batch_size", 1))
        images = amount.trained if run.train else amount.tested
        need = _mean(alike, [one.seconds * images / one.images for one in alike], "scaled")
        largest = max(one.micro_batch or 1 for one in alike)
        if need.gpu_memory_bytes and batch > largest:
            need = replace(need, gpu_memory_bytes=need.gpu_memory_bytes * batch // largest, micro_batch=batch)
        return need


def _measurement(record: RunRecord, device: str) -> Measurement | None:
    cost, run = record.cost or {}, record.run
    classical = run["backbone"] == CLASSICAL
    if (record.provenance or {}).get("runs_at_once", 1) > 1:
        return None  # its neighbours took their share of the time
    if record.status != "ok" or not (classical or str(cost.get("device")).startswith(device)):
        return None
    seconds = cost.get("gpu_seconds") or sum(cost.get(k) or 0.0 for k in ("train_seconds", "evaluate_seconds"))
    peaks = [cost[key] for key in ("train_peak_bytes", "inference_peak_bytes") if cost.get(key)]
    memory = max(peaks) + CONTEXT_BYTES if peaks and cost.get("memory_kind") == "cuda" else None
    trained = (cost.get("train_steps") or 0) * run["train"].get("batch_size", 0)
    return Measurement(
        seconds=seconds,
        memory_bytes=0 if classical else memory,
        micro_batch=cost.get("micro_batch"),
        trainable=cost.get("parameters_trainable") or 0,
        disk_bytes=(cost.get("adapter_bytes") or 0) + OUTPUT_BYTES,
        images=trained if run["train"] else int((record.scores or {}).get("n_images") or 0),
        gpu="CPU" if classical else str((record.provenance or {}).get("gpu") or device.upper()),
    )


def _mean(alike: Sequence[Measurement], seconds: Sequence[float], word: str) -> Resources:
    memory = [one.memory_bytes for one in alike if one.memory_bytes is not None]
    n = len(alike)
    where = ", ".join(dict.fromkeys(one.gpu for one in alike))
    others = " of other length or batch" if word == "scaled" else ""
    return Resources(
        minutes=sum(seconds) / n / 60,
        gpu_memory_bytes=max(memory, default=None),
        micro_batch=max((one.micro_batch for one in alike if one.micro_batch), default=None),
        disk_bytes=max(one.disk_bytes for one in alike),
        state_bytes=2 * STATE_BYTES * max(one.trainable for one in alike),
        basis=f"{word}: {n} run{'s' * (n != 1)}{others} on {where}",
        factor=MEASURED_FACTOR,
    )


def _key(run: Mapping[str, Any], names: Sequence[str]) -> str:
    return json.dumps([run.get(name) for name in names], sort_keys=True)
