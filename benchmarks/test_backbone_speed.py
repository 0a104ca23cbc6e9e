"""A backbone here against its original's own code: forward pass, training step and decoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ratios
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from registry import backbones

EQUAL = 1.1
"""Two equal programs differ by so much on a busy machine."""


def report(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Measure both in turns, and report the share of the original's time."""
    best = ratios.best_seconds(ours, theirs)
    threads = torch.get_num_threads()
    detail = f"{1000 * best[0]:.0f} ms against {1000 * best[1]:.0f} ms of segment_anything, {threads} threads"
    ratios.report(name, best[0] / best[1], EQUAL, better="lower", detail=detail)


def vendor_vit_b(size: int) -> nn.Module:
    """segment_anything's encoder at a size, as its authors build it."""
    return ImageEncoderViT(
        img_size=size,
        embed_dim=768,
        depth=12,
        num_heads=12,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
        out_chans=256,
    ).eval()


@torch.no_grad()
def test_vit_b_encoder_against_the_original() -> None:
    size = 512
    images = torch.rand(1, 3, size, size)
    ours, theirs = backbones.build("sam_vit_b", image_size=size), vendor_vit_b(size)
    report(f"SAM ViT-B encoder, {size} px", lambda: ours.encode(images), lambda: theirs(images))


def test_vit_b_training_step_against_the_original() -> None:
    size = 256
    images = torch.rand(1, 3, size, size)
    ours, theirs = backbones.build("sam_vit_b", image_size=size), vendor_vit_b(size)
    report(
        f"SAM ViT-B encoder, forward and backward, {size} px",
        lambda: ours.encode(images).sum().backward(),
        lambda: theirs(images).sum().backward(),
    )


@torch.no_grad()
def test_decoding_many_prompts_against_the_original() -> None:
    size, n = 512, 32
    sam = backbones.build("sam_nano", image_size=size)
    embedding = torch.randn(1, 256, size // 16, size // 16)
    points, labels = torch.rand(n, 1, 2) * size, torch.ones(n, 1)

    def theirs() -> Any:
        sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)

    report(f"mask decoder, {n} prompts on one {size} px image", lambda: sam.decode(embedding, points, labels), theirs)
