"""Loss terms of dense heads, one value per image. Targets may be soft: pooled to a coarser grid."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def check_shapes(logits: Tensor, targets: Tensor, channels: int) -> None:
    """Raise `ValueError` unless both are (b, channels, h, w) of one size."""
    if logits.ndim != 4 or logits.shape[1] != channels or logits.shape != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} given; this head's loss takes "
            f"two tensors of shape (b, {channels}, h, w). Pool the targets to the logits' size."
        )


def mean_total(terms: Mapping[str, Float[Tensor, " b"]]) -> Float[Tensor, ""]:
    """Return the loss of a batch: the mean over its images of the sum of their terms."""
    return reduce(add, terms.values()).mean()


def bce(logits: Float[Tensor, "b h w"], targets: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return the binary cross-entropy, mean over pixels."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=(1, 2))


def dice_loss(logits: Float[Tensor, "b h w"], targets: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return 1 − soft Dice (Milletari et al., 3DV 2016), smoothed by one pixel so that an empty image can reach 0."""
    p = torch.sigmoid(logits)
    overlap = (p * targets).sum(dim=(1, 2))
    return 1 - (2 * overlap + 1) / (p.sum(dim=(1, 2)) + targets.sum(dim=(1, 2)) + 1)


def balanced_mse(
    logits: Float[Tensor, "b h w"], targets: Float[Tensor, "b h w"], foreground: Float[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Return the squared error of the sigmoid: mean over foreground plus mean over background.

    Two means, because nuclei cover a tenth of a sparse image, where one mean would favour an all-zero map.
    """
    error = (torch.sigmoid(logits) - targets) ** 2
    background = 1 - foreground
    inside = (error * foreground).sum(dim=(1, 2)) / foreground.sum(dim=(1, 2)).clamp(min=1)
    outside = (error * background).sum(dim=(1, 2)) / background.sum(dim=(1, 2)).clamp(min=1)
    return inside + outside
