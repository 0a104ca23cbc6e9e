"""Numbers that `bench perf` gives of one backbone × strategy, and what bounds its speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PARTS = ("data", "forward", "backward", "optimizer", "wait")
"""Parts of a training step, see `bench.training.step_times.StepTimes`."""
LARGEST_SHARE = 0.25
"""Share of a step ahead from which data loading, the optimiser or waiting bounds it, and share of a peak below which
neither compute nor memory bandwidth does."""

Bound = Literal["data loading", "host waits", "optimiser", "compute", "memory bandwidth", "small operations"]
BOUND_RULE = (
    f"data loading, host waits or the optimiser, if one of them takes {100 * LARGEST_SHARE:.0f} % of a step or more; "
    "else compute or memory bandwidth, whichever would take longer at its measured peak; small operations, if that is "
    f"less than {100 * LARGEST_SHARE:.0f} % of the time."
)
"""Rule by which `Performance.bound` is chosen, for a note."""


@dataclass(frozen=True)
class Performance:
    """Speed and memory of a model on one device.

    Attributes:
        backbone, strategy: of the model.
        settings: image size, images of a step, and others that matter.
        device: name of the GPU, or of the processor with the number of threads.
        kind: of the device.
        fast_paths: names of the faster forms in use.
        step: seconds of the parts of a training step of `images` images; None where nothing is trained.
        images: of a step; 1 where only predictions were measured.
        predict_s: prediction of one input, without post-processing.
        encode_s: part of it that encodes the input.
        post_processing_s: from a prediction to scores, on one core.
        flops: of the model in a step, counted (of a prediction, where nothing is trained); what is computed again to
            save memory does not count.
        bytes_moved: by the operations of the same.
        peak_flops_per_s, copy_bytes_per_s: measured on this device, see `bench.perf.peaks`.
        dtype: of the matrix products.
        peak_bytes: largest memory of training steps; on a CPU of the whole process; None where it is unknown.
        trainable: number of trained parameters.
        ratios: seconds of a step without a faster form by seconds with it, by its name; ``all`` is the plain form. Of
            a prediction, where nothing is trained.
        prediction_ratios: the same of a prediction.
        busy_because: what else the machine did meanwhile; empty on a quiet machine.
        measured: date and time, ISO 8601.
    """

    backbone: str
    strategy: str
    settings: Mapping[str, Any]
    device: str
    kind: Literal["cpu", "cuda"]
    fast_paths: tuple[str, ...]
    step: Mapping[str, float] | None
    images: int
    predict_s: float
    encode_s: float
    post_processing_s: float
    flops: int
    bytes_moved: int
    peak_flops_per_s: float
    copy_bytes_per_s: float
    dtype: str
    peak_bytes: int | None
    trainable: int
    ratios: Mapping[str, float]
    prediction_ratios: Mapping[str, float]
    busy_because: tuple[str, ...]
    measured: str

    @property
    def seconds(self) -> float:
        """Seconds of a step, or of a prediction where nothing is trained."""
        return sum(self.step.values()) if self.step else self.predict_s

    @property
    def images_per_s(self) -> float:
        """Images trained on, or predicted where nothing is trained, in a second."""
        return self.images / self.seconds

    @property
    def utilisation(self) -> float:
        """Model FLOPs utilisation: the counted FLOPs at the measured peak, as a share of the time."""
        return self.flops / self.peak_flops_per_s / self.seconds

    @property
    def bandwidth_share(self) -> float:
        """Bytes moved at the measured bandwidth, as a share of the time; above 1 where caches keep tensors."""
        return self.bytes_moved / self.copy_bytes_per_s / self.seconds

    @property
    def bound(self) -> Bound:
        """What bounds the speed, by `BOUND_RULE`."""
        parts: Mapping[str, float] = self.step or {}
        names: dict[str, Bound] = {"data": "data loading", "wait": "host waits", "optimizer": "optimiser"}
        largest = max(names, key=lambda part: parts.get(part, 0.0))
        if parts.get(largest, 0.0) >= LARGEST_SHARE * self.seconds:
            return names[largest]
        if max(self.utilisation, self.bandwidth_share) < LARGEST_SHARE:
            return "small operations"
        return "compute" if self.utilisation >= self.bandwidth_share else "memory bandwidth"

    @property
    def sentence(self) -> str:
        """One line that says what bounds the speed, with the numbers that it follows from."""
        parts = ", ".join(f"{part} {100 * self.step[part] / self.seconds:.0f} %" for part in PARTS) if self.step else ""
        peaks = (
            f"the FLOPs at the measured peak take {100 * self.utilisation:.0f} % of the time, the bytes moved at the "
            f"measured bandwidth {100 * self.bandwidth_share:.0f} %"
        )
        return f"bound by {self.bound}: " + (f"{parts}; " if parts else "") + peaks + "."

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, those that follow from others included."""
        derived = ("seconds", "images_per_s", "utilisation", "bandwidth_share", "bound")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}
