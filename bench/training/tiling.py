"""Scale, padding and tiles between an image and the model's square inputs: pure arithmetic and resampling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from torch import Tensor


def scale_for(height: int, width: int, *, image_size: int, scale: float | None) -> float:
    """Return input pixels per image pixel: `scale`, or if None (as in SAM) so that the longer side fits one input."""
    return image_size / max(height, width) if scale is None else scale


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Return the first pixels of evenly spaced tiles of `size` that cover `length`, with at least this overlap."""
    if length <= size:
        return [0]
    count = math.ceil((length - overlap) / (size - overlap))
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def scaled_size(height: int, width: int, *, image_size: int, scale: float | None) -> tuple[int, int]:
    """Return height and width of an image in input pixels."""
    factor = scale_for(height, width, image_size=image_size, scale=scale)
    return max(1, round(height * factor)), max(1, round(width * factor))


def tile_corners(height: int, width: int, *, image_size: int) -> list[tuple[int, int]]:
    """Return top and left of the tiles by which a prediction covers an image, in reading order.

    Args:
        height: of the image in input pixels, as `scaled_size` returns it.
        width: likewise.
        image_size: side of a tile; a side of the image that is smaller is padded to it.
    """
    rows, columns = (tile_starts(length, image_size, image_size // 4) for length in (height, width))
    return [(top, left) for top in rows for left in columns]


def tiles_per_image(height: int, width: int, *, image_size: int, scale: float | None) -> int:
    """Return the number of inputs without overlap that an image fills: its samples in an epoch."""
    factor = scale_for(height, width, image_size=image_size, scale=scale) / image_size
    return max(1, round(height * factor)) * max(1, round(width * factor))


def resize(images: Float[Tensor, "b c h w"], height: int, width: int) -> Float[Tensor, "b c height width"]:
    """Resample bilinearly, antialiased where it shrinks."""
    import torch.nn.functional as F

    if images.shape[-2:] == (height, width):
        return images
    shrinks = height < images.shape[-2] or width < images.shape[-1]
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)


def to_tensor(image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
    """Convert to RGB float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def pad(images: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 H W"]:
    """Pad right and bottom up to `size` with each image's mean colour; larger sides stay."""
    height, width = images.shape[-2:]
    if height >= size and width >= size:
        return images
    mean = images.mean((-2, -1), keepdim=True)
    padded = mean.expand(-1, -1, max(height, size), max(width, size)).clone()
    padded[..., :height, :width] = images
    return padded
