"""`bench show`: the tree of modules, from a model without weights."""

from __future__ import annotations

import pytest
import torch
from matplotlib.text import Text
from rich.console import Console
from typer.testing import CliRunner

from bench.cli import app, catalog
from bench.errors import BenchError
from bench.training import model
from registry import backbones
from registry.errors import StrategyError


def test_the_tree_is_made_without_weights_and_equals_that_of_a_real_model():
    shown = catalog._built("sam_nano", "lora_qv", catalog.ModelSettings())
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


def test_options_and_image_size_are_those_of_the_shown_model():
    settings = catalog.model_settings("sam_nano", "lora_qv", ["strategy.rank=8", "image_size=128"])
    assert settings == catalog.ModelSettings({"rank": 8}, 128)
    small, large = (
        catalog._built("sam_nano", "lora_qv", catalog.ModelSettings({"rank": rank}, 128)) for rank in (4, 8)
    )
    assert large.image_size == 128
    counts = [sum(p.numel() for p in sam.image_encoder.parameters() if p.requires_grad) for sam in (small, large)]
    assert counts[1] == 2 * counts[0]


def test_tree_has_the_modules_that_the_head_adds_to_the_decoder():
    settings = catalog.model_settings("lite_medsam", None, ["head=distance_hr"])
    assert settings == catalog.ModelSettings(head="distance_hr")
    sam = catalog._built("lite_medsam", "decoder_only", settings)
    assert [p.requires_grad for p in sam.branch.parameters()] == [True] * 12
    assert catalog._built("lite_medsam", "decoder_only", catalog.ModelSettings()).branch is None


def test_the_figure_has_options_and_image_size(tmp_path, monkeypatch):
    texts = []

    def save(figure, path):
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return path

    monkeypatch.setattr("bench.report.canvas.save", save)
    words = ["--figure", str(tmp_path / "a.svg"), "--set", "strategy.rank=8", "--set", "image_size=128"]
    done = CliRunner().invoke(app, ["show", "sam_nano", "lora_qv", *words])
    assert done.exit_code == 0, done.output
    assert "lora_qv (rank = 8), input 128 × 128" in " ".join(texts)


@pytest.mark.parametrize(
    ("strategy", "text", "message"),
    [
        ("lora_qv", "strategy.rnk=8", r"unknown setting 'strategy\.rnk'\. Did you mean 'strategy\.rank'\?"),
        ("full", "strategy.rank=8", r"Known: head, image_size\. All others change no module\."),
        (None, "strategy.rank=8", r"Name a strategy to set its options\."),
        ("lora_qv", "train.lr=0.1", r"--set train\.lr: unknown setting"),
        ("lora_qv", "image_size=100", r"--set image_size: image_size 100 is not a positive multiple of 64; try 128\."),
        ("lora_qv", "strategy.rank=x", r"strategy\.rank='x' is not of type int"),
    ],
)
def test_settings_that_change_no_module_are_refused(strategy, text, message):
    with pytest.raises(BenchError, match=message):
        catalog.model_settings("sam_nano", strategy, [text])
