"""Number formats in which models compute: one place that answers where bfloat16 is used.

On a GPU that has it, training and prediction use it. On a CPU training is always in float32, so that the machine of a
job changes what is learned by rounding only. Predictions use it where a probe on this CPU measured it to be faster
(see `bench.training.bfloat16_probe`); the record's ``inference_dtype`` says what was used.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.training import bfloat16_probe

if TYPE_CHECKING:
    import torch

Autocast = Callable[[], AbstractContextManager[Any]]


def autocast(device: torch.device, *, allowed: bool = True) -> Any:
    """Return the context of training: bfloat16 on CUDA devices that have it; float32 elsewhere.

    Args:
        device: that computes.
        allowed: False computes in float32 everywhere.
    """
    import torch

    usable = allowed and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=usable)


def of_predictions(device: torch.device, *, allowed: bool = True) -> Autocast:
    """Return a function that gives the context of predictions: as training, and on CPUs where bfloat16 is faster."""
    import torch

    if device.type != "cpu":
        return partial(autocast, device, allowed=allowed)
    usable = allowed and bfloat16_probe.pays()
    return partial(torch.autocast, "cpu", torch.bfloat16, enabled=usable)


def name(context: Autocast, device: torch.device) -> str:
    """Return the number format of a context: ``bfloat16`` or ``float32``."""
    import torch

    with context():
        return "bfloat16" if torch.is_autocast_enabled(device.type) else "float32"
