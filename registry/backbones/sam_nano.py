"""A tiny SAM for tests and CPU demos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.backbones import register
from registry.card import Card, Parameters, Targets

if TYPE_CHECKING:
    from registry.sam import Sam

CARD = Card(
    name="sam_nano",
    title="SAM nano",
    parameters=Parameters(encoder=1_555_072, prompt_encoder=6_220, decoder=4_058_340),
    checkpoint=None,
    licence="Apache-2.0",
    paper="none; SAM's architecture (Kirillov et al. 2023, arXiv:2304.02643) with 4 blocks of width 128",
    repository="https://github.com/facebookresearch/segment-anything",
    native_image_size=256,
    pixel_mean=(0.485, 0.456, 0.406),
    pixel_std=(0.229, 0.224, 0.225),
    targets=Targets(
        blocks=r"image_encoder\.blocks\.\d+",
        attention="attn",
        qkv="attn.qkv",
        proj="attn.proj",
        mlp="mlp",
        mlp_in="mlp.lin1",
        mlp_out="mlp.lin2",
        head_dim=32,
        default_prompt=("prompt_encoder.no_mask_embed.weight",),
        inert=("prompt_encoder.mask_downscaling.",),
    ),
    batchnorm=False,
    note="For tests and CPU demos: random weights only, no pre-training; its scores say nothing of SAM.",
)


@register(CARD)
def build(image_size: int) -> Sam:
    """Build a ViT of 4 blocks of width 128, of which the last attends globally."""
    from registry.modules.decoder import mask_decoder, prompt_encoder
    from registry.modules.sam_vit import sam_vit
    from registry.sam import Sam

    return Sam(
        CARD,
        image_size,
        image_encoder=sam_vit(width=128, depth=4, heads=4, global_blocks=(3,), trained_size=256),
        prompt_encoder=prompt_encoder(image_size, CARD.stride),
        mask_decoder=mask_decoder(),
    )
