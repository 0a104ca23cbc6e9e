"""Bottleneck adapters after attention and parallel to the MLP of every encoder block; decoder trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import StrategyError
from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "adapter",
    summary="bottlenecks after attention and beside the MLP of every encoder block; decoder trained",
    source="Wu et al., Medical SAM Adapter (arXiv 2304.12620); Houlsby 2019; Chen et al., AdaptFormer 2022",
    # Houlsby et al. swept 3e-5 to 3e-3; bottlenecks are wider than LoRA's ranks, so half its rate.
    encoder_lr=5e-4,
    neutral={"last_blocks": 0},
)
def adapter(sam: Sam, *, tokens: tuple[int, ...], reduction: int = 4, scale: float = 0.5, last_blocks: int = 0) -> None:
    """Add two bottlenecks per block, both zero at the start.

    The first follows the attention, inside the residual branch; the second is parallel to the MLP, on its normalised
    input.

    Args:
        sam: the model; changed in place.
        tokens: mask tokens the head reads.
        reduction: block width over bottleneck width.
        scale: factor of the bottleneck beside the MLP.
        last_blocks: bottlenecks in the last so many blocks only, below which nothing is trained; 0 is all blocks.

    Raises:
        StrategyError: a reduction below 1 or above a block's width, a scale that is zero or not finite, a
            number of blocks that is not possible, or a card whose targets don't fit the model.
    """
    import math
    from functools import partial

    from registry import blocks, trainable
    from registry.modules.bottleneck import Bottleneck, after, beside

    targets = sam.card.targets
    attentions = blocks.submodules(sam, targets.attention, last_blocks)
    mlps = blocks.submodules(sam, targets.mlp, last_blocks)
    widths = [layer.in_features for layer in blocks.linears(sam, targets.mlp_in, last_blocks).values()]
    if not 1 <= reduction <= min(widths):
        raise StrategyError(
            f"reduction {reduction} is not possible: the narrowest block of {sam.card.name!r} has width "
            f"{min(widths)}; choose 1 to {min(widths)} (4 in Medical SAM Adapter)."
        )
    if scale == 0 or not math.isfinite(scale):
        raise StrategyError(
            f"scale {scale} leaves nothing to train beside the MLP; choose a finite number other than 0."
        )
    norm = ""
    if targets.mlp_norm is not None:
        blocks.submodules(sam, targets.mlp_norm)
        norm = targets.mlp_norm.removeprefix(f"{targets.mlp}.")
    trainable.freeze(sam)
    for attention, mlp, width in zip(attentions.values(), mlps.values(), widths, strict=True):
        like = next(attention.parameters())
        for module, hook in ((attention, after), (mlp, partial(beside, scale=scale, norm=norm))):
            # A hook, not a wrapper: the official names of all other parameters stay as they are.
            module.add_module("adapter", Bottleneck(width, width // reduction).to(like))
            module.register_forward_hook(hook)
    trainable.train_decoder(sam, tokens)
