"""SAM with its original encoders ViT-B, ViT-L and ViT-H."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.backbones import register
from registry.card import Card, Checkpoint, Parameters, Targets

if TYPE_CHECKING:
    from registry.sam import Sam


def _card(size: str, *, encoder_parameters: int, head_dim: int, filename: str, sha256: str) -> Card:
    return Card(
        name=f"sam_vit_{size.lower()}",
        title=f"SAM ViT-{size}",
        parameters=Parameters(encoder=encoder_parameters, prompt_encoder=6_220, decoder=4_058_340),
        checkpoint=Checkpoint(
            url=f"https://dl.fbaipublicfiles.com/segment_anything/{filename}", filename=filename, sha256=sha256
        ),
        licence="Apache-2.0",
        paper="Kirillov et al. 2023, Segment Anything, arXiv:2304.02643",
        repository="https://github.com/facebookresearch/segment-anything",
        native_image_size=1024,
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
            head_dim=head_dim,
            default_prompt=("prompt_encoder.no_mask_embed.weight",),
            inert=("prompt_encoder.mask_downscaling.",),
        ),
        batchnorm=False,
    )


VIT_B = _card(
    "B",
    encoder_parameters=89_670_912,
    head_dim=64,
    filename="sam_vit_b_01ec64.pth",
    sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
)
VIT_L = _card(
    "L",
    encoder_parameters=308_278_272,
    head_dim=64,
    filename="sam_vit_l_0b3195.pth",
    sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
)
VIT_H = _card(
    "H",
    encoder_parameters=637_026_048,
    head_dim=80,
    filename="sam_vit_h_4b8939.pth",
    sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
)


@register(VIT_B)
def build_vit_b(image_size: int) -> Sam:
    """Build 12 blocks of width 768."""
    return _build(VIT_B, image_size, width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))


@register(VIT_L)
def build_vit_l(image_size: int) -> Sam:
    """Build 24 blocks of width 1024."""
    return _build(VIT_L, image_size, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))


@register(VIT_H)
def build_vit_h(image_size: int) -> Sam:
    """Build 32 blocks of width 1280."""
    return _build(VIT_H, image_size, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))


def _build(card: Card, image_size: int, *, width: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> Sam:
    from registry.modules.decoder import mask_decoder, prompt_encoder
    from registry.modules.sam_vit import sam_vit
    from registry.sam import Sam

    return Sam(
        card,
        image_size,
        image_encoder=sam_vit(width=width, depth=depth, heads=heads, global_blocks=global_blocks),
        prompt_encoder=prompt_encoder(image_size, card.stride),
        mask_decoder=mask_decoder(),
    )
