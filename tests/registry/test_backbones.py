"""Backbones: cards, parameter counts, and the modules that strategies attach to."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from registry import backbones
from registry.modules.batchnorm import norms
from registry.sam import Sam

PUBLIC = ("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "tiny_sam", "efficient_sam_ti", "efficient_sam_s")
LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(name: str, image_size: int | None = None) -> Sam:
    with torch.device("meta"):
        return backbones.build(name, image_size)


def test_all_backbones_are_registered() -> None:
    assert set(backbones.names()) == {*PUBLIC, "sam_nano", "lite_medsam"}


def test_cards_are_read_without_torch() -> None:
    code = "import sys; from registry import backbones; backbones.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", [*PUBLIC, "sam_nano"])
def test_counts_equal_the_card_at_every_size(name: str) -> None:
    card = backbones.card(name)
    shapes = set()
    for size in (256, card.native_image_size):
        sam = on_meta(name, size)
        assert count(sam.image_encoder) == card.parameters.encoder
        assert count(sam.prompt_encoder) == card.parameters.prompt_encoder
        assert count(sam.mask_decoder) == card.parameters.decoder
        assert bool(norms(sam)) == card.batchnorm
        shapes.add(tuple((key, tuple(value.shape)) for key, value in sam.state_dict().items()))
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("sam_vit_b", 93_735_472),
        ("sam_vit_l", 312_342_832),
        ("sam_vit_h", 641_090_608),
        ("mobile_sam", 10_130_092),
        ("tiny_sam", 10_130_092),
        ("efficient_sam_ti", 10_223_204),
        ("efficient_sam_s", 26_413_028),
    ],
)
def test_totals_equal_the_published_numbers(name: str, total: int) -> None:
    assert backbones.card(name).parameters.total == total


def test_the_nano_model_is_small_and_its_note_says_for_tests() -> None:
    card = backbones.card("sam_nano")
    assert card.parameters.encoder < 2_000_000
    assert card.checkpoint is None
    assert "tests and CPU demos" in card.note


@pytest.mark.parametrize("name", PUBLIC)
def test_public_cards_name_their_sources(name: str) -> None:
    card = backbones.card(name)
    assert card.licence == "Apache-2.0"
    assert card.native_image_size == 1024
    assert re.search(r"arXiv:\d{4}\.\d{5}", card.paper)
    assert card.checkpoint is not None
    assert card.checkpoint.url.startswith("https://")
    assert card.checkpoint.url.endswith("/" + card.checkpoint.filename)
    digests = (card.checkpoint.sha256, card.checkpoint.git_blob_sha1)
    assert any(digests) == (name != "tiny_sam")


@pytest.mark.parametrize("name", [*PUBLIC, "sam_nano"])
def test_targets_name_the_modules_that_adapters_need(name: str) -> None:
    sam, targets = on_meta(name), backbones.card(name).targets
    blocks = [m for full, m in sam.named_modules() if re.fullmatch(targets.blocks, full)]
    depth = {"sam_nano": 4, "sam_vit_l": 24, "sam_vit_h": 32, "mobile_sam": 10, "tiny_sam": 10}.get(name, 12)
    assert len(blocks) == depth
    for block in blocks:
        qkv, proj = block.get_submodule(targets.qkv), block.get_submodule(targets.proj)
        first, last = block.get_submodule(targets.mlp_in), block.get_submodule(targets.mlp_out)
        assert all(isinstance(layer, nn.Linear) for layer in (qkv, proj, first, last))
        assert qkv.out_features == 3 * qkv.in_features
        assert qkv.in_features % targets.head_dim == 0
        assert first.out_features == last.in_features
        if targets.mlp_norm:
            assert isinstance(block.get_submodule(targets.mlp_norm), nn.LayerNorm)
    parameters = dict(sam.named_parameters())
    assert all(default in parameters for default in targets.default_prompt)
    assert all(any(key.startswith(prefix) for key in parameters) for prefix in targets.inert)


@pytest.mark.parametrize("name", LIGHT)
def test_the_attention_and_mlp_return_tokens_and_call_qkv(name: str) -> None:
    sam, targets = backbones.build(name, image_size=64), backbones.card(name).targets
    block = next(m for full, m in sam.named_modules() if re.fullmatch(targets.blocks, full))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for part in (targets.attention, targets.qkv, targets.mlp):
        block.get_submodule(part).register_forward_hook(
            lambda _module, given, out, part=part: seen.__setitem__(part, (given[0], out))
        )
    with torch.no_grad():
        sam.encode(torch.rand(1, 3, 64, 64))
    width = block.get_submodule(targets.proj).out_features
    for part in (targets.attention, targets.mlp):
        given, out = seen[part]
        assert given.shape == out.shape
        assert out.shape[-1] == width
    assert seen[targets.qkv][1].shape[-1] == 3 * width


@pytest.mark.parametrize("name", LIGHT)
def test_all_parameters_of_the_encoder_but_the_inert_get_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    sam, targets = backbones.build(name, image_size=64), backbones.card(name).targets
    logits, _ = sam.decode(sam.encode(torch.rand(1, 3, 64, 64)))
    logits.square().mean().backward()
    for key, parameter in sam.named_parameters():
        if key.startswith(targets.inert) and targets.inert:
            assert parameter.grad is None, key
        elif key.startswith("image_encoder.") or key in targets.default_prompt:
            assert parameter.grad is not None, key
