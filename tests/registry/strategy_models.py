"""Models for the tests of strategies."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from registry import backbones

LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")
ALL = (*LIGHT, "tiny_sam", "efficient_sam_s", "sam_vit_b", "sam_vit_l", "sam_vit_h")
ADDING = ("lora_qv", "lora_all_linear", "adapter")


def build(name: str, size: int = 64, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return backbones.build(name, size)


def on_meta(name: str) -> Any:
    """Build a model without memory for its weights, so that even ViT-H can be counted in a test."""
    with torch.device("meta"):
        return backbones.build(name, 64)


def predict(sam: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return sam.decode(sam.encode(images))[0]


def trained(sam: Any) -> set[str]:
    return {name for name, parameter in sam.named_parameters() if parameter.requires_grad}


def with_targets(sam: Any, **changes: Any) -> Any:
    """Change fields of the targets on a model's card."""
    sam.card = dataclasses.replace(sam.card, targets=dataclasses.replace(sam.card.targets, **changes))
    return sam
