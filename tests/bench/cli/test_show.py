"""`bench show`: the tree of modules, from a model without weights."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from bench.cli import catalog
from bench.training import model
from registry import backbones
from registry.errors import StrategyError


def test_the_tree_is_made_without_weights_and_equals_that_of_a_real_model():
    shown = catalog._built("sam_nano", "lora_qv")
    assert {p.device.type for p in shown.parameters()} == {"meta"}
    real = model.prepare(
        backbone="sam_nano", strategy="lora_qv", options={}, image_size=256, checkpoint=None, tokens=(1, 2, 3), seed=0
    )
    assert model.describe(shown, 5) == model.describe(real, 5)


def test_a_backbone_that_reads_values_while_it_is_built_is_shown_too(monkeypatch):
    entry = backbones.get("sam_nano")

    def build(image_size):
        assert float(torch.ones(1)) == 1  # raises on the meta device
        return entry.build(image_size)

    monkeypatch.setitem(backbones._store._entries, "sam_nano", type(entry)(card=entry.card, build=build))
    console = Console(width=120, record=True)
    for part in catalog.show("sam_nano", "decoder_only", 1):
        console.print(part)
    assert "mask_decoder" in console.export_text()


def test_an_error_of_a_strategy_is_raised_once(monkeypatch):
    calls = []

    def prepare(**_):
        calls.append(1)
        raise StrategyError("not for this backbone")

    monkeypatch.setattr(model, "prepare", prepare)
    with pytest.raises(StrategyError, match="not for this backbone"):
        list(catalog.show("sam_nano", "full", 1))
    assert calls == [1]
