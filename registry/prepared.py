"""Backbone with a head's modules and a strategy, from a seed: the one way models are built for training and rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from registry import backbones, heads, quantised, strategies
from registry.sam import Sam


def prepare(
    *,
    backbone: str,
    strategy: str,
    options: Mapping[str, Any],
    image_size: int,
    checkpoint: str | Path | None,
    tokens: tuple[int, ...],
    seed: int,
    head: str | None = None,
    base_weights: str = quantised.FULL,
) -> Sam:
    """Build a backbone, attach a head's modules and apply a strategy; the same arguments give the same bits.

    Args:
        backbone: registered name.
        strategy: registered name.
        options: the strategy's options.
        image_size: side of the square input in pixels.
        checkpoint: the official file; None for random weights.
        tokens: the mask tokens that the head reads.
        seed: of random weights and of the parameters that the head and the strategy add.
        head: registered name of the head whose modules the model gets, see `registry.heads.attach`; None for none.
        base_weights: how frozen linear layers of the encoder keep their weights, see `registry.quantised`.

    Returns:
        The model in eval mode, on the CPU. The global random state is as before.

    Raises:
        RegistryError: unknown names, a bad checkpoint, or a strategy that can't be applied.
        ValueError: an image size that the backbone does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPUs' states too
        sam = backbones.build(backbone, image_size=image_size, checkpoint=checkpoint)
        if head is not None:
            heads.attach(heads.get(head), sam)
        strategies.apply(strategy, sam, tokens=tokens, **options)
        quantised.quantise(sam, base_weights)
    return sam.eval()
