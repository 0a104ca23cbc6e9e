"""Predictions of a model: logits at the image's own resolution, or candidates of a head that prompts the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from bench.errors import DivergedError
from bench.training import tiling

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
Embeddings = Callable[[np.ndarray], Encode]
"""Pixels of an image to a function that takes the place of `Sam.encode` for its tiles, in reading order."""


def raw_prediction(
    sam: Sam,
    head: Head,
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    scale: float | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    embeddings: Embeddings | None = None,
) -> Any:
    """Predict what `head.instances` takes: logits (c, h, w) at the image's resolution, or candidates to choose from.

    Args:
        sam: the model, in eval mode.
        head: its head.
        pixels: the image.
        scale: input pixels per image pixel, as in `bench.grid.Run`.
        autocast: gives the context in which the model computes.
        embeddings: see `Embeddings`; None encodes by the model itself.

    Raises:
        DivergedError: the logits are not finite.
    """
    import torch

    device = next(sam.parameters()).device
    height, width = pixels.shape[:2]
    encode = sam.encode if embeddings is None else embeddings(pixels)
    if head.dense:
        with torch.inference_mode(), autocast():
            logits = dense_logits(sam, pixels, channels=head.channels, scale=scale, device=device, encode=encode).cpu()
        if not bool(torch.isfinite(logits).all()):
            raise DivergedError("the model predicts logits that are not finite; try a smaller train.lr.")
        return logits
    scaled = tiling.scaled_size(height, width, image_size=sam.image_size, scale=None)
    resized = tiling.resize(tiling.to_tensor(pixels).to(device), *scaled)
    image = tiling.pad(resized, sam.image_size)[0].clamp(0, 1)
    with torch.inference_mode(), autocast():
        return head.candidates(  # type: ignore[attr-defined]  # prompting heads have it, see contract.Head.dense
            sam if embeddings is None else _WithEncoder(sam, encode),
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
) -> Float[Tensor, "c h w"]:
    """Predict logits of mask tokens without prompts at the image's own resolution, blended over overlapping tiles.

    Every tile is encoded once, in reading order; by `sam` unless `encode` is given.
    """
    import torch

    encode = encode or sam.encode
    size = sam.image_size
    height, width = pixels.shape[:2]
    scaled_height, scaled_width = tiling.scaled_size(height, width, image_size=size, scale=scale)
    resized = tiling.resize(tiling.to_tensor(pixels).to(device), scaled_height, scaled_width).clamp(0, 1)
    padded = tiling.pad(resized, size)
    total = torch.zeros(len(channels), *padded.shape[-2:], device=device)
    weight = torch.zeros(padded.shape[-2:], device=device)
    # A tile has more weight away from its edges, where it has more context; nowhere 0, so corners are covered too.
    ramp = torch.minimum(torch.arange(1, size + 1, device=device), torch.arange(size, 0, -1, device=device))
    window = torch.minimum(ramp[:, None], ramp[None, :]).clamp(max=size // 4).float()
    places = tiling.tile_corners(scaled_height, scaled_width, image_size=size)
    step = max(1, BATCH_PIXELS.get(device.type, 1) // size**2)
    for some in (places[start : start + step] for start in range(0, len(places), step)):
        tiles = torch.cat([padded[..., top : top + size, left : left + size] for top, left in some])
        logits, _ = sam.decode(encode(tiles))
        upsampled = tiling.resize(logits[:, list(channels)].float(), size, size)
        for (top, left), tile in zip(some, upsampled, strict=True):
            total[:, top : top + size, left : left + size] += tile * window
            weight[top : top + size, left : left + size] += window
    blended = (total / weight)[None, :, :scaled_height, :scaled_width]
    return tiling.resize(blended, height, width)[0]
