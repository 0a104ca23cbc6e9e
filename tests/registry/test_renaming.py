"""One table of names gives both directions, and restores the official names of every backbone."""

from __future__ import annotations

import json

import pytest
import torch
from official_files import golden

from registry import backbones
from registry.renaming import Renaming

RENAMING = Renaming(
    (
        (("a.{leaf}.c.weight", "a.{leaf}.conv.weight"),),
        (("a.layers.0.down.{leaf}", "a.stages.1.down.{leaf}"), ("a.layers.{n}.{leaf}", "a.stages.{n}.{leaf}")),
    )
)
NAMES = {
    "a.layers.0.down.c.weight": "a.stages.1.down.conv.weight",
    "a.layers.0.down.bias": "a.stages.1.down.bias",
    "a.layers.1.mlp.bias": "a.stages.1.mlp.bias",
    "a.layers.x.bias": "a.layers.x.bias",
    "b.layers.1.c.weight": "b.layers.1.c.weight",
}


def test_names_are_converted_by_the_first_template_that_fits() -> None:
    assert RENAMING.convert(NAMES) == {own: own for own in NAMES.values()}


def test_restored_names_are_the_official_ones() -> None:
    assert RENAMING.restore({own: name for name, own in NAMES.items()}) == {name: name for name in NAMES}


@pytest.mark.parametrize("name", ["mobile_sam", "tiny_sam", "efficient_sam_ti", "efficient_sam_s", "sam_vit_b"])
def test_a_backbone_s_tensors_restore_to_the_official_names_and_shapes(name: str) -> None:
    keys = json.loads(golden(f"{name}.keys.json").read_text())["state_dict"]
    entry = backbones.get(name)
    with torch.device("meta"):
        own = backbones.build(name).state_dict()
    official = entry.restore(own) if entry.restore else own
    assert {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in official.items()} == keys
    assert set(entry.convert(official) if entry.convert else official) == set(own)
