"""Forms in which the encoder's blocks are computed in training: compiled, or without keeping their activations."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.training.compiled_blocks import compiled_blocks
from bench.training.step import Checkpointed, LabelledBatch, Loss
from registry import block_forward

if TYPE_CHECKING:
    from registry.sam import Sam


@dataclass(frozen=True)
class BlockForms:
    """Loss of a training, and the way to save memory in it.

    Attributes:
        loss: see `bench.training.step.Loss`.
        checkpointed: see `bench.training.step.Checkpointed`; None where no block keeps activations.
        is_compiled: the loss began in compiled form.
    """

    loss: Loss
    checkpointed: Checkpointed | None
    is_compiled: bool = False


def block_forms(sam: Sam, loss: Loss, batch: LabelledBatch, *, compiles: bool) -> BlockForms:
    """Return the forms in which a model is trained.

    Args:
        sam: the model, in training mode.
        loss: of `sam`, in plain form.
        batch: real images and targets, for the comparison of the compiled form with the plain one.
        compiles: use compiled blocks, where that works.

    Raises:
        StrategyError: parameters of the encoder are trained, but the card names no blocks that the model has.
    """
    if not any(p.requires_grad for p in sam.image_encoder.parameters()):
        return BlockForms(loss, None)
    compiled = compiled_blocks(sam, loss, batch) if compiles else None

    def checkpointed() -> AbstractContextManager[None]:
        return block_forward.checkpointed(sam, compiled.forwards if compiled else None)

    return BlockForms(compiled.loss if compiled else loss, checkpointed, is_compiled=compiled is not None)
