"""One optimiser step: forward and backward passes in micro-batches, clipping, and the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bench.training.precision import autocast
from bench.training.step_result import PendingResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.training.checkpoint import State
    from registry.features import EmbeddedImages

Loss = Callable[[Any, "Tensor"], "tuple[Tensor, Mapping[str, Tensor]]"]
"""Of images (or embeddings, see `bench.training.embedded_batches.EmbeddedBatch`) and targets: the mean over the images
of each image's own loss, so that micro-batches add up, and the mean of each of its named terms, which may be none."""

Checkpointed = Callable[[], AbstractContextManager[None]]
"""Gives a context in which a forward pass keeps no activations inside the encoder's blocks."""

Mark = Callable[[Literal["batch", "forward", "backward", "optimizer"]], None]
"""Called when a part of a step is queued: its batch is at hand, a forward pass, a backward pass, the update."""


class LabelledBatch(Protocol):
    """Inputs and targets of an optimiser step (see `bench.training.data.Batch`)."""

    @property
    def images(self) -> Tensor | EmbeddedImages: ...
    @property
    def targets(self) -> Tensor: ...


def step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    batch: LabelledBatch,
    loss: Loss,
    state: State,
    *,
    clip_norm: float,
    reset_peak: Callable[[], None] = lambda: None,
    checkpointed: Checkpointed | None = None,
    is_late: bool = False,
    is_divisible: bool = True,
    mark: Mark = lambda _: None,
) -> PendingResult:
    """Do one optimiser step.

    Args:
        optimizer: with the learning rate of this step.
        parameters: those that it holds, in the model's order.
        batch: inputs and targets, on any device.
        loss: see `Loss`.
        state: gives the step's number, whether activations are computed again, and the micro-batch. Where a step does
            not fit, the micro-batch is halved; where one image does not fit, activations are computed again from then
            on, if `checkpointed` is given.
        clip_norm: the gradient's norm is clipped to this.
        reset_peak: called after a step that did not fit.
        checkpointed: see `Checkpointed`; None where activations are always kept.
        is_late: do not wait for the numbers of the step before the parameters are changed. The optimiser itself, which
            must be a fused one, then leaves them as they are, in this and every later step, where the loss or the
            gradient is not finite; the result says so once it is read.
        is_divisible: False where the loss of an image depends on the others of its batch, which is then never divided
            into micro-batches.
        mark: see `Mark`.

    Returns:
        The numbers of the step, read already unless `is_late`.

    Raises:
        DivergedError: the loss or the gradient is not finite; the parameters are unchanged.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit, or a batch that is not divisible.
    """
    import torch

    mark("batch")
    numbers, names = _gradients(optimizer, batch, loss, state, reset_peak, checkpointed, mark, is_divisible)
    norm = torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], clip_norm)
    numbers = torch.cat([numbers, norm.detach().to(numbers)[None]])
    pending = PendingResult(state.step + 1, names, numbers)
    if is_late:
        _keep_if_not_finite(optimizer, numbers[[0, -1]])
    else:
        pending.result()
    optimizer.step()
    mark("optimizer")
    return pending


def _keep_if_not_finite(optimizer: Any, loss_and_norm: Tensor) -> None:
    """Let a fused optimiser change nothing, now and later, if a number is not finite, without waiting for the device.

    The attribute is the one by which `torch.amp.GradScaler` lets a fused optimiser skip a step.
    """
    import torch

    broken = (~torch.isfinite(loss_and_norm)).any().float()
    earlier = getattr(optimizer, "found_inf", None)
    optimizer.found_inf = broken if earlier is None else torch.maximum(earlier, broken)


def _gradients(
    optimizer: torch.optim.Optimizer,
    batch: LabelledBatch,
    loss: Loss,
    state: State,
    reset_peak: Callable[[], None],
    checkpointed: Checkpointed | None,
    mark: Mark,
    is_divisible: bool,
) -> tuple[Tensor, tuple[str, ...]]:
    """Compute the gradients of a batch; out of memory, save memory and compute them again."""
    import torch

    while True:
        context = checkpointed if checkpointed and state.checkpointed else nullcontext
        try:
            return _accumulate(optimizer, batch, loss, state.micro_batch, context, mark)
        except torch.OutOfMemoryError as error:
            # Smaller micro-batches cost no FLOPs; activations computed again cost a forward pass.
            if state.micro_batch > 1 and is_divisible:
                state.micro_batch //= 2
            elif checkpointed and not state.checkpointed:
                state.checkpointed = True
            elif state.micro_batch > 1:
                raise torch.OutOfMemoryError(
                    f"out of memory with all {state.micro_batch} images of a batch, which train.batchnorm=trained does "
                    "not divide into micro-batches, because it computes BatchNorm's statistics over all of them: "
                    f"choose train.batchnorm=settled, or a smaller train.batch_size. ({error})"
                ) from error
            else:
                raise
        torch.cuda.empty_cache()  # outside the handler, whose traceback still holds the activations
        state.peak_bytes = None
        reset_peak()


def _accumulate(
    optimizer: torch.optim.Optimizer,
    batch: LabelledBatch,
    loss: Loss,
    micro_batch: int,
    context: Checkpointed,
    mark: Mark,
) -> tuple[Tensor, tuple[str, ...]]:
    """Add up the gradients of the micro-batches; return the mean loss and its terms, on the device, and their names."""
    import torch

    device = optimizer.param_groups[0]["params"][0].device
    optimizer.zero_grad(set_to_none=True)
    size = len(batch.images)
    means: dict[str, Tensor] = {}
    for start in range(0, size, micro_batch):
        images = batch.images[start : start + micro_batch].to(device, non_blocking=True)
        targets = batch.targets[start : start + micro_batch].to(device, non_blocking=True)
        share = len(images) / size
        with autocast(device), context():
            own, terms = loss(images, targets)
            part = own * share
        mark("forward")
        part.backward()
        mark("backward")
        for name, value in {"": part.detach(), **{name: term.detach() * share for name, term in terms.items()}}.items():
            means[name] = means[name] + value if name in means else value
    return torch.stack([value.float() for value in means.values()]), tuple(means)[1:]
