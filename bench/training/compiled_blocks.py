"""Blocks of an encoder compiled by `torch.compile`, checked against their plain form before they are used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.training import precision
from bench.training.step import LabelledBatch, Loss
from registry import block_forward, cache_dir
from registry.block_forward import Forward

if TYPE_CHECKING:
    from registry.sam import Sam

logger = logging.getLogger(__name__)

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest difference of loss and gradient from the plain form, relative to their size, by the precision of the step."""

Compile = Callable[[Forward], Forward]


class CompiledBlocks:
    """A loss whose model computes its encoder's blocks in compiled form; the plain form takes over where that breaks.

    Blocks are compiled one by one, since equal ones share their code: a ViT-B compiles two kinds, not twelve blocks.

    Args:
        sam: the model.
        loss: of `sam`; see `bench.training.step.Loss`.
        compile_forward: compiles a forward pass.
    """

    def __init__(self, sam: Sam, loss: Loss, compile_forward: Compile | None = None) -> None:
        compile_ = compile_forward or _compile
        self.forwards: Mapping[str, Forward] = {
            name: compile_(function) for name, function in block_forward.forwards(sam).items()
        }
        self._sam, self._loss = sam, loss

    def loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return what the loss returns. Another size of batch is compiled anew, which may break as well."""
        try:
            with block_forward.replaced(self._sam, self.forwards):
                return self._loss(images, targets)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if not self.forwards:
                raise  # the plain form's own error
            _warn(error)
            self.forwards = {}
            return self._loss(images, targets)

    def equals_plain(self, batch: LabelledBatch) -> bool:
        """Compare loss and gradients of a first image with those of the plain form; warn once where they differ."""
        try:
            loss, gradient = _gradient(self._sam, self.loss, batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers break in every way: no compiler, no header, a bug
            _warn(error)
            return False
        plain_loss, plain_gradient = _gradient(self._sam, self._loss, batch)
        device = self._sam.pixel_mean.device
        dtype = precision.name(partial(precision.autocast, device), device)
        differences = _difference(loss, plain_loss), _difference(gradient, plain_gradient)
        if not max(differences) <= TOLERANCE[dtype]:
            _warn(f"loss and gradient differ by {differences[0]:.1e} and {differences[1]:.1e} of their size")
            return False
        return bool(self.forwards)


def compiled_blocks(sam: Sam, loss: Loss, batch: LabelledBatch) -> CompiledBlocks | None:
    """Return the compiled form of a loss, or None, after one warning, where it can't be had or computes otherwise.

    Code that was compiled once is found again in the user's cache, unless ``TORCHINDUCTOR_CACHE_DIR`` names another.

    Args:
        sam: the model, in training mode.
        loss: of `sam`.
        batch: real images and targets; the first image is used.
    """
    folder = cache_dir.root() / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    compiled = CompiledBlocks(sam, loss)
    return compiled if compiled.equals_plain(batch) else None


def _compile(function: Forward) -> Forward:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 64  # sizes of batches × kinds of blocks
    compiled: Forward = torch.compile(function, dynamic=False)
    return compiled


def _gradient(sam: Sam, loss: Loss, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Return the loss of the first image, and the gradient of all parameters as one vector; leaves no gradient."""
    device = sam.pixel_mean.device
    trained = [p for p in sam.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        with precision.autocast(device):
            value = loss(batch.images[:1].to(device), batch.targets[:1].to(device))[0]
        gradients = torch.autograd.grad(value, trained, allow_unused=True)
    return value.detach(), torch.cat([g.flatten() for g in gradients if g is not None])


def _difference(value: Tensor, plain: Tensor) -> float:
    if value.shape != plain.shape:
        return float("inf")
    return float((value - plain).norm() / plain.norm().clamp(min=1e-12))


def _warn(reason: Any) -> None:
    text = " ".join(str(reason).split())[:300] or type(reason).__name__
    logger.warning("The training step is not compiled, the plain form is used: %s.", text.rstrip("."))
