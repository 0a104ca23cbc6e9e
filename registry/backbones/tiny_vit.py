"""MobileSAM, TinySAM and LiteMedSAM: TinyViT encoders distilled from larger ones, with SAM's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.backbones import register
from registry.card import Card, Checkpoint, Parameters, Targets
from registry.renaming import Renaming

if TYPE_CHECKING:
    from registry.sam import Sam

_PARAMETERS = Parameters(encoder=6_065_532, prompt_encoder=6_220, decoder=4_058_340)
_TARGETS = Targets(
    blocks=r"image_encoder\.stages\.[123]\.blocks\.\d+",
    attention="attn",
    qkv="attn.qkv",
    proj="attn.proj",
    mlp="mlp",
    mlp_in="mlp.fc1",
    mlp_out="mlp.fc2",
    mlp_norm="mlp.norm",
    qkv_layout="per_head",
    head_dim=32,
    default_prompt=("prompt_encoder.no_mask_embed.weight",),
    inert=("image_encoder.norm_head.", "image_encoder.head.", "prompt_encoder.mask_downscaling."),
)

MOBILE_SAM = Card(
    name="mobile_sam",
    title="MobileSAM",
    parameters=_PARAMETERS,
    checkpoint=Checkpoint(
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        filename="mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size_bytes=40_728_226,
    ),
    licence="Apache-2.0",
    paper="Zhang et al. 2023, Faster Segment Anything: Towards Lightweight SAM for Mobile Applications, "
    "arXiv:2306.14289",
    repository="https://github.com/ChaoningZhang/MobileSAM",
    native_image_size=1024,
    pixel_mean=(0.485, 0.456, 0.406),
    pixel_std=(0.229, 0.224, 0.225),
    targets=_TARGETS,
    note="The encoder's count includes the unused classifier of its pre-training (321,640 parameters).",
    early_features={4: 64, 8: 128},
)

TINY_SAM = Card(
    name="tiny_sam",
    title="TinySAM",
    parameters=_PARAMETERS,
    checkpoint=Checkpoint(
        url="https://github.com/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth", filename="tinysam_42.3.pth"
    ),
    licence="Apache-2.0",
    paper="Shu et al. 2023, TinySAM: Pushing the Envelope for Efficient Segment Anything Model, arXiv:2312.13789",
    repository="https://github.com/xinghaochen/TinySAM",
    native_image_size=1024,
    pixel_mean=(0.485, 0.456, 0.406),
    pixel_std=(0.229, 0.224, 0.225),
    targets=_TARGETS,
    note="Its authors publish no digest: the first download's sha256 is recorded, later ones are held to it.",
    early_features={4: 64, 8: 128},
)


_OFFICIAL, _OWN = "image_encoder.layers.", "image_encoder.stages."
RENAMING = Renaming(
    (
        (("image_encoder.{module}.c.weight", "image_encoder.{module}.conv.weight"),),
        (
            ("image_encoder.patch_embed.seq.0.{leaf}", "image_encoder.patch_embed.conv1.{leaf}"),
            ("image_encoder.patch_embed.seq.2.{leaf}", "image_encoder.patch_embed.conv2.{leaf}"),
            (_OFFICIAL + "0.downsample.{leaf}", _OWN + "1.downsample.{leaf}"),
            (_OFFICIAL + "1.downsample.{leaf}", _OWN + "2.downsample.{leaf}"),
            (_OFFICIAL + "2.downsample.{leaf}", _OWN + "3.downsample.{leaf}"),
            (_OFFICIAL + "{leaf}", _OWN + "{leaf}"),
        ),
    )
)
"""Official names, and timm's, in which a downsampling opens a stage instead of closing one."""


@register(MOBILE_SAM, RENAMING.convert, RENAMING.restore)
def build_mobile_sam(image_size: int) -> Sam:
    """Build TinyViT-5M with SAM's prompt encoder and mask decoder."""
    return _build(MOBILE_SAM, image_size)


@register(TINY_SAM, RENAMING.convert, RENAMING.restore)
def build_tiny_sam(image_size: int) -> Sam:
    """Build the architecture of MobileSAM; only the official weights differ."""
    return _build(TINY_SAM, image_size)


def _build(card: Card, image_size: int) -> Sam:
    from registry.modules.decoder import mask_decoder, prompt_encoder
    from registry.modules.tiny_vit import tiny_vit
    from registry.sam import Sam

    return Sam(
        card,
        image_size,
        image_encoder=tiny_vit(),
        prompt_encoder=prompt_encoder(image_size, card.stride),
        mask_decoder=mask_decoder(),
    )
