"""Training steps and predictions that `bench perf` measured, kept in the user's cache for `bench plan`."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.estimate import flops
from bench.estimate.resources import CONTEXT_BYTES
from bench.grid import Run, digest
from bench.slurm.profile import ClusterProfile
from registry import atomic, cache_dir
from registry.errors import CacheDirError

VERSION = 1
"""Version of the way of measuring; a change of it outdates all stored measurements."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepMeasurement:
    """Seconds and memory of one model on one device.

    Attributes:
        device: name of the GPU; of the processor with the number of threads on a CPU.
        kind: of the device.
        train_s_per_image: of a training step, divided by its images; None where nothing is trained.
        predict_s: prediction of one input, without post-processing.
        encode_s: part of it that encodes the input.
        post_processing_s: from a prediction to scores, one core.
        micro_batch: images that go through the model at once in a run; None where nothing is trained, and where the
            steps had fewer images than a batch.
        peak_bytes: largest memory at this micro-batch; None where it is unknown.
        trainable: number of trained parameters.
        measured: date and time, ISO 8601.
        is_recomputed: activations of the encoder's blocks were computed again in the backward pass.
    """

    device: str
    kind: Literal["cpu", "cuda"]
    train_s_per_image: float | None
    predict_s: float
    encode_s: float
    post_processing_s: float
    micro_batch: int | None
    peak_bytes: int | None
    trainable: int
    measured: str
    is_recomputed: bool = False


def keep(run: Run, used_paths: frozenset[str], measurement: StepMeasurement) -> None:
    """Write a measurement; a cache that can't be written is no error, since the numbers were shown.

    Args:
        run: what was measured; its fold, seed, dataset, epochs and rates do not matter.
        used_paths: names of the faster forms that were used.
        measurement: of it.
    """
    try:
        path = _folder() / f"{_name(run, used_paths)}-{_slug(measurement.device)}.json"
        atomic.write_text(path, json.dumps(asdict(measurement), indent=1) + "\n")
    except (OSError, CacheDirError) as error:
        logger.warning("The measurement of %s × %s can't be kept: %s", run.backbone, run.strategy, error)


def find(run: Run, profile: ClusterProfile, used_paths: frozenset[str]) -> StepMeasurement | None:
    """Return the newest measurement of a run's model and settings on the device of a profile, or None.

    With ``gpus = 0`` that is this machine's processor. A profile that names its kind of GPU takes measurements on GPUs
    whose name contains it; one that takes any GPU takes any, but none that had more memory in use than its GPUs have.
    """
    try:
        paths = list(_folder().glob(f"{_name(run, used_paths)}-*.json"))
    except (OSError, CacheDirError):
        return None
    found = [measurement for path in paths if (measurement := _read(path)) and _fits(measurement, profile)]
    return max(found, key=lambda measurement: measurement.measured, default=None)


def cpu_name(threads: int) -> str:
    """Return the name of this machine's processor with a number of threads."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{model}, {threads} thread{'s' if threads > 1 else ''}"


def _fits(measurement: StepMeasurement, profile: ClusterProfile) -> bool:
    if not profile.gpus:
        name = cpu_name(1).rpartition(",")[0]
        return measurement.kind == "cpu" and measurement.device.rpartition(",")[0] == name
    wanted = re.sub(r"[^a-z0-9]", "", (profile.gpu or "").lower())
    if measurement.kind != "cuda" or wanted not in re.sub(r"[^a-z0-9]", "", measurement.device.lower()):
        return False
    return (measurement.peak_bytes or 0) + CONTEXT_BYTES <= profile.gpu_memory_gb * 2**30


def _read(path: Path) -> StepMeasurement | None:
    try:
        return StepMeasurement(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _folder() -> Path:
    return cache_dir.estimates() / "steps"


def _name(run: Run, used_paths: frozenset[str]) -> str:
    """Return a name that is equal for runs whose steps take equally long; it changes with the code of the model."""
    train: dict[str, Any] = {key: run.train.get(key) for key in ("batch_size", "memory", "base_weights")}
    values = {"version": VERSION, "model": flops.model_key(run), "embeddings": run.embeddings, "train": train}
    return f"{run.backbone}-{run.strategy}-{digest({**values, 'fast_paths': sorted(used_paths)})}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
