"""Scaling of images by their own values."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def min_max(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Scale each image to [0, 1] by its own minimum and maximum over all pixels and channels; a constant one to 0.

    As in bowang-lab/MedSAM, branch LiteMedSAM, whose script for inference bounds the range at 1e-8 from below.
    """
    darkest, brightest = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - darkest) / (brightest - darkest).clamp(min=1e-8)
