"""LoRA on every linear layer of every encoder block; mask decoder and default prompt trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "lora_all_linear",
    summary="LoRA on qkv, proj and both MLP layers of every encoder block; decoder trained",
    source="Hu et al., LoRA (arXiv 2106.09685); computational-cell-analytics/micro-sam comes nearest",
    encoder_lr=1e-3,  # as lora_qv: the update of one layer is of the same size
    neutral={"last_blocks": 0},
)
def lora_all_linear(sam: Sam, *, tokens: tuple[int, ...], rank: int = 4, last_blocks: int = 0) -> None:
    """Put LoRA on the fused qkv, the attention's projection and both MLP layers.

    Args:
        sam: the model; changed in place.
        tokens: mask tokens the head reads.
        rank: rank of the update.
        last_blocks: LoRA on the last so many blocks only, below which nothing is trained; 0 is all blocks.

    Raises:
        StrategyError: a rank or a number of blocks that is not possible, or a card whose targets don't fit the model.
    """
    from registry import blocks, lora, trainable

    targets = sam.card.targets
    paths = (targets.qkv, targets.proj, targets.mlp_in, targets.mlp_out)
    layers = {name: layer for path in paths for name, layer in blocks.linears(sam, path, last_blocks).items()}
    lora.check_rank(rank, lora.sides(layers))
    trainable.freeze(sam)
    lora.inject(sam, list(layers), rank)
    trainable.train_decoder(sam, tokens)
