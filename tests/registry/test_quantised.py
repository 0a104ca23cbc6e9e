"""Frozen weights in 8 or 4 bits."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from registry import block_forward, inference_form, prepared, quantised, trained
from registry.errors import StrategyError
from registry.sam import Sam

needs_bitsandbytes = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
LOSS = {"int8": 0.01, "nf4": 0.2}
"""Largest change of an embedding of SAM nano with random weights, relative to the largest value."""


def prepare(base_weights: str, strategy: str = "lora_qv", backbone: str = "sam_nano", **options: Any) -> Sam:
    return prepared.prepare(
        backbone=backbone,
        strategy=strategy,
        options=options,
        image_size=64,
        checkpoint=None,
        tokens=(0,),
        seed=0,
        base_weights=base_weights,
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(sam: Sam, images: Tensor) -> Tensor:
    return sam.decode(sam.encode(images))[0]


def test_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)
    assert quantised.problem("full") == ""
    assert "bitsandbytes, which is not installed: `pip install nuclei-bench[quantised]`" in quantised.problem("nf4")
    with pytest.raises(StrategyError, match="not installed"):
        prepare("int8")


def test_unknown_kind_is_refused():
    assert quantised.problem("fp4") == "base weights 'fp4' are unknown; allowed are full, int8, nf4."


def test_strategy_that_freezes_no_layer_is_refused(monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda _: object())
    for backbone in ("sam_nano", "mobile_sam"):  # whose frozen layers are inert
        with pytest.raises(StrategyError, match="trains every linear layer of the image encoder"):
            prepare("nf4", "full", backbone)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_frozen_layers_are_smaller_and_compute_nearly_the_same(kind, images):
    plain, small = prepare("full"), prepare(kind)
    names = {name for name, p in plain.named_parameters() if p.requires_grad}
    assert {name for name, p in small.named_parameters() if p.requires_grad} == names
    difference = (plain.encode(images) - small.encode(images)).abs().max() / plain.encode(images).abs().max()
    assert 0 < difference < LOSS[kind]
    size = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in small.parameters()) + quantised.hidden_parameters(small) == size
    state, own = plain.state_dict(), small.state_dict()
    layer = "image_encoder.blocks.0.mlp.lin1"
    n_bytes = sum(own[name].nbytes for name in own if name.startswith(layer) and not name.endswith("bias"))
    assert n_bytes < {"int8": 0.27, "nf4": 0.15}[kind] * state[f"{layer}.weight"].nbytes


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize(("strategy", "backbone"), [("lora_qv", "sam_nano"), ("adapter", "sam_nano")])
def test_everything_trained_gets_a_gradient_and_is_loaded_again_bit_for_bit(kind, strategy, backbone, images, tmp_path):
    sam = prepare(kind, strategy, backbone)
    with torch.no_grad():
        for p in sam.parameters():
            if p.requires_grad:
                p.add_(0.01)
    plain = [p for p in sam.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sam.decode(sam.encode(images))[0].square().mean(), plain)
    assert all(bool(g.any()) for g in gradients)
    with block_forward.checkpointed(sam):
        loss = sam.decode(sam.encode(images))[0].square().mean()
    assert all(torch.equal(a, b) for a, b in zip(gradients, torch.autograd.grad(loss, plain), strict=True))
    trained.save(sam, strategy, tmp_path)
    again = prepare(kind, strategy, backbone)
    trained.load(again, tmp_path)
    assert torch.equal(logits(sam, images), logits(again, images))
    torch.testing.assert_close(logits(inference_form.optimise(sam), images), logits(sam, images), rtol=1e-3, atol=1e-4)
    assert torch.equal(logits(copy.deepcopy(sam), images), logits(sam, images))


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_gradient_of_a_layer_is_that_of_its_unpacked_weights(kind):
    from registry.modules.quantised_linear import QuantisedLinear

    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 64)
    layer, x = QuantisedLinear(linear, kind), torch.randn(2, 3, 128, requires_grad=True)
    unpacked = torch.nn.functional.linear(x, layer.weight_in(torch.float32), linear.bias)
    torch.testing.assert_close(layer(x), unpacked)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(unpacked.square().sum(), x)[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16
