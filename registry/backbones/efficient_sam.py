"""EfficientSAM: plain ViTs pre-trained to rebuild SAM's features from masked images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.backbones import register
from registry.card import Card, Checkpoint, Parameters, Targets

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

_DECODER_NAMES = (
    (r"(transformer\.layers\.\d+\.mlp)\.layers\.0\.0\.", r"\1.lin1."),
    (r"(transformer\.layers\.\d+\.mlp)\.fc\.", r"\1.lin2."),
    (r"final_output_upscaling_layers\.0\.([01])\.", r"output_upscaling.\1."),
    (r"final_output_upscaling_layers\.1\.0\.", r"output_upscaling.3."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.(\d+)\.0\.", r"\1.layers.\2."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.fc\.", r"\1.layers.2."),
)


def convert(official: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the official tensors of the mask decoder to segment_anything's names."""
    return {_rename(key): tensor for key, tensor in official.items()}


def _rename(key: str) -> str:
    if key.startswith("mask_decoder."):
        for pattern, name in _DECODER_NAMES:
            key = re.sub(pattern, name, key)
    return key


@register(TI, convert)
def build_ti(image_size: int) -> Sam:
    """Build 12 blocks of width 192."""
    return _build(TI, image_size, width=192, heads=3)


@register(S, convert)
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
        prompt_encoder=PointEncoder(image_size),
        mask_decoder=gelu_mask_decoder(),
    )
