"""Strategies: parameters they add, parameters they train, and outputs at the start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from strategy_models import ADDING, LIGHT, build, on_meta, predict, trained
from torch import nn

from registry import blocks, strategies
from registry.errors import StrategyError


def test_all_strategies_are_registered() -> None:
    expected = {"zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"}
    assert expected <= set(strategies.names())
    assert not strategies.get("zero_shot").trains
    assert strategies.get("zero_shot").head == "everything"
    assert strategies.options("lora_qv") == {"rank": 4, "last_blocks": 0}
    assert strategies.options("adapter") == {"reduction": 4, "scale": 0.5, "last_blocks": 0}
    for name in expected:
        rate = strategies.get(name).encoder_lr
        assert (rate is None) == strategies.get(name).freezes_encoder
        assert rate is None or 1e-4 <= rate <= 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no encoder_lr: give the peak learning rate of what it trains in the image encoder"),
        (
            {"encoder_lr": 1e-3, "freezes_encoder": True},
            "trains nothing in the image encoder, so encoder_lr=0.001 would",
        ),
        ({"encoder_lr": 1e-3, "trains": False}, "trains nothing in the image encoder"),
        ({"encoder_lr": 0.0}, "encoder_lr is 0.0; it must be above 0 and at most 1."),
    ],
)
def test_an_encoder_rate_that_does_not_fit_the_strategy_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError) as caught:
        strategies.register("rated", summary="", source="", **arguments)(lambda sam, *, tokens: None)
    assert message in str(caught.value)
    assert "rated" not in strategies.names()


@pytest.mark.parametrize(
    ("backbone", "strategy", "count"),
    [
        ("sam_vit_b", "lora_qv", 147_456),
        ("sam_vit_l", "lora_qv", 393_216),
        ("sam_vit_h", "lora_qv", 655_360),
        ("mobile_sam", "lora_qv", 29_696),
        ("tiny_sam", "lora_qv", 29_696),
        ("efficient_sam_ti", "lora_qv", 36_864),
        ("efficient_sam_s", "lora_qv", 73_728),
        ("sam_vit_b", "lora_all_linear", 589_824),
        # Two bottlenecks per block: 2 · (d · d/4 + d/4 + d/4 · d + d) with d = 128, four blocks.
        ("sam_nano", "adapter", 4 * 2 * (128 * 32 + 32 + 32 * 128 + 128)),
    ],
)
def test_parameters_added_to_the_encoder(backbone: str, strategy: str, count: int) -> None:
    sam = on_meta(backbone)
    before = sum(parameter.numel() for parameter in sam.parameters())
    strategies.apply(strategy, sam)
    assert sum(p.numel() for p in sam.image_encoder.parameters() if p.requires_grad) == count
    assert sum(p.numel() for p in sam.parameters()) == before + count
    mark = strategies.applied(sam)
    assert mark is not None
    assert mark.added == count


def test_lora_parameters_are_proportional_to_the_rank() -> None:
    sam = on_meta("sam_vit_b")
    strategies.apply("lora_qv", sam, rank=8)
    assert sum(p.numel() for p in sam.image_encoder.parameters() if p.requires_grad) == 2 * 147_456


def test_zero_shot_trains_nothing() -> None:
    sam = build("sam_nano")
    strategies.apply("zero_shot", sam)
    assert trained(sam) == set()


@pytest.mark.parametrize("tokens", [(1, 2, 3), (0,)])
def test_decoder_only_trains_what_the_tokens_depend_on(tokens: tuple[int, ...]) -> None:
    sam = build("sam_nano")
    strategies.apply("decoder_only", sam, tokens=tokens)
    names = trained(sam)
    read = {int(name.split(".")[2]) for name in names if "output_hypernetworks_mlps" in name}
    assert read == set(tokens)
    assert not any("iou_prediction_head" in name for name in names)
    assert {"mask_decoder.mask_tokens.weight", "mask_decoder.iou_token.weight"} <= names
    outside = {name for name in names if not name.startswith("mask_decoder.")}
    assert outside == {"prompt_encoder.no_mask_embed.weight"}
    # Less the IoU head (132,612) and a hypernetwork (139,808) per unread token; the prompt has 256.
    count = sum(parameter.numel() for parameter in sam.parameters() if parameter.requires_grad)
    assert count == 4_058_340 - 132_612 - 139_808 * (4 - len(tokens)) + 256


@pytest.mark.parametrize("backbone", LIGHT)
def test_full_trains_the_encoder_but_its_inert_parameters(backbone: str) -> None:
    sam = build(backbone)
    strategies.apply("full", sam)
    inert = sam.card.targets.inert
    for name, parameter in sam.image_encoder.named_parameters(prefix="image_encoder"):
        assert parameter.requires_grad != name.startswith(inert or "none")
    prompts = {name for name in trained(sam) if name.startswith("prompt_encoder.")}
    assert prompts <= set(sam.card.targets.default_prompt)


def test_full_leaves_the_classifier_of_tiny_vit_frozen() -> None:
    sam = build("mobile_sam")
    strategies.apply("full", sam)
    frozen = [p for p in sam.image_encoder.parameters() if not p.requires_grad]
    assert sum(parameter.numel() for parameter in frozen) == 321_640


@pytest.mark.parametrize("backbone", LIGHT)
def test_lora_qv_attaches_to_q_and_v_of_every_block(backbone: str) -> None:
    sam = build(backbone)
    strategies.apply("lora_qv", sam)
    in_encoder = {name for name in trained(sam) if name.startswith("image_encoder.")}
    expected = {
        f"{block}.{sam.card.targets.qkv}.{part}.lora_{side}.default.weight"
        for block in blocks.names(sam)
        for part in ("q", "v")
        for side in ("A", "B")
    }
    assert in_encoder == expected


def test_lora_has_scaling_1_and_starts_at_zero() -> None:
    sam = build("sam_nano")
    strategies.apply("lora_qv", sam, rank=2)
    query = sam.get_submodule("image_encoder.blocks.0.attn.qkv.q")
    assert query.scaling == {"default": 1.0}
    assert not query.lora_B["default"].weight.any()
    assert query.lora_A["default"].weight.any()


@pytest.mark.parametrize("strategy", ADDING)
@pytest.mark.parametrize("backbone", LIGHT)
def test_added_layers_leave_the_output_unchanged_at_first(backbone: str, strategy: str) -> None:
    sam = build(backbone)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = predict(sam, images)
    strategies.apply(strategy, sam)
    after = predict(sam, images)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("strategy", ADDING)
@pytest.mark.parametrize("backbone", LIGHT)
def test_changed_layers_change_the_output(backbone: str, strategy: str) -> None:
    sam = build(backbone)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = predict(sam, images)
    strategies.apply(strategy, sam)
    torch.manual_seed(2)
    for parameter in sam.image_encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    assert (predict(sam, images) - before).abs().max() > 1e-3 * before.abs().max()
