"""Head `distance_hr`: starts as `distance`, and trains a branch of the decoder that reads images and early features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry import backbones, export_merged, heads, strategies, trained
from registry.errors import StrategyError
from registry.features import Features
from registry.modules.high_resolution import HighResolution
from registry.prepared import prepare

SMALL = (("sam_nano", 64), ("lite_medsam", 32))
BRANCH = "mask_decoder.high_resolution."


def model(name: str, size: int, *, strategy: str = "decoder_only", head: str = "distance_hr") -> Any:
    return prepare(
        backbone=name,
        strategy=strategy,
        options={},
        image_size=size,
        checkpoint=None,
        tokens=(1, 2, 3),
        seed=3,
        head=head,
    )


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def check_start_and_gradients(name: str, size: int) -> None:
    plain, sam, given = model(name, size, head="distance"), model(name, size), images(size)
    new = {n: p for n, p in sam.named_parameters() if n.startswith(BRANCH)}
    assert set(dict(sam.named_parameters())) - set(new) == set(dict(plain.named_parameters()))
    with torch.no_grad():
        expected, _ = plain.decode(plain.encode(given))
    logits, _ = sam(given)
    assert torch.equal(logits, expected)
    optimizer = torch.optim.SGD(new.values(), lr=0.1)
    logits[:, 1:].square().mean().backward()
    optimizer.step()  # now the last convolution hands gradients on
    optimizer.zero_grad()
    sam(given)[0][:, 1:].square().mean().backward()
    assert [n for n, p in new.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_logits_start_as_those_of_distance_and_gradients_reach_every_new_parameter(name: str, size: int) -> None:
    check_start_and_gradients(name, size)


@pytest.mark.release
@pytest.mark.parametrize("name", backbones.names())
def test_logits_of_every_backbone_start_as_those_of_distance(name: str) -> None:
    check_start_and_gradients(name, backbones.card(name).size_multiple)


@pytest.mark.parametrize(
    ("cell", "early", "strides", "sides", "parameters"),
    [
        (4, {}, (), (32, 8), 47_104),  # a plain ViT
        (4, {4: 64, 8: 128}, (4,), (32, 8), 49_184),  # MobileSAM
        (1, {1: 64, 2: 128}, (1,), (16, 16), 49_184),  # LiteMedSAM
        (2, {1: 8, 8: 64}, (8,), (16, 8), 49_184),  # an early map that is coarser than the upscaled one
        (16, {}, (), (64, 4), 47_104),
        (0.5, {}, (), (8, 16), 47_104),  # an upscaled map that is finer than the image
    ],
)
def test_branch_has_the_size_of_the_upscaled_map(cell, early, strides, sides, parameters) -> None:
    image_side, side = sides
    branch = HighResolution(channels=32, cell=cell, early=early)
    maps = [torch.rand(1, early[s], image_side // s, image_side // s) for s in strides]
    added = branch(torch.rand(1, 32, side, side), torch.rand(1, 3, image_side, image_side), maps)
    assert branch.strides == strides and added.shape == (1, 32, side, side) and not added.any()
    assert sum(p.numel() for p in branch.parameters()) == parameters


def test_strategies_start_from_the_same_numbers_with_both_heads() -> None:
    states = [model("sam_nano", 64, strategy="lora_qv", head=head).state_dict() for head in ("distance", "distance_hr")]
    assert any(".lora_A" in name for name in states[0])
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("strategy", [name for name in strategies.names() if strategies.get(name).trains])
def test_every_strategy_that_trains_trains_the_branch(strategy: str) -> None:
    with torch.device("meta"):
        sam = model("sam_nano", 64, strategy=strategy)
    assert all(p.requires_grad for p in sam.branch.parameters())


def test_early_layers_are_trained_through_the_branch() -> None:
    sam = model("lite_medsam", 32, strategy="full")
    torch.nn.init.normal_(sam.branch.fusion[-1].weight)
    features = sam.decoder_input(images(32))
    detached = Features(features.image, {1: features[1], 4: features[4].detach()})
    sam.decode(detached)[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in sam.image_encoder.patch_embed.parameters())
    assert all(p.grad is None for p in sam.image_encoder.stages[1].parameters())


def test_prompts_are_decoded_without_the_branch_and_embeddings_alone_are_refused() -> None:
    sam, plain = model("sam_nano", 64), model("sam_nano", 64, head="distance")
    torch.nn.init.normal_(sam.branch.fusion[-1].weight)
    with torch.no_grad():
        embeddings, boxes = sam.encode(images(64, 1)), torch.tensor([[4.0, 4.0, 30.0, 30.0]])
        assert torch.equal(sam.decode(embeddings, boxes=boxes)[0], plain.decode(embeddings, boxes=boxes)[0])
        assert not torch.equal(sam(images(64, 1))[0], plain(images(64, 1))[0])
    with pytest.raises(ValueError, match=r"branch, which reads the images too: give what sam\.decoder_input\(images\)"):
        sam.decode(embeddings)
    with pytest.raises(ValueError, match=r"^the decoder of sam_nano has a high-resolution branch already"):
        heads.get("distance_hr").attach(sam)  # type: ignore[attr-defined]


def test_targets_loss_and_instances_are_those_of_distance() -> None:
    head, base = heads.get("distance_hr"), heads.get("distance")
    label_map = np.zeros((24, 24), np.int32)
    label_map[3:12, 3:12], label_map[13:20, 5:20] = 1, 2
    targets = head.targets(label_map)
    logits = 4 * torch.from_numpy(targets)[None] - 2
    assert np.array_equal(targets, base.targets(label_map))
    assert torch.equal(head.loss(logits, torch.rand(1, 3, 24, 24, generator=torch.manual_seed(0))),
                       base.loss(logits, torch.rand(1, 3, 24, 24, generator=torch.manual_seed(0))))  # fmt: skip
    assert np.array_equal(head.instances(logits[0]), base.instances(logits[0]))
    assert heads.starts(head) == heads.starts(base) and (head.search, head.channels) == (base.search, base.channels)
    with pytest.raises(StrategyError, match="head 'distance_hr'"):
        head.instances(logits[0], unknown=1.0)


def test_branch_is_saved_and_loaded_with_the_trained_part_and_has_no_place_in_the_official_format(
    tmp_path: Path,
) -> None:
    sam = model("sam_nano", 64, strategy="lora_qv")
    torch.nn.init.normal_(sam.branch.fusion[-1].weight)
    trained.save(sam, "lora_qv", tmp_path)
    other = model("sam_nano", 64, strategy="lora_qv")
    trained.load(other, tmp_path)
    with torch.no_grad():
        assert torch.equal(other(images(64))[0], sam(images(64))[0])
    with pytest.raises(StrategyError, match=r"^the run's head adds a high-resolution branch .*Export without --merged"):
        export_merged.check(sam)
