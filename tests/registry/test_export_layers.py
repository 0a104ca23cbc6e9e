"""The trained part on the plain backbone: `peft` alone loads a LoRA whose layers a strategy had split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_models import (
    LARGEST,
    Halves,
    NamedHalves,
    by_peft_alone,
    difference,
    on_halves,
    outputs,
    registered,
    trained_model,
)
from safetensors.torch import load_file
from strategy_models import ALL, build
from torch import nn

from registry import export_layers, strategies, trained
from registry.errors import StrategyError, WeightsError
from registry.modules.split_qkv import SplitQkv

LORA = ("lora_qv", "lora_all_linear")


@pytest.mark.parametrize("layout", ["contiguous", "per_head"])
def test_the_parts_of_a_fused_layer_fill_its_rows(layout: Any) -> None:
    fused = nn.Linear(8, 24)
    split = SplitQkv(fused, layout, 4)
    weight = torch.zeros(24, 8)
    for name, rows in split.fused_rows().items():
        weight[rows] = split.get_submodule(name).weight
    assert torch.equal(weight, fused.weight)


def test_q_of_the_per_head_layout_has_the_first_rows_of_every_head() -> None:
    assert SplitQkv(nn.Linear(8, 24), "per_head", 4).fused_rows()["q"].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert SplitQkv(nn.Linear(8, 24), "contiguous", 4).fused_rows()["q"].tolist() == list(range(8))


@pytest.mark.parametrize("strategy", LORA)
def test_peft_alone_gives_the_outputs_of_the_trained_model(strategy: str, tmp_path: Path) -> None:
    sam = trained_model(strategy)
    trained.save_plain(sam, tmp_path)
    loaded = by_peft_alone(tmp_path)
    assert difference(outputs(loaded), outputs(sam)) <= LARGEST
    with loaded.disable_adapter():
        assert difference(outputs(loaded), outputs(sam)) > 1000 * LARGEST
    rank = 8 if strategy == "lora_qv" else 4
    config = json.loads((tmp_path / trained.LORA_CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (rank, rank)
    assert config["target_modules"][0] == "image_encoder.blocks.0.attn." + ("proj" if rank == 4 else "qkv")


@pytest.mark.release
@pytest.mark.parametrize("strategy", LORA)
@pytest.mark.parametrize("backbone", ALL[1:])
def test_peft_alone_gives_the_outputs_of_every_backbone(backbone: str, strategy: str, tmp_path: Path) -> None:
    sam = trained_model(strategy, backbone)
    trained.save_plain(sam, tmp_path)
    expected = outputs(sam)
    del sam  # of ViT-H, two need 5 GB
    loaded = by_peft_alone(tmp_path, backbone)
    assert difference(outputs(loaded), expected) <= LARGEST
    with loaded.disable_adapter():
        assert difference(outputs(loaded), expected) > 1000 * LARGEST


def test_k_s_rows_of_b_are_zero(tmp_path: Path) -> None:
    trained.save_plain(trained_model("lora_qv"), tmp_path)
    b = load_file(tmp_path / trained.LORA_WEIGHTS)["base_model.model.image_encoder.blocks.0.attn.qkv.lora_B.weight"]
    q, k, v = b.chunk(3)
    assert b.shape == (384, 8)
    assert not k.any() and not q[:, 4:].any() and not v[:, :4].any()
    assert q[:, :4].all() and v[:, 4:].all()


@pytest.mark.parametrize("strategy", [*LORA, "adapter", "decoder_only", "full"])
def test_the_strategy_s_own_model_reads_the_plain_files_bit_for_bit(strategy: str, tmp_path: Path) -> None:
    sam = trained_model(strategy)
    written = trained.save_plain(sam, tmp_path)
    assert written == sum(path.stat().st_size for path in tmp_path.iterdir())
    again = build("sam_nano", 64)
    strategies.apply(strategy, again)
    trained.load(again, tmp_path)
    assert torch.equal(outputs(again), outputs(sam))


def test_plain_files_of_another_rank_are_refused(tmp_path: Path) -> None:
    trained.save_plain(trained_model("lora_qv"), tmp_path)
    other = build("sam_nano", 64)
    strategies.apply("lora_qv", other, rank=2)
    with pytest.raises(
        WeightsError, match=r"options \{'last_blocks': 0, 'rank': 4\}, but the model has \{'rank': 2, 'la"
    ):
        trained.load(other, tmp_path)


def test_plain_files_without_a_tensor_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    sam = trained_model("lora_qv")
    trained.save_plain(sam, tmp_path)
    path = tmp_path / trained.LORA_WEIGHTS
    tensors = load_file(path)
    del tensors["base_model.model.image_encoder.blocks.0.attn.qkv.lora_B.weight"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"missing: image_encoder\.blocks\.0\.attn\.qkv\.lora_B\.weight"):
        trained.load(sam, tmp_path)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        trained.save_plain(trained_model("lora_qv"), tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


# --- strategies of third parties ------------------------------------------------------------------------------


def rank_stabilised(names: list[str]) -> Any:
    """Two ranks, a scale other than 1, and one layer that no strategy splits."""
    from peft import LoraConfig

    whole = "image_encoder.blocks.1.attn.proj"
    ranks = {names[0]: 3, whole: 5}
    return LoraConfig(r=2, lora_alpha=3, rank_pattern=ranks, use_rslora=True, target_modules=[*names, whole])


def dora(names: list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=names)


@pytest.mark.parametrize("config", [None, rank_stabilised])
def test_any_split_that_names_its_rows_becomes_one_lora(config: Any, tmp_path: Path) -> None:
    def apply(sam: Any, *, tokens: tuple[int, ...]) -> None:
        on_halves(NamedHalves, sam, tokens, config)

    with registered(apply) as name:
        sam = trained_model(name)
        trained.save_plain(sam, tmp_path)
        again = build("sam_nano", 64)
        strategies.apply(name, again)
        trained.load(again, tmp_path)
    assert difference(outputs(again), outputs(sam)) <= LARGEST
    others = load_file(tmp_path / trained.OTHERS)
    assert others["image_encoder.blocks.0.mlp.lin1.bias"].shape == (512,)
    assert difference(outputs(by_peft_alone(tmp_path)), outputs(sam)) <= LARGEST


def test_a_split_that_does_not_name_its_rows_is_refused(tmp_path: Path) -> None:
    def apply(sam: Any, *, tokens: tuple[int, ...]) -> None:
        on_halves(Halves, sam, tokens)

    with registered(apply) as name, pytest.raises(StrategyError) as raised:
        trained.save_plain(trained_model(name), tmp_path)
    assert "the adapter is on 'image_encoder.blocks.0.mlp.lin1.second', which the plain SAM nano does not" in str(
        raised.value
    )
    assert "needs a method fused_rows" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_dora_on_a_part_is_refused(tmp_path: Path) -> None:
    def apply(sam: Any, *, tokens: tuple[int, ...]) -> None:
        on_halves(NamedHalves, sam, tokens, dora)

    with registered(apply) as name, pytest.raises(StrategyError, match=r"is no plain LoRA, so it can't be written"):
        trained.save_plain(trained_model(name), tmp_path)


def test_scattered_tensors_are_those_that_were_gathered() -> None:
    sam = trained_model("lora_qv")
    places, lora = export_layers.own_places(sam), export_layers.lora_state(sam)
    state = {name: tensor for name, tensor in sam.state_dict().items() if name in places}
    plain = export_layers.gather(state, places)
    assert plain.keys() == build("sam_nano", 64).state_dict().keys()
    again = export_layers.scatter(plain, places)
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    assert all(".lora_" in name for name in sam.state_dict().keys() - state.keys()) and len(lora) == 16
