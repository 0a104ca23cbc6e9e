"""Numbers of an optimiser step, which a device may still be computing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import DivergedError

if TYPE_CHECKING:
    from torch import Tensor


ADVICE = "try a smaller train.lr or train.encoder_lr"


@dataclass(frozen=True)
class StepResult:
    """Numbers of one optimiser step.

    Attributes:
        loss: mean over the images of the batch.
        terms: of the loss, by name; likewise means.
        grad_norm: norm of the gradient of all parameters before it is clipped.
    """

    loss: float
    terms: dict[str, float]
    grad_norm: float


class PendingResult:
    """Numbers of a step on their way from the device: queueing the next step need not wait for them.

    Args:
        step: number of the step, from 1.
        names: of the terms of the loss.
        numbers: loss, terms and norm of the gradient, on the device.
    """

    def __init__(self, step: int, names: tuple[str, ...], numbers: Tensor) -> None:
        import torch

        self.step, self.names = step, names
        self._numbers, self._copied = numbers, None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def result(self) -> StepResult:
        """Return the numbers; waits until the device has computed them.

        Raises:
            DivergedError: the loss or the gradient is not finite.
        """
        if self._copied is not None:
            self._copied.synchronize()
        loss, *terms, norm = self._numbers.tolist()
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} at step {self.step}; {ADVICE}.")
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient's norm became {norm} at step {self.step}; {ADVICE}.")
        return StepResult(loss, dict(zip(self.names, terms, strict=True)), norm)
