"""BatchNorm's running statistics: from noise or images, and those that a model does not share with its backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from registry.modules.scaling import min_max

if TYPE_CHECKING:
    from registry.sam import Sam

_OWN = "own_batchnorm_statistics"


def norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorms of a module that keep running statistics, by their names in it."""
    found = {name: child for name, child in module.named_modules() if isinstance(child, _BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.running_mean is not None}


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of a module's BatchNorms by their names in its state dict."""
    return {
        f"{name}.{kind}": getattr(norm, kind)
        for name, norm in norms(module).items()
        for kind in ("running_mean", "running_var")
    }


def mark_own(sam: Sam, *, changing: bool = False) -> None:
    """Note that a model's running statistics are its own, so that they are saved with its trained part.

    Args:
        sam: the model.
        changing: steps of training change them, so that no layer computes the same before and after one.
    """
    sam.__dict__[_OWN] = "changing" if changing else "constant"  # beside the attributes that `nn.Module` manages


def has_own(sam: Sam) -> bool:
    """Return True if a model's running statistics are not its backbone's."""
    return _OWN in sam.__dict__


def has_trained(sam: Sam) -> bool:
    """Return True if steps of training change a model's running statistics."""
    return sam.__dict__.get(_OWN) == "changing"


def own_statistics(sam: Sam) -> Mapping[str, Tensor]:
    """Return a model's `statistics` if they are its own; none if they are its backbone's."""
    return statistics(sam) if has_own(sam) else {}


def calibrate_batchnorm(encoder: nn.Module, *, stride: int = 16, unit_range: bool = False) -> None:
    """Set BatchNorm's running statistics to those of smooth noise.

    With the initial statistics (mean 0, variance 1), a BatchNorm in eval mode would normalise nothing, and a TinyViT
    with random weights hardly learns: in 150 steps on 128-px crops of real tissue its loss fell from 2.8 to 2.65, and
    with statistics of noise to 1.7. The noise is drawn from torch's global generator.

    Args:
        encoder: an image encoder with random weights, on any device; changed in place. Nothing is done without
            BatchNorm or on the meta device.
        stride: pixels of the input per cell of the embedding; the noise fills a grid of 16 × 16 cells.
        unit_range: scale each noise image to [0, 1], for an encoder whose inputs are scaled so.
    """
    device = next(encoder.parameters()).device
    if not norms(encoder) or device.type == "meta":
        return
    noise = torch.randn(4, 3, 32, 32, device=device)
    images = F.interpolate(noise, (16 * stride, 16 * stride), mode="bicubic", align_corners=False)
    average_statistics(encoder, encoder, [min_max(images) if unit_range else images])


def average_statistics(module: nn.Module, forward: Callable[[Tensor], Any], batches: Iterable[Tensor]) -> None:
    """Set the running statistics of a module to the plain average of those of some batches.

    Each batch is normalised by its own statistics, layer after layer.

    Args:
        module: changed in place; its BatchNorms are in eval mode afterwards, other modules in the mode they were in.
        forward: computes the module's outputs from images.
        batches: images, at least one batch.
    """
    found = norms(module).values()
    momenta = [norm.momentum for norm in found]
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
        norm.train()
    # Fused attention rounds in its own way on each processor, and statistics must depend on weights and images only.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for images in batches:
            forward(images)
    for norm, momentum in zip(found, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
