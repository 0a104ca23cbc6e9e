"""Peaks that a device reaches on this machine: matrix products and copies of memory, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.training.measure import synchronize

if TYPE_CHECKING:
    import torch

SIDES = {"cuda": 8192, "cpu": 2048}
"""Side of the square matrices."""
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**28}
"""Size of what is copied, far beyond every cache."""
ROUNDS = 5


@dataclass(frozen=True)
class Peaks:
    """Peaks of a device.

    Attributes:
        flops_per_s: of a product of two large matrices in `dtype`; a multiplication and an addition are two FLOPs.
        bytes_per_s: of a copy within the device's memory, bytes read and bytes written counted both.
        dtype: of the matrices, ``float32`` or ``bfloat16``.
    """

    flops_per_s: float
    bytes_per_s: float
    dtype: str


def measure_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """Measure both peaks, each as the best of several rounds; takes about a second.

    Args:
        device: the device.
        dtype: in which models compute there.
    """
    import torch

    side, size = SIDES[device.type], COPIED_BYTES[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty(side, side, device=device, dtype=dtype)
    product_s = _best_seconds(lambda: torch.mm(left, right, out=product), device)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _best_seconds(lambda: target.copy_(source), device)
    return Peaks(2 * side**3 / product_s, 2 * size / copy_s, str(dtype).removeprefix("torch."))


def _best_seconds(call: Callable[[], object], device: torch.device) -> float:
    call()
    times = []
    for _ in range(ROUNDS):
        synchronize(device)
        begun = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - begun)
    return min(times)
