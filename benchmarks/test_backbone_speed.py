"""Is a backbone here as fast as its original's own code? Ratios of one run, so that the machine cancels out.

pytest benchmarks/test_backbone_speed.py -s
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from registry import backbones

ROUNDS = 3
SLACK = 1.1  # what two equal programs may differ by on a busy machine


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any]) -> float:
    """Best time of ours over best time of theirs, measured in turns."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, call in enumerate((ours, theirs)):
            start = time.perf_counter()
            call()
            best[which] = min(best[which], time.perf_counter() - start)
    return best[0] / best[1]


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
def test_vit_b_encoder_against_the_original(benchmark: Any) -> None:
    size = 512
    images = torch.rand(1, 3, size, size)
    ours, theirs = backbones.build("sam_vit_b", image_size=size), vendor_vit_b(size)
    benchmark.pedantic(ours.encode, args=(images,), rounds=1, warmup_rounds=1)
    found = ratio(lambda: ours.encode(images), lambda: theirs(images))
    benchmark.extra_info["ratio"] = found
    print(f"\nsam_vit_b, {size} px, encoder: {found:.2f} of the original's time")
    assert found < SLACK


@pytest.mark.parametrize("size", [256])
def test_vit_b_training_step_against_the_original(benchmark: Any, size: int) -> None:
    images = torch.rand(1, 3, size, size)
    ours, theirs = backbones.build("sam_vit_b", image_size=size), vendor_vit_b(size)
    benchmark.pedantic(lambda: ours.encode(images).sum().backward(), rounds=1, warmup_rounds=1)
    found = ratio(lambda: ours.encode(images).sum().backward(), lambda: theirs(images).sum().backward())
    benchmark.extra_info["ratio"] = found
    print(f"\nsam_vit_b, {size} px, encoder forward and backward: {found:.2f} of the original's time")
    assert found < SLACK


@torch.no_grad()
def test_decoding_many_prompts_against_the_original(benchmark: Any) -> None:
    size, n = 512, 32
    sam = backbones.build("sam_nano", image_size=size)
    embedding = torch.randn(1, 256, size // 16, size // 16)
    points, labels = torch.rand(n, 1, 2) * size, torch.ones(n, 1)

    def theirs() -> Any:
        sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)

    benchmark.pedantic(sam.decode, args=(embedding, points, labels), rounds=1, warmup_rounds=1)
    found = ratio(lambda: sam.decode(embedding, points, labels), theirs)
    benchmark.extra_info["ratio"] = found
    print(f"\ndecoder, {size} px, {n} prompts on one image: {found:.2f} of the original's time")
    assert found < SLACK
