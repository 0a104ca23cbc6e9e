"""Layers that strategies change: fused qkv split for LoRA, and adapters in a block."""

from __future__ import annotations

import pytest
import torch
from strategy_models import ALL, LIGHT, build, on_meta, predict
from torch import nn

from registry import backbones, blocks, strategies
from registry.errors import StrategyError
from registry.modules.split_qkv import SplitQkv


def test_rows_of_both_layouts_are_split_into_q_k_and_v() -> None:
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


def test_rows_that_do_not_divide_into_heads_are_refused() -> None:
    with pytest.raises(StrategyError, match=r"12 rows can't hold q, k and v with head_dim 5"):
        SplitQkv(nn.Linear(4, 12), "per_head", 5)


def _parts(fused: torch.Tensor, layout: str, head_dim: int) -> tuple[torch.Tensor, ...]:
    """Return q, k and v of a fused output, as the attention of each family splits it."""
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
def test_lora_leaves_k_bit_identical_in_a_forward_pass(backbone: str) -> None:
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


def test_the_contiguous_layout_would_mix_q_and_k_of_tiny_vit() -> None:
    """Split as contiguous, the first third of TinyViT's qkv rows would hold keys."""
    card = backbones.card("mobile_sam")
    assert card.targets.qkv_layout == "per_head"
    fused = nn.Linear(8, 2 * 3 * 4)
    right, wrong = SplitQkv(fused, "per_head", 4), SplitQkv(fused, "contiguous", 4)
    assert torch.equal(wrong.q.weight[4:8], right.k.weight[:4])


@pytest.mark.parametrize("backbone", LIGHT)
def test_adapters_follow_the_attention_and_run_parallel_to_the_mlp(backbone: str) -> None:
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


def test_adapters_keep_the_official_names() -> None:
    before = set(build("mobile_sam").state_dict())
    sam = build("mobile_sam")
    strategies.apply("adapter", sam)
    assert before < set(sam.state_dict())
    assert all(".adapter." in name for name in set(sam.state_dict()) - before)
