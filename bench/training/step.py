"""One optimiser step: forward and backward passes in micro-batches, clipping, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import DivergedError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.training.checkpoint import State

Loss = Callable[["Tensor", "Tensor"], "tuple[Tensor, Mapping[str, Tensor]]"]
"""Of images and targets: the mean over the images of each image's own loss, so that micro-batches add up, and the mean
of each of its named terms, which may be none."""


class LabelledBatch(Protocol):
    """Inputs and targets of an optimiser step (see `bench.training.data.Batch`)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...


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


def autocast(device: torch.device) -> Any:
    """bfloat16 autocast on CUDA devices that have it; float32 elsewhere."""
    import torch

    usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=usable)


def step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    batch: LabelledBatch,
    loss: Loss,
    state: State,
    *,
    clip_norm: float,
    reset_peak: Callable[[], None],
) -> StepResult:
    """Do one optimiser step.

    Args:
        optimizer: with the learning rate of this step.
        parameters: those that it holds, in the model's order.
        batch: inputs and targets, on any device.
        loss: see `Loss`.
        state: gives the step's number and the micro-batch, which is halved where it does not fit.
        clip_norm: the gradient's norm is clipped to this.
        reset_peak: called after the micro-batch was halved.

    Raises:
        DivergedError: the loss or the gradient is not finite; the parameters are unchanged.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit.
    """
    import torch

    mean_loss, terms = _gradients(optimizer, batch, loss, state, reset_peak)
    if not math.isfinite(mean_loss):
        raise DivergedError(f"the loss became {mean_loss} at step {state.step + 1}; try a smaller train.lr.")
    norm = float(torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], clip_norm))
    if not math.isfinite(norm):
        raise DivergedError(f"the gradient's norm became {norm} at step {state.step + 1}; try a smaller train.lr.")
    optimizer.step()
    return StepResult(mean_loss, terms, norm)


def _gradients(
    optimizer: torch.optim.Optimizer, batch: LabelledBatch, loss: Loss, state: State, reset_peak: Callable[[], None]
) -> tuple[float, dict[str, float]]:
    """Compute the gradients of a batch; out of memory, halve the micro-batch and compute them again."""
    import torch

    while True:
        try:
            return _accumulate(optimizer, batch, loss, state.micro_batch)
        except torch.OutOfMemoryError:
            if state.micro_batch == 1:
                raise
            state.micro_batch = max(1, state.micro_batch // 2)
        torch.cuda.empty_cache()  # outside the handler, whose traceback still holds the activations
        state.peak_bytes = None
        reset_peak()


def _accumulate(
    optimizer: torch.optim.Optimizer, batch: LabelledBatch, loss: Loss, micro_batch: int
) -> tuple[float, dict[str, float]]:
    """Add up the gradients of the micro-batches; return the mean loss of the batch's images, and that of its terms."""
    import torch

    device = optimizer.param_groups[0]["params"][0].device
    optimizer.zero_grad(set_to_none=True)
    size, mean = len(batch.images), 0.0
    means: dict[str, float] = {}
    for start in range(0, size, micro_batch):
        images = batch.images[start : start + micro_batch].to(device, non_blocking=True)
        targets = batch.targets[start : start + micro_batch].to(device, non_blocking=True)
        with autocast(device):
            own, terms = loss(images, targets)
            share = own * (len(images) / size)
        share.backward()
        # In one transfer, because each of them waits for the GPU.
        own_mean, *own_means = torch.stack([share.detach(), *terms.values()]).tolist()
        mean += own_mean
        for name, value in zip(terms, own_means, strict=True):
            means[name] = means.get(name, 0.0) + value * (len(images) / size)
    return mean, means
