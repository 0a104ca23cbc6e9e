"""Architecture of built models: every parameter stands in one box, and a block's boxes are what is computed."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from torch import nn

from bench.architecture import parts
from bench.architecture.graph import Counts, Graph, total
from bench.training import model
from registry import backbones, strategies
from registry.errors import StrategyError, UnknownNameError

SOME = [("sam_nano", "full"), ("mobile_sam", "adapter")]
OTHERS = [pair for pair in product(backbones.names(), strategies.names()) if pair not in SOME]


@cache
def read(backbone: str, strategy: str) -> parts.Architecture:
    return parts.read(backbone, strategy, image_size=256)


def described(graph: Graph) -> set[tuple[str, str]]:
    """Edges by the titles of their boxes; sums by their number."""
    sums = [key for key, node in graph.nodes.items() if node.kind == "add"]
    name = {key: f"+{sums.index(key) + 1}" if key in sums else node.title for key, node in graph.nodes.items()}
    return {(name[tail], name[head]) for tail, head in graph.edges}


def check_counts(backbone: str, strategy: str) -> None:
    found = read(backbone, strategy)
    shown = total(node.counts for graph in (found.encoder, found.decoder) for node in graph.nodes.values())
    assert shown + found.unused == found.counts["model"]
    with torch.device("meta"):
        sam = model.prepare(
            backbone=backbone, strategy=strategy, options={}, image_size=256, checkpoint=None, tokens=(1, 2, 3), seed=0
        )
    expected, counts = model.count_parameters(sam), found.counts["model"]
    assert counts.total == expected["parameters_total"]
    assert counts.added == expected["parameters_added"]
    assert counts.trained + counts.added == expected["parameters_trainable"]
    assert found.counts["image_encoder"].total == expected["parameters_encoder"]
    assert found.counts["mask_decoder"].trained == expected["parameters_trainable_decoder"]
    assert bool(found.equations) == bool(counts.added)


@pytest.mark.parametrize(("backbone", "strategy"), SOME)
def test_boxes_hold_every_parameter_once(backbone, strategy):
    check_counts(backbone, strategy)


@pytest.mark.release
@pytest.mark.parametrize(("backbone", "strategy"), OTHERS)
def test_boxes_of_every_pair_hold_every_parameter_once(backbone, strategy):
    check_counts(backbone, strategy)


def test_block_with_lora_on_q_and_v_is_the_one_that_the_forward_pass_computes():
    found = parts.read("sam_nano", "lora_qv", options={"rank": 8})
    assert described(found.block) == {
        *(("x", "norm1"), ("norm1", "q"), ("norm1", "k"), ("norm1", "v"), ("norm1", "LoRA")),
        *(("q", "+1"), ("LoRA", "+1"), ("v", "+2"), ("LoRA", "+2")),
        *(("+1", "attention"), ("k", "attention"), ("+2", "attention"), ("attention", "proj"), ("proj", "+3")),
        *(("x", "+3"), ("+3", "norm2"), ("norm2", "lin1"), ("lin1", "lin2"), ("lin2", "+4"), ("+3", "+4"), ("+4", "y")),
    }
    (equation,) = found.equations
    assert equation.place == "beside q, v"
    assert equation.formula == r"$y = W x + \frac{\alpha}{r}\,B A\,x$"
    assert (
        r"\mathbb{R}^{8 \times 128}$, $B" in equation.dimensions and r"$r = 8$, $\alpha/r = 1$" in equation.dimensions
    )
    attention = next(node for node in found.block.nodes.values() if node.kind == "core")
    assert attention.layers[0].kind == "4 heads of 32"
    assert found.block_title == "block 1 of 4: image_encoder.blocks.0"


def test_adapters_stand_behind_the_attention_and_beside_the_mlp_with_their_scale():
    found = read("mobile_sam", "adapter")
    edges = described(found.block)
    assert {("x", "norm"), ("proj", "adapter"), ("adapter", "+1"), ("proj", "+1"), ("x", "+2"), ("+1", "+2")} <= edges
    assert {("+2", "local conv"), ("norm", "adapter"), ("fc2", "+3"), ("local conv", "+4"), ("+4", "y")} <= edges
    assert sorted(found.block.edges.values())[:2] == [0.5, 1]
    assert [(e.place, e.formula) for e in found.equations] == [
        ("after proj", r"$y = h + \mathrm{up}(\mathrm{GELU}(\mathrm{down}(h)))$"),
        ("beside fc1–fc2", r"$y = f(x) + 0.5\,\mathrm{up}(\mathrm{GELU}(\mathrm{down}(x)))$"),
    ]
    assert found.equations[0].dimensions == r"$\mathrm{down}$: 160 → 40, $\mathrm{up}$: 40 → 160"


def test_encoder_is_shown_by_stages_with_shapes_and_numbers_of_blocks():
    encoder = list(read("mobile_sam", "adapter").encoder.nodes.values())
    assert [(node.title, node.shape) for node in encoder] == [
        ("image", (3, 256, 256)),
        ("patch embed", (64, 64, 64)),
        ("stages 0", (64, 64, 64)),
        ("stages 1", (32, 32, 128)),
        ("stages 2", (16, 16, 160)),
        ("stages 3", (16, 16, 320)),
        ("neck", (256, 16, 16)),
        ("embedding", (256, 16, 16)),
    ]
    assert [layer.kind for layer in encoder[4].layers] == ["PatchMerging", "6 × TinyVitBlock"]
    nano = read("sam_nano", "full").encoder
    assert described(nano) == {
        *(("image", "patch embed"), ("patch embed", "blocks"), ("pos embed", "blocks")),
        *(("blocks", "neck"), ("neck", "embedding")),
    }
    assert next(node.count for node in nano.nodes.values() if node.title == "blocks") == 4


def test_decoder_tells_hypernetworks_that_are_trained_from_those_that_are_not():
    decoder = read("sam_nano", "full").decoder
    titles = {node.title: node.counts for node in decoder.nodes.values()}
    assert titles["output hypernetworks mlps 0"].present().keys() == {"frozen"}
    assert titles["output hypernetworks mlps 1–3"].present().keys() == {"trained"}
    assert titles["prompt encoder"] == Counts(frozen=5964, trained=256)
    assert {("prompt encoder", "transformer"), ("embedding", "+1"), ("+1", "transformer")} <= described(decoder)


def test_branch_of_a_head_is_drawn_with_the_image_and_the_early_features_that_it_reads():
    found = parts.read("lite_medsam", "decoder_only", head="distance_hr", image_size=32)
    assert "features, stride 1" in found.encoder.nodes
    branch = "mask_decoder.high_resolution"
    assert found.decoder.nodes[branch].counts.added == found.counts["model"].added == 49_184
    sources = {source for source, target in found.decoder.edges if target == branch}
    assert {"image", "features, stride 1", "mask_decoder.output_upscaling"} == sources


def test_strategy_of_a_third_party_is_drawn_from_what_it_does(monkeypatch):
    class Gate(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer, self.gate = layer, nn.Linear(layer.in_features, layer.out_features).to(layer.weight.device)

        def forward(self, x):
            return self.layer(x) + 3 * self.gate(x)

    def apply(sam, *, tokens):
        sam.requires_grad_(False)
        block = sam.image_encoder.blocks[0]
        block.mlp.lin2 = Gate(block.mlp.lin2)
        block.norm1.bias.requires_grad_(True)

    monkeypatch.setattr(strategies._store, "_entries", dict(strategies._store._entries))
    strategies.register("gates", summary="s", source="s", encoder_lr=1e-3)(apply)
    found = parts.read("sam_nano", "gates", image_size=64)
    assert (found.counts["model"].added, found.counts["model"].trained) == (512 * 128 + 128, 128)
    (equation,) = found.equations
    assert (equation.place, equation.formula) == ("beside layer", r"$y = f(x) + 3\,\mathrm{gate}(x)$")
    norm = next(node for node in found.block.nodes.values() if node.title == "norm1")
    assert norm.counts == Counts(frozen=128, trained=128)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(UnknownNameError, match="sam_nano"):
        parts.read("sam_nan", "full")
    with pytest.raises(UnknownNameError, match="lora_qv"):
        parts.read("sam_nano", "lora_q")
    with pytest.raises(StrategyError, match="rank"):
        parts.read("sam_nano", "lora_qv", options={"rank": 10_000})


def test_backbone_that_reads_values_while_it_is_built_is_read_too(monkeypatch):
    entry = backbones.get("sam_nano")

    def build(image_size):
        assert float(torch.ones(1)) == 1  # raises on the meta device
        return entry.build(image_size)

    monkeypatch.setitem(backbones._store._entries, "sam_nano", type(entry)(card=entry.card, build=build))
    found = parts.read("sam_nano", "lora_qv", image_size=64)
    assert found.counts["model"].added == 8192
