"""Predictions of a model: logits at the image's own resolution, or candidates of a head that prompts the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from bench.errors import DivergedError
from bench.training import tiling, variants
from registry.resampling import pixels_of_tile, resample, weights_in_tile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from registry.contract import Head
    from registry.sam import Sam

Encode = Callable[["Tensor"], "Tensor"]
"""Inputs (b, 3, s, s) to embeddings."""
BATCH_PIXELS = {"cpu": 512**2, "cuda": 2 * 1024**2}
"""Pixels of the tiles that go through the model at once, or a single tile. So few, because predicting must fit where
training did. On a CPU larger batches are no faster."""
Embeddings = Callable[[np.ndarray, int], Encode]
"""Pixels of an image and a turn of it (see `bench.training.variants.turned`; 0 is none) to a function that takes the
place of `Sam.encode` for the tiles of the turned image, in reading order."""


def raw_prediction(
    sam: Sam,
    head: Head,
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    scale: float | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    embeddings: Embeddings | None = None,
    grid: tuple[int, int] | None = None,
    tta: bool = False,
) -> Any:
    """Predict what `head.instances` takes: logits (c, h, w) at the image's resolution, or candidates to choose from.

    Args:
        sam: the model, in eval mode.
        head: its head.
        pixels: the image.
        scale: input pixels per image pixel, as in `bench.grid.Run`.
        autocast: gives the context in which the model computes.
        embeddings: see `Embeddings`; None encodes by the model itself.
        grid: height and width of the logits, over the whole image; None is those of the image.
        tta: take the mean logits of the image in its eight orientations, each turned back (test-time augmentation).
            A head that prompts the model has no logits, and can't.

    Raises:
        DivergedError: the logits are not finite.
    """
    import torch

    device = next(sam.parameters()).device
    height, width = pixels.shape[:2]
    if head.dense:
        n_turns = variants.turn_count(tta)
        total: Any = 0
        for turn in range(n_turns):
            turned, encode = variants.turned(pixels, turn), embeddings and embeddings(pixels, turn)
            size = grid[::-1] if grid and turn % 2 else grid
            options: dict[str, Any] = {"scale": scale, "device": device, "encode": encode, "grid": size}
            with torch.inference_mode(), autocast():
                logits = dense_logits(sam, turned, channels=head.channels, **options)
                total = total + variants.turned_back(logits, turn)
        logits = (total / n_turns).cpu()
        if not bool(torch.isfinite(logits).all()):
            raise DivergedError(
                "the model predicts logits that are not finite; try a smaller train.lr or train.encoder_lr."
            )
        return logits
    assert grid is None and not tta  # of logits; a plan asks for neither
    encode = embeddings and embeddings(pixels, 0)
    scaled = tiling.scaled_size(height, width, image_size=sam.image_size, scale=None)
    resized = tiling.resize(tiling.to_tensor(pixels).to(device), *scaled)
    image = tiling.pad(resized, sam.image_size)[0].clamp(0, 1)
    with torch.inference_mode(), autocast():
        return head.candidates(  # type: ignore[attr-defined]  # prompting heads have it, see contract.Head.dense
            sam if encode is None else _WithEncoder(sam, encode),
            image,
            size=(height, width),
            valid=resized.shape[-2:],
            points_per_side=sam.card.points_per_side(sam.image_size),
        )


@dataclass(frozen=True)
class _WithEncoder:
    """A model whose embeddings come from elsewhere, for heads that prompt the model themselves."""

    sam: Sam
    encode: Encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sam, name)


def dense_logits(
    sam: Sam,
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    channels: Sequence[int],
    scale: float | None,
    device: torch.device,
    encode: Encode | None = None,
    grid: tuple[int, int] | None = None,
) -> Float[Tensor, "c h w"]:
    """Predict logits of mask tokens without prompts at the image's own resolution, blended over overlapping tiles.

    Every tile is encoded once, in reading order; by `sam` unless `encode` is given. A decoder that reads more of the
    tiles than their embeddings (see `registry.sam.Sam.branch`) computes that itself.

    Logits are resampled once, from their own grid to their place in the image: by way of the input's resolution, sharp
    edges would be blurred twice.

    Args:
        sam, pixels, scale: see `raw_prediction`.
        channels: mask tokens that are read.
        device: of the model.
        encode: takes the place of the model's encoder.
        grid: height and width of what is returned, over the whole image; None is those of the image.
    """
    import torch

    size = sam.image_size
    height, width = grid or pixels.shape[:2]
    scaled = tiling.scaled_size(*pixels.shape[:2], image_size=size, scale=scale)
    padded = tiling.pad(tiling.resize(tiling.to_tensor(pixels).to(device), *scaled).clamp(0, 1), size)
    total = torch.zeros(len(channels), height, width, device=device)
    weight = torch.zeros(height, width, device=device)
    places = tiling.tile_corners(*scaled, image_size=size)
    step = max(1, BATCH_PIXELS.get(device.type, 1) // size**2)
    for some in (places[start : start + step] for start in range(0, len(places), step)):
        tiles = torch.cat([padded[..., top : top + size, left : left + size] for top, left in some])
        logits, _ = sam.decode(sam.decoder_input(tiles, embeddings=encode(tiles) if encode else None))
        cells = logits.shape[-1]
        for corner, tile in zip(some, logits[:, list(channels)].float(), strict=True):
            (first_row, rows), (first_column, columns) = (
                pixels_of_tile(start, size=size, length=length, scaled=side, cells=cells)
                for start, length, side in zip(corner, (height, width), scaled, strict=True)
            )
            part = resample(tile, rows, columns)
            if len(places) == 1:
                return part
            weights = (
                torch.from_numpy(weights_in_tile(span, cells=cells, size=size)).to(device) for span in (rows, columns)
            )
            window = torch.minimum(next(weights)[:, None], next(weights))
            place = ..., slice(first_row, first_row + rows.size), slice(first_column, first_column + columns.size)
            total[place] += part * window
            weight[place] += window
    return total / weight
