"""EfficientSAM: plain ViTs pre-trained to rebuild SAM's features from masked images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.backbones import register
from registry.card import Card, Checkpoint, Parameters, Targets
from registry.renaming import Renaming

if TYPE_CHECKING:
    from registry.sam import Sam


def _card(name: str, title: str, encoder_parameters: int, checkpoint: Checkpoint) -> Card:
    return Card(
        name=name,
        title=title,
        parameters=Parameters(encoder=encoder_parameters, prompt_encoder=1_024, decoder=4_058_340),
        checkpoint=checkpoint,
        licence="Apache-2.0",
        paper="Xiong et al. 2023, EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment "
        "Anything, arXiv:2312.00863",
        repository="https://github.com/yformer/EfficientSAM",
        native_image_size=1024,
        pixel_mean=(0.485, 0.456, 0.406),
        pixel_std=(0.229, 0.224, 0.225),
        targets=Targets(
            blocks=r"image_encoder\.blocks\.\d+",
            attention="attn",
            qkv="attn.qkv",
            proj="attn.proj",
            mlp="mlp",
            mlp_in="mlp.fc1",
            mlp_out="mlp.fc2",
            head_dim=64,
            default_prompt=("prompt_encoder.invalid_points.weight",),
        ),
        batchnorm=False,
        note="Takes up to six points per prompt, a box counting as two; no prompt means six invalid points.",
    )


TI = _card(
    "efficient_sam_ti",
    "EfficientSAM-Ti",
    6_163_840,
    Checkpoint(
        url="https://github.com/yformer/EfficientSAM/raw/main/weights/efficient_sam_vitt.pt",
        filename="efficient_sam_vitt.pt",
        git_blob_sha1="af883c49e33c68f01107be52df0ecad26a48355f",
        nested_key="model",
    ),
)
S = _card(
    "efficient_sam_s",
    "EfficientSAM-S",
    22_353_664,
    Checkpoint(
        url="https://github.com/yformer/EfficientSAM/raw/main/weights/efficient_sam_vits.pt.zip",
        filename="efficient_sam_vits.pt.zip",
        git_blob_sha1="fa4e9f05f753e109dbde052f97d37903b833cf53",
        member="efficient_sam_vits.pt",
        nested_key="model",
    ),
)

_MLP, _UPSCALING = "mask_decoder.transformer.layers.{n}.mlp", "mask_decoder.output_upscaling"
_OFFICIAL_UPSCALING = "mask_decoder.final_output_upscaling_layers"
_MASK_HEAD, _IOU_HEAD = "mask_decoder.output_hypernetworks_mlps.{n}", "mask_decoder.iou_prediction_head"
# A last layer is named before the general pattern, which fits it too.
RENAMING = Renaming(
    (
        (
            (_MLP + ".layers.0.0.{leaf}", _MLP + ".lin1.{leaf}"),
            (_MLP + ".fc.{leaf}", _MLP + ".lin2.{leaf}"),
            (_OFFICIAL_UPSCALING + ".1.0.{leaf}", _UPSCALING + ".3.{leaf}"),
            (_OFFICIAL_UPSCALING + ".0.{n}.{leaf}", _UPSCALING + ".{n}.{leaf}"),
            (_MASK_HEAD + ".fc.{leaf}", _MASK_HEAD + ".layers.2.{leaf}"),
            (_MASK_HEAD + ".layers.{i}.0.{leaf}", _MASK_HEAD + ".layers.{i}.{leaf}"),
            (_IOU_HEAD + ".fc.{leaf}", _IOU_HEAD + ".layers.2.{leaf}"),
            (_IOU_HEAD + ".layers.{i}.0.{leaf}", _IOU_HEAD + ".layers.{i}.{leaf}"),
        ),
    )
)
"""Official names of the mask decoder, and segment_anything's."""


@register(TI, RENAMING.convert, RENAMING.restore)
def build_ti(image_size: int) -> Sam:
    """Build 12 blocks of width 192."""
    return _build(TI, image_size, width=192, heads=3)


@register(S, RENAMING.convert, RENAMING.restore)
def build_s(image_size: int) -> Sam:
    """Build 12 blocks of width 384."""
    return _build(S, image_size, width=384, heads=6)


def _build(card: Card, image_size: int, *, width: int, heads: int) -> Sam:
    from registry.modules.efficient_sam import PointEncoder, gelu_mask_decoder, plain_vit
    from registry.sam import Sam

    return Sam(
        card,
        image_size,
        image_encoder=plain_vit(width=width, heads=heads),
        prompt_encoder=PointEncoder(image_size, card.stride),
        mask_decoder=gelu_mask_decoder(),
    )
