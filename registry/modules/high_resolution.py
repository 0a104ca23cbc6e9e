"""High-resolution branch of a mask decoder: what the embedding lost, added to the map that mask tokens multiply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from registry.sam import Sam

NAME = "high_resolution"
"""Name of the branch in the mask decoder, by which `registry.sam.Sam.branch` finds it."""
WIDTH = 32
"""Channels of the stem, as many as the decoder's upscaled map has in every SAM."""


class HighResolution(nn.Module):
    """Image stem and early feature map, fused with the decoder's upscaled map; returns what is to be added to it.

    The last convolution starts at zero, so that a model decodes as without the branch until it is trained. Decoders
    with a path around the coarse embedding are those of U-Net (Ronneberger et al. 2015, arXiv:1505.04597) and HQ-SAM
    (Ke et al. 2023, arXiv:2306.01567), which fuses early features into SAM's mask features.

    Of the early maps only the finest is read: where embeddings are cached, it is computed anew in every step, and the
    layers up to it are few.

    Args:
        channels: of the upscaled map.
        cell: pixels of the input per cell of the upscaled map, along each side; below 1 it is finer than the input.
        early: channels of the encoder's early maps by stride (see `registry.card.Card`).
    """

    def __init__(self, *, channels: int, cell: float, early: Mapping[int, int]) -> None:
        super().__init__()
        # A finer map than the upscaled one would cost more than its cells can keep.
        self.strides = tuple(sorted(stride for stride in early if stride >= cell))[:1]
        first, second = (2 if cell >= 2 * factor else 1 for factor in (1, 2))
        self.pooling = max(1, round(cell) // (first * second))
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, stride=first, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=second, padding=1),
            nn.GELU(),
        )
        self.lateral = nn.ModuleList(nn.Conv2d(early[stride], WIDTH, 1) for stride in self.strides)
        last = nn.Conv2d(WIDTH, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # a convolution with a bias
        self.fusion = nn.Sequential(
            nn.Conv2d(channels + WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            last,
        )

    def forward(
        self,
        upscaled: Float[Tensor, "b c h w"],
        image: Float[Tensor, "b 3 h0 w0"],
        early: Sequence[Float[Tensor, "b d h1 w1"]],
    ) -> Float[Tensor, "b c h w"]:
        """Return what is to be added to the upscaled map.

        Args:
            upscaled: of the decoder.
            image: scaled and normalised, as the encoder takes it.
            early: the encoder's maps of `strides`.
        """
        size = upscaled.shape[-2:]
        # The stem keeps what it can of the image: a smaller image would lose what its strided convolutions see.
        fine = _resized(self.stem(F.avg_pool2d(image, self.pooling) if self.pooling > 1 else image), size)
        for layer, features in zip(self.lateral, early, strict=True):
            fine = fine + _resized(layer(features), size)
        added: Tensor = self.fusion(torch.cat([upscaled, fine.to(upscaled.dtype)], dim=1))
        return added


def attach(sam: Sam) -> None:
    """Give the mask decoder of a model a high-resolution branch, in place.

    Raises:
        ValueError: the decoder has one.
    """
    if sam.branch is not None:
        raise ValueError(f"the decoder of {sam.card.name} has a high-resolution branch already; build the model anew.")
    decoder: Any = sam.mask_decoder
    channels: int = decoder.output_hypernetworks_mlps[0].layers[-1].out_features
    branch = HighResolution(channels=channels, cell=sam.card.stride / 4, early=sam.card.early_features)
    decoder.add_module(NAME, branch.train(sam.training))


def _resized(x: Float[Tensor, "b c h0 w0"], size: tuple[int, ...]) -> Float[Tensor, "b c h w"]:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
