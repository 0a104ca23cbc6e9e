"""Encoding in training, with the layers below the lowest trained one in inference form and without gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from registry import inference_form
from registry.features import Early, Features
from registry.modules import batchnorm
from registry.modules.pieces import is_changed
from registry.modules.steps import Step

if TYPE_CHECKING:
    from registry.sam import Sam

Encode = Callable[[Any], Tensor | Features]
"""Images, or `EmbeddedImages`, to what `Sam.decode` takes."""


def encoder(sam: Sam) -> Encode:
    """Return a function that computes what `Sam.decoder_input` returns, in training and later, but for rounding.

    Steps of the encoder (see `registry.modules.steps`) before the first one with a trained parameter are computed by a
    copy in inference form, without gradients; all others by the model's own modules, whose parameters get the same
    gradients. The copy stays valid as long as frozen parameters stay as they are and on their device. Without such
    steps, with running statistics that are trained, or in an encoder that does not name its steps, it is
    `Sam.decoder_input` itself.

    Args:
        sam: a model with a strategy, on the device of its training.
    """
    steps = _steps(sam)
    n = _frozen(sam, steps)
    if n == 0:
        return sam.decoder_input
    copied: Any = inference_form.duplicate(sam.image_encoder).eval()
    names = [name for step in steps[:n] for name in step.parts]
    modules = dict(copied.named_modules())
    inference_form.convert(copied, below=[name for name in names if name in modules])
    # The model's checks and scaling of images, around another encoder.
    shell = copy.copy(sam)
    shell.__dict__["_modules"] = {**sam._modules, "image_encoder": _Joined(copied.steps()[:n], steps[n:])}
    return shell.decoder_input


def frozen_parts(sam: Sam) -> tuple[str, ...]:
    """Return the names of the encoder's parts below the lowest trained one; empty where there are none."""
    steps = _steps(sam)
    return tuple(name for step in steps[: _frozen(sam, steps)] for name in step.parts)


class _Joined(nn.Module):
    """An encoder of frozen steps and others, with the interface of `registry.modules.tiny_vit.TinyVitEncoder`."""

    def __init__(self, frozen: Sequence[Step], others: Sequence[Step]) -> None:
        super().__init__()
        self.frozen = tuple(frozen)
        self.others = tuple(others)

    def forward(self, images: Float[Tensor, "b 3 h w"], early: Early | None = None) -> Float[Tensor, "b 256 h/s w/s"]:
        kept: Early = {} if early is None else early
        with torch.no_grad():
            x = self._run(self.frozen, images, images, kept, None)
        return self._run(self.others, x, images, kept, None)

    def early(self, images: Float[Tensor, "b 3 h w"], last: int) -> Early:
        kept: Early = {}
        with torch.no_grad():
            x = self._run(self.frozen, images, images, kept, last)
        if last not in kept:
            self._run(self.others, x, images, kept, last)
        return kept

    @staticmethod
    def _run(steps: Sequence[Step], x: Tensor, images: Tensor, early: Early, last: int | None) -> Tensor:
        for step in steps:
            x = step.run(x)
            if step.is_early:
                stride = images.shape[-1] // x.shape[-1]
                early[stride] = x
                if stride == last:
                    break
        return x


def _steps(sam: Sam) -> list[Step]:
    """Return the steps of the encoder; none where a plug-in has changed or trains what no step computes."""
    encoder: Any = sam.image_encoder
    steps = list(encoder.steps()) if hasattr(encoder, "steps") else []
    inside = tuple(f"{name}." for step in steps for name in step.parts)
    modules = [module for name, module in encoder.named_modules() if not f"{name}.".startswith(inside)]
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    changed = any(map(is_changed, modules)) or not all(f"{name}.".startswith(inside) for name in trained)
    return [] if changed else steps


def _frozen(sam: Sam, steps: Sequence[Step]) -> int:
    """Return the number of first steps that nothing is trained in, and that compute the same in training mode."""
    if batchnorm.has_trained(sam):
        return 0
    for number, step in enumerate(steps):
        for name in step.parts:
            part: Any = sam.image_encoder
            for attribute in name.split("."):
                part = getattr(part, attribute)
            if isinstance(part, Tensor):
                if part.requires_grad:
                    return number
            elif any(p.requires_grad for p in part.parameters()) or _is_random(part) or _is_changed(part):
                return number
    return len(steps)


def _is_changed(module: nn.Module) -> bool:
    """Return True for a module that a hook or another forward function changes, in it or in one inside it."""
    return any(map(is_changed, module.modules()))


def _is_random(module: nn.Module) -> bool:
    """Return True for a module with dropout, also of whole paths, which is random in training mode."""
    rates = (getattr(part, name, 0.0) for part in module.modules() for name in ("p", "drop_prob", "dropout"))
    return any(isinstance(rate, int | float) and rate > 0 for rate in rates)
