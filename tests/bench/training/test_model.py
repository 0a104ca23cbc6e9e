"""Building, counting and describing a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.training import model
from registry import strategies
from registry.errors import StrategyError

TOKENS = (1, 2, 3)


def prepared(backbone: str, strategy: str) -> Any:
    return model.prepare(
        backbone=backbone, strategy=strategy, options={}, image_size=64, checkpoint=None, tokens=TOKENS, seed=3
    )


def test_prepare_is_seeded_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first, second = prepared("sam_nano", "lora_qv"), prepared("sam_nano", "lora_qv")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    other = model.prepare(
        backbone="sam_nano",
        strategy="lora_qv",
        options={"rank": 2},
        image_size=64,
        checkpoint=None,
        tokens=(0,),
        seed=4,
    )
    weight = "image_encoder.patch_embed.proj.weight"
    assert not torch.equal(other.get_parameter(weight), first.get_parameter(weight))
    mark = strategies.applied(other)
    assert mark is not None
    assert (mark.options, mark.tokens, mark.added) == ({"rank": 2, "last_blocks": 0}, (0,), 4_096)
    assert not other.training


def test_training_mode_leaves_batch_norm_in_eval() -> None:
    sam = prepared("mobile_sam", "full")
    model.set_training_mode(sam)
    assert sam.training
    norms = [module for module in sam.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)
    assert all(module.training for module in sam.modules() if isinstance(module, nn.LayerNorm))


def test_counts_add_up() -> None:
    counts = model.count_parameters(prepared("sam_nano", "lora_qv"))
    assert counts == {
        "parameters_total": 5_619_632 + 8_192,
        "parameters_encoder": 1_555_072 + 8_192,
        "parameters_prompt_encoder": 6_220,
        "parameters_decoder": 4_058_340,
        "parameters_added": 8_192,
        "parameters_trainable": 8_192 + 3_785_920 + 256,
        "parameters_trainable_encoder": 8_192,
        "parameters_trainable_prompt_encoder": 256,
        "parameters_trainable_decoder": 3_785_920,
    }


def test_counts_of_a_model_without_a_strategy() -> None:
    from registry import backbones

    counts = model.count_parameters(backbones.build("sam_nano", 64))
    assert counts["parameters_total"] == 5_619_632
    assert counts["parameters_added"] == 0


def test_describe_merges_blocks_that_are_alike() -> None:
    root = model.describe(prepared("sam_nano", "lora_qv"))
    assert (root.name, root.parameters, root.trained) == ("sam", 5_627_824, 3_794_368)
    assert [child.name for child in root.children] == ["image_encoder", "prompt_encoder", "mask_decoder"]
    assert sum(child.parameters for child in root.children) == root.parameters
    encoder = root.children[0]
    assert [(n.name, n.kind, n.count) for n in encoder.children[:1]] == [("pos_embed", "Parameter", 1)]
    (blocks,) = (child for child in encoder.children if child.name == "blocks")
    # Windows and the whole grid have tables of relative positions of their own sizes.
    assert [(n.name, n.count, n.trained) for n in blocks.children] == [("0–2", 3, 2_048), ("3", 1, 2_048)]
    assert sum(n.count * n.parameters for n in blocks.children) == blocks.parameters


def test_describe_goes_as_deep_as_asked() -> None:
    sam = prepared("sam_nano", "lora_qv")
    assert model.describe(sam, depth=0).children == ()
    node = model.describe(sam, depth=6)
    for name in ("image_encoder", "blocks", "0–2", "attn", "qkv", "q"):
        (node,) = (child for child in node.children if child.name == name)
    assert (node.kind, node.trained) == ("LoRA Linear", 1_024)


def test_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(StrategyError, match=r"Did you mean 'rank'"):
        model.prepare(
            backbone="sam_nano",
            strategy="lora_qv",
            options={"ranks": 4},
            image_size=64,
            checkpoint=None,
            tokens=TOKENS,
            seed=0,
        )
