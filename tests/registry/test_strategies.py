"""What each strategy makes trainable, on which layers, and that it starts as the identity."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from registry import backbones, blocks, strategies
from registry.errors import StrategyError
from registry.modules.split_qkv import SplitQkv

LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")
ALL = (*LIGHT, "tiny_sam", "efficient_sam_s", "sam_vit_b", "sam_vit_l", "sam_vit_h")
ADDING = ("lora_qv", "lora_all_linear", "adapter")


def build(name: str, size: int = 64, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return backbones.build(name, size)


def on_meta(name: str) -> Any:
    """The model without memory: enough to count, and the only way to have ViT-H in a test."""
    with torch.device("meta"):
        return backbones.build(name, 64)


def predict(sam: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return sam.decode(sam.encode(images))[0]


def trained(sam: Any) -> set[str]:
    return {name for name, parameter in sam.named_parameters() if parameter.requires_grad}


def with_targets(sam: Any, **changes: Any) -> Any:
    sam.card = dataclasses.replace(sam.card, targets=dataclasses.replace(sam.card.targets, **changes))
    return sam


def test_all_six_are_registered() -> None:
    expected = {"zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"}
    assert expected <= set(strategies.names())
    assert not strategies.get("zero_shot").trains
    assert strategies.get("zero_shot").head == "everything"
    assert strategies.options("lora_qv") == {"rank": 4}
    assert strategies.options("adapter") == {"reduction": 4, "scale": 0.5}
    for name in expected - {"zero_shot"}:
        assert 1e-4 <= strategies.get(name).lr <= 1e-3


# --- counts -------------------------------------------------------------------------------------------------


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


def test_lora_doubles_with_its_rank() -> None:
    sam = on_meta("sam_vit_b")
    strategies.apply("lora_qv", sam, rank=8)
    assert sum(p.numel() for p in sam.image_encoder.parameters() if p.requires_grad) == 2 * 147_456


# --- what is trained ----------------------------------------------------------------------------------------


def test_zero_shot_trains_nothing() -> None:
    sam = build("sam_nano")
    strategies.apply("zero_shot", sam)
    assert trained(sam) == set()


@pytest.mark.parametrize("tokens", [(1, 2, 3), (0,)])
def test_decoder_only_trains_what_a_prompt_less_loss_reaches(tokens: tuple[int, ...]) -> None:
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
def test_full_trains_the_encoder_less_its_inert_parameters(backbone: str) -> None:
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


def test_lora_scales_nothing() -> None:
    sam = build("sam_nano")
    strategies.apply("lora_qv", sam, rank=2)
    query = sam.get_submodule("image_encoder.blocks.0.attn.qkv.q")
    assert query.scaling == {"default": 1.0}
    assert not query.lora_B["default"].weight.any()
    assert query.lora_A["default"].weight.any()


# --- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ADDING)
@pytest.mark.parametrize("backbone", LIGHT)
def test_added_parts_start_as_the_identity(backbone: str, strategy: str) -> None:
    sam = build(backbone)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = predict(sam, images)
    strategies.apply(strategy, sam)
    after = predict(sam, images)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("strategy", ADDING)
@pytest.mark.parametrize("backbone", LIGHT)
def test_added_parts_reach_the_output(backbone: str, strategy: str) -> None:
    sam = build(backbone)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = predict(sam, images)
    strategies.apply(strategy, sam)
    torch.manual_seed(2)
    for parameter in sam.image_encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    assert (predict(sam, images) - before).abs().max() > 1e-3 * before.abs().max()


# --- q, k and v ---------------------------------------------------------------------------------------------


def test_rows_of_both_layouts_by_hand() -> None:
    fused = nn.Linear(1, 12, bias=True)  # two heads of width 2
    with torch.no_grad():
        fused.weight.copy_(torch.arange(12.0)[:, None])
        fused.bias.copy_(torch.arange(12.0) / 100)
    contiguous = SplitQkv(fused, "contiguous", 2)
    assert contiguous.q.weight.flatten().tolist() == [0, 1, 2, 3]
    assert contiguous.k.weight.flatten().tolist() == [4, 5, 6, 7]
    assert contiguous.v.weight.flatten().tolist() == [8, 9, 10, 11]
    per_head = SplitQkv(fused, "per_head", 2)
    assert per_head.q.weight.flatten().tolist() == [0, 1, 6, 7]
    assert per_head.k.weight.flatten().tolist() == [2, 3, 8, 9]
    assert per_head.v.weight.flatten().tolist() == [4, 5, 10, 11]
    x = torch.tensor([[2.0], [-1.0]])
    assert torch.allclose(contiguous(x), fused(x), rtol=1e-5, atol=0)
    assert torch.allclose(per_head(x), fused(x), rtol=1e-5, atol=0)


def test_rows_that_are_no_whole_heads_are_refused() -> None:
    with pytest.raises(StrategyError, match=r"12 rows can't hold q, k and v with head_dim 5"):
        SplitQkv(nn.Linear(4, 12), "per_head", 5)


def _parts(fused: torch.Tensor, layout: str, head_dim: int) -> tuple[torch.Tensor, ...]:
    """q, k and v of a fused output, read as each family's own attention reads it."""
    n = fused.shape[0]
    if layout == "per_head":  # TinyViT
        return fused.view(n, -1, 3 * head_dim).split(head_dim, dim=2)
    return fused.reshape(n, 3, -1, head_dim).unbind(1)  # SAM and EfficientSAM


@pytest.mark.parametrize("backbone", ALL)
def test_random_lora_changes_q_and_v_and_leaves_k_bit_identical(backbone: str) -> None:
    sam = on_meta(backbone)
    targets = sam.card.targets
    chosen = [f"{block}.{targets.qkv}" for block in (blocks.names(sam)[0], blocks.names(sam)[-1])]
    torch.manual_seed(0)
    originals = {}
    for name in chosen:
        linear = sam.get_submodule(name).to_empty(device="cpu")
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.normal_(linear.bias, std=0.02)
        originals[name] = linear
    strategies.apply("lora_qv", sam)
    for name, fused in originals.items():
        split = sam.get_submodule(name)
        x = torch.randn(5, fused.in_features)
        with torch.no_grad():
            expected, before = fused(x), split(x)
            for part in (split.q, split.v):
                nn.init.normal_(part.lora_A["default"].weight)
                nn.init.normal_(part.lora_B["default"].weight)
            after = split(x)
        assert (before - expected).abs().max() <= 1e-5 * expected.abs().max()
        _, k, _ = _parts(expected, targets.qkv_layout, targets.head_dim)
        q0, k0, v0 = _parts(before, targets.qkv_layout, targets.head_dim)
        q1, k1, v1 = _parts(after, targets.qkv_layout, targets.head_dim)
        assert torch.equal(k0, k1)
        assert torch.allclose(k1, k, rtol=1e-5, atol=1e-6)
        # A and B are large: every column of q and v moves, so none of them was missed.
        assert ((q1 - q0).abs().amax(0) > 0.1).all()
        assert ((v1 - v0).abs().amax(0) > 0.1).all()
        _, k_rows, _ = _parts(fused.weight.T, targets.qkv_layout, targets.head_dim)
        assert torch.equal(split.k.weight.T, k_rows.flatten(1))


@pytest.mark.parametrize("backbone", ["sam_nano", "mobile_sam", "efficient_sam_ti", "sam_vit_b"])
def test_k_is_bit_identical_inside_the_encoder_too(backbone: str) -> None:
    sam = backbones.build(backbone, image_size=64)
    strategies.apply("lora_qv", sam)
    targets = sam.card.targets
    split = sam.get_submodule(f"{blocks.names(sam)[0]}.{targets.qkv}")
    seen: list[torch.Tensor] = []
    split.register_forward_hook(lambda _, inputs, output: seen.append(output.detach().flatten(0, -2)))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = sam.encode(image)
        for name, parameter in sam.named_parameters():
            if ".lora_" in name:
                nn.init.normal_(parameter)
        after = sam.encode(image)
    (q0, k0, v0), (q1, k1, v1) = (_parts(output, targets.qkv_layout, targets.head_dim) for output in seen)
    assert torch.equal(k0, k1)
    assert not torch.equal(q0, q1) and not torch.equal(v0, v1) and not torch.equal(before, after)


def test_the_trap_of_tiny_vit_is_a_trap() -> None:
    """Read as contiguous, the first third of TinyViT's qkv rows holds keys: the layout matters."""
    card = backbones.card("mobile_sam")
    assert card.targets.qkv_layout == "per_head"
    fused = nn.Linear(8, 2 * 3 * 4)
    right, wrong = SplitQkv(fused, "per_head", 4), SplitQkv(fused, "contiguous", 4)
    assert torch.equal(wrong.q.weight[4:8], right.k.weight[:4])


# --- adapters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", LIGHT)
def test_adapters_sit_where_medical_sam_adapter_puts_them(backbone: str) -> None:
    sam = build(backbone)
    targets = sam.card.targets
    block = blocks.names(sam)[-1]
    attention, mlp = (sam.get_submodule(f"{block}.{targets.attention}"), sam.get_submodule(f"{block}.{targets.mlp}"))
    seen: dict[str, torch.Tensor] = {}
    inner = sam.get_submodule(f"{block}.{targets.mlp_in}")
    plain = {}
    for name, module in (("attention", attention), ("mlp", mlp)):
        module.register_forward_hook(lambda m, i, o, name=name: plain.update({name: o.clone()}))
    inner.register_forward_pre_hook(lambda m, i: seen.update(normalised=i[0].clone()))
    strategies.apply("adapter", sam, scale=0.25)
    # Hooks run in the order they were registered: these see what the adapters made of the output.
    result: dict[str, torch.Tensor] = {}
    for name, module in (("attention", attention), ("mlp", mlp)):
        nn.init.normal_(module.adapter.up.weight, std=0.1)
        module.register_forward_hook(lambda m, i, o, name=name: result.update({name: o.clone()}))
    predict(sam, torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        after = plain["attention"] + attention.adapter(plain["attention"])
        beside = plain["mlp"] + 0.25 * mlp.adapter(seen["normalised"])
    assert torch.equal(result["attention"], after)
    assert torch.equal(result["mlp"], beside)
    assert not torch.equal(result["mlp"], plain["mlp"])


def test_adapters_leave_the_official_names_alone() -> None:
    before = set(build("mobile_sam").state_dict())
    sam = build("mobile_sam")
    strategies.apply("adapter", sam)
    assert before < set(sam.state_dict())
    assert all(".adapter." in name for name in set(sam.state_dict()) - before)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear"])
@pytest.mark.parametrize("rank", [0, -1, 129])
def test_impossible_rank(strategy: str, rank: int) -> None:
    sam = build("sam_nano")
    names = set(sam.state_dict())
    with pytest.raises(StrategyError, match=rf"rank {rank} is not possible: .* has width 128; choose 1 to 128"):
        strategies.apply(strategy, sam, rank=rank)
    assert set(sam.state_dict()) == names
    strategies.apply(strategy, sam, rank=1)  # the model is as fresh as before


@pytest.mark.parametrize("reduction", [0, -4, 129])
def test_impossible_reduction(reduction: int) -> None:
    with pytest.raises(StrategyError, match=rf"reduction {reduction} is not possible: .*'sam_nano' has width 128"):
        strategies.apply("adapter", build("sam_nano"), reduction=reduction)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_impossible_scale(scale: float) -> None:
    with pytest.raises(StrategyError, match=r"choose a finite number other than 0"):
        strategies.apply("adapter", build("sam_nano"), scale=scale)


@pytest.mark.parametrize("strategy", ADDING)
def test_blocks_that_match_nothing(strategy: str) -> None:
    sam = with_targets(build("sam_nano"), blocks=r"encoder\.layers\.\d+")
    with pytest.raises(StrategyError, match=r"'encoder\\\\.layers.*' on the card of 'sam_nano' matches no module"):
        strategies.apply(strategy, sam)


def test_a_target_that_is_no_linear_layer() -> None:
    sam = with_targets(build("sam_nano"), qkv="attn")
    with pytest.raises(StrategyError, match=r"'image_encoder.blocks.0.attn' of 'sam_nano' is a \w+; .* nn.Linear only"):
        strategies.apply("lora_qv", sam)


def test_a_target_that_does_not_exist() -> None:
    sam = with_targets(build("sam_nano"), proj="attn.out")
    with pytest.raises(StrategyError, match=r"'image_encoder.blocks.0.attn.out', .*below the block are: .*attn.proj"):
        strategies.apply("lora_all_linear", sam)


def test_a_default_prompt_that_does_not_exist() -> None:
    sam = with_targets(build("sam_nano"), default_prompt=("prompt_encoder.nothing",))
    with pytest.raises(StrategyError, match=r"default prompt 'prompt_encoder.nothing' on the card of 'sam_nano'"):
        strategies.apply("decoder_only", sam)


@pytest.mark.parametrize("tokens", [(), (4,), (-1, 1)])
def test_unknown_tokens(tokens: tuple[int, ...]) -> None:
    with pytest.raises(StrategyError, match=r"are not mask tokens; give at least one of 0 to 3"):
        strategies.apply("decoder_only", build("sam_nano"), tokens=tokens)


def test_an_unknown_option() -> None:
    with pytest.raises(StrategyError, match=r"unknown option of strategy 'lora_qv' 'rnak'. Did you mean 'rank'"):
        strategies.apply("lora_qv", build("sam_nano"), rnak=4)


@pytest.mark.parametrize("second", ["zero_shot", "lora_qv", "adapter"])
def test_two_strategies_on_one_model(second: str) -> None:
    sam = build("sam_nano")
    strategies.apply("lora_qv", sam)
    with pytest.raises(StrategyError, match=rf"'{second}' can't be applied: the model carries 'lora_qv' already"):
        strategies.apply(second, sam)
