"""Augmented variants of an image whose embeddings can be kept: a turn, a stain variant and a tile of a fixed grid.

There is no scale jitter and no deformation, because each would need an embedding of its own: with
``train.augmentation=cellvit``, blur, noise and stronger stains are part of the stain variants. The tiles are those that
a prediction uses, so variant 0 of a training image is what is predicted where the same image is in the test fold.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from bench.training import tiling
from bench.training.augmentation import Augmentation
from bench.training.data import recoloured
from registry.resampling import Span, sample_labels

if TYPE_CHECKING:
    from torch import Tensor

TURNS = 8
"""Turns and mirrored turns of a square."""


class Variant(NamedTuple):
    """Part of an image as the encoder sees it.

    Attributes:
        turn: quarter turns, plus 4 if mirrored after them; 0 leaves the image as it is.
        stain: number of the stain variant; 0 leaves the colours as they are.
        tile: number of the tile in reading order.
    """

    turn: int = 0
    stain: int = 0
    tile: int = 0


def draw(rng: np.random.Generator, *, tiles: int, stain_variants: int, augment: bool) -> Variant:
    """Draw one of the variants, each with the same probability; without augmentation only the tile."""
    tile = int(rng.integers(tiles))
    return Variant(int(rng.integers(TURNS)), int(rng.integers(stain_variants)), tile) if augment else Variant(tile=tile)


def pixels_digest(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Return a digest of an image, which finds it again in every dataset, subset and folder."""
    width = str(pixels.shape[1]).encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, salt=width, digest_size=16).hexdigest()


def turned(array: np.ndarray, turn: int) -> np.ndarray:
    """Return an image or a label map, turned and mirrored in its first two axes."""
    rotated = np.rot90(array, turn % 4)
    return rotated[:, ::-1] if turn >= 4 else rotated


def turned_back(maps: Float[Tensor, "*c h w"], turn: int) -> Float[Tensor, "*c H W"]:
    """Return maps of a turned image as those of the image: the inverse of `turned`, in the last two axes."""
    import torch

    unmirrored = maps.flip(-1) if turn >= 4 else maps
    return torch.rot90(unmirrored, -(turn % 4), (-2, -1))


def turn_count(tta: bool) -> int:
    """Return in how many orientations an image is predicted: all of them with test-time augmentation."""
    return TURNS if tta else 1


def stained(
    pixels: UInt8[np.ndarray, "h w 3"],
    stain: int,
    *,
    strength: float,
    digest: str,
    augmentation: Augmentation = "basic",
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a stain variant of an image: number 0 is the image, others depend on their number and the image alone."""
    if stain == 0:
        return pixels
    rng = np.random.default_rng([int(digest, 16), stain])
    return recoloured(pixels, rng, strength=strength, augmentation=augmentation)


def tile_count(height: int, width: int, *, image_size: int, scale: float | None) -> int:
    """Return the number of tiles by which a prediction covers an image."""
    size = tiling.scaled_size(height, width, image_size=image_size, scale=scale)
    return len(tiling.tile_corners(*size, image_size=image_size))


def tile_input(
    pixels: UInt8[np.ndarray, "h w 3"], tile: int, *, image_size: int, scale: float | None
) -> Float[Tensor, "3 s s"]:
    """Return a tile of an image as a prediction encodes it."""
    size = tiling.scaled_size(*pixels.shape[:2], image_size=image_size, scale=scale)
    padded = tiling.pad(tiling.resize(tiling.to_tensor(pixels), *size).clamp(0, 1), image_size)[0]
    top, left = tiling.tile_corners(*size, image_size=image_size)[tile]
    return padded[:, top : top + image_size, left : left + image_size]


def tile_labels(
    label_map: Int[np.ndarray, "h w"], tile: int, *, image_size: int, scale: float | None, side: int
) -> Int[np.ndarray, "t t"]:
    """Return the label map of a tile, `side` pixels high and wide; 0 where the tile is padding."""
    scaled = tiling.scaled_size(*label_map.shape, image_size=image_size, scale=scale)
    corner = tiling.tile_corners(*scaled, image_size=image_size)[tile]
    rows, columns = (
        Span(start * length / scaled_length, image_size / side * length / scaled_length, side)
        for start, length, scaled_length in zip(corner, label_map.shape, scaled, strict=True)
    )
    return sample_labels(label_map, rows, columns)
