"""LoRA on the queries and values of every encoder block; mask decoder and default prompt trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "lora_qv",
    summary="LoRA on q and v of every encoder block; decoder trained",
    source="Zhang & Liu, SAMed (arXiv 2304.13785; hitachinsk/SAMed); Hu et al., LoRA (arXiv 2106.09685)",
    # SAMed used 5e-3 after 250 warm-up steps; schedules here may be shorter than that, so a fifth of it.
    encoder_lr=1e-3,
    neutral={"last_blocks": 0},
)
def lora_qv(sam: Sam, *, tokens: tuple[int, ...], rank: int = 4, last_blocks: int = 0) -> None:
    """Split every fused qkv layer by the layout on the card and put LoRA on its q and v.

    Args:
        sam: the model; changed in place.
        tokens: mask tokens the head reads.
        rank: rank of the update.
        last_blocks: LoRA on the last so many blocks only, below which nothing is trained; 0 is all blocks.

    Raises:
        StrategyError: a rank or a number of blocks that is not possible, or a card whose targets don't fit the model.
    """
    from registry import blocks, lora, trainable
    from registry.modules.split_qkv import SplitQkv

    targets = sam.card.targets
    fused = blocks.linears(sam, targets.qkv, last_blocks)
    lora.check_rank(rank, {name: (layer.in_features, layer.out_features // 3) for name, layer in fused.items()})
    split = {name: SplitQkv(layer, targets.qkv_layout, targets.head_dim) for name, layer in fused.items()}
    for name, module in split.items():
        sam.set_submodule(name, module)
    trainable.freeze(sam)
    lora.inject(sam, [f"{name}.{part}" for name in split for part in ("q", "v")], rank)
    trainable.train_decoder(sam, tokens)
