"""Trained part on disk: PEFT's format, strict loading, files written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from registry import backbones, strategies, trained
from registry.errors import WeightsError

TRAINING = ("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")


def build(strategy: str, backbone: str = "sam_nano", seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    sam = backbones.build(backbone, 64)
    strategies.apply(strategy, sam, **options)
    return sam


def disturb(sam: Any) -> Any:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in sam.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return sam


def predict(sam: Any) -> torch.Tensor:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return sam.decode(sam.encode(images))[0]


@pytest.mark.parametrize("strategy", TRAINING)
@pytest.mark.parametrize("backbone", ["sam_nano", "mobile_sam", "efficient_sam_ti"])
def test_a_new_model_predicts_the_same_after_loading(backbone: str, strategy: str, tmp_path: Path) -> None:
    sam = disturb(build(strategy, backbone))
    written = trained.save(sam, strategy, tmp_path)
    files = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert written == sum(files.values())
    lora = {trained.LORA_WEIGHTS, trained.LORA_CONFIG} if strategy.startswith("lora") else set()
    assert set(files) == {trained.OTHERS} | lora
    fresh = build(strategy, backbone)
    assert not torch.equal(predict(fresh), predict(sam))
    trained.load(fresh, tmp_path)
    assert torch.equal(predict(fresh), predict(sam))
    assert not fresh.training


def test_only_the_trained_part_is_written(tmp_path: Path) -> None:
    sam = build("lora_qv")
    trained.save(sam, "lora_qv", tmp_path)
    others, lora = load_file(tmp_path / trained.OTHERS), load_file(tmp_path / trained.LORA_WEIGHTS)
    assert sum(tensor.numel() for tensor in lora.values()) == 8_192
    assert sum(tensor.numel() for tensor in others.values()) == 3_786_176
    assert "base_model.model.image_encoder.blocks.0.attn.qkv.q.lora_A.weight" in lora


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    earlier = os.umask(umask)
    try:
        trained.save(build("lora_qv"), "lora_qv", tmp_path)
    finally:
        os.umask(earlier)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {trained.OTHERS: mode, trained.LORA_WEIGHTS: mode, trained.LORA_CONFIG: mode}


def test_zero_shot_writes_nothing(tmp_path: Path) -> None:
    sam = build("zero_shot")
    assert trained.save(sam, "zero_shot", tmp_path / "trained") == 0
    assert not (tmp_path / "trained").exists()
    trained.load(sam, tmp_path / "trained")


@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear"])
def test_peft_loads_the_lora_part(strategy: str, tmp_path: Path) -> None:
    from peft import PeftModel

    from registry.modules.split_qkv import SplitQkv

    sam = disturb(build(strategy))
    trained.save(sam, strategy, tmp_path)
    # The backbone with what else was trained, but without LoRA: just the split that gives q and v names.
    torch.manual_seed(0)
    plain = backbones.build("sam_nano", 64)
    if strategy == "lora_qv":
        for block in plain.image_encoder.blocks:
            block.attn.qkv = SplitQkv(block.attn.qkv, "contiguous", 32)
    plain.load_state_dict(load_file(tmp_path / trained.OTHERS), strict=False)
    assert not torch.equal(predict(plain), predict(sam))
    loaded = PeftModel.from_pretrained(plain, str(tmp_path))
    assert torch.equal(predict(loaded.base_model.model), predict(sam))
    config = loaded.peft_config["default"]
    assert (config.r, config.lora_alpha, config.inference_mode) == (4, 4, True)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        trained.save(build("lora_qv"), "lora_qv", tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    names = json.loads((tmp_path / "a" / trained.LORA_CONFIG).read_text())["target_modules"]
    assert names == sorted(names)


# --- strictness ---------------------------------------------------------------------------------------------


def rewrite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata=metadata)


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path) -> None:
    sam = build("lora_qv")
    trained.save(sam, "lora_qv", tmp_path)
    others, lora = load_file(tmp_path / trained.OTHERS), load_file(tmp_path / trained.LORA_WEIGHTS)
    del others["mask_decoder.iou_token.weight"]
    others["mask_decoder.extra"] = torch.zeros(1)
    key = "image_encoder.blocks.2.attn.qkv.v.lora_B.weight"
    del lora[f"base_model.model.{key}"]
    rewrite(tmp_path / trained.OTHERS, others)
    rewrite(tmp_path / trained.LORA_WEIGHTS, lora)
    fresh = build("lora_qv", seed=1)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(WeightsError) as raised:
        trained.load(fresh, tmp_path)
    assert f"missing: {key}, mask_decoder.iou_token.weight; unexpected: mask_decoder.extra" in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    trained.save(build("decoder_only"), "decoder_only", tmp_path)
    others = load_file(tmp_path / trained.OTHERS)
    others["mask_decoder.iou_token.weight"] = torch.zeros(1, 128)
    rewrite(tmp_path / trained.OTHERS, others)
    with pytest.raises(
        WeightsError, match=r"of another shape: mask_decoder.iou_token.weight is \(1, 128\), not \(1, 256\)"
    ):
        trained.load(build("decoder_only"), tmp_path)


@pytest.mark.parametrize(
    ("strategy", "options", "text"),
    [
        ("lora_qv", {"rank": 2}, r"saved with options {'last_blocks': 0, 'rank': 4}, but the model has {'rank': 2,"),
        ("lora_all_linear", {}, r"saved with strategy lora_qv, but the model has lora_all_linear"),
        ("lora_qv", {"tokens": (0,)}, r"saved with tokens \[1, 2, 3\], but the model has \[0\]"),
    ],
)
def test_other_settings_are_refused(strategy: str, options: dict[str, Any], text: str, tmp_path: Path) -> None:
    trained.save(build("lora_qv"), "lora_qv", tmp_path)
    with pytest.raises(WeightsError, match=text):
        trained.load(build(strategy, **options), tmp_path)


def test_a_trained_part_saved_before_an_option_existed_is_that_of_its_neutral_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam, mark = build("lora_qv"), trained._mark
    monkeypatch.setattr(trained, "_mark", lambda *given: {**mark(*given), "options": {"rank": 4}})
    trained.save(sam, "lora_qv", tmp_path)
    monkeypatch.setattr(trained, "_mark", mark)
    trained.load(build("lora_qv"), tmp_path)
    with pytest.raises(WeightsError, match=r"saved with options {'rank': 4}, but the model has {'rank': 4, 'last_"):
        trained.load(build("lora_qv", last_blocks=1), tmp_path)


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    trained.save(build("decoder_only", "mobile_sam"), "decoder_only", tmp_path)
    with pytest.raises(WeightsError, match=r"saved with backbone mobile_sam, but the model has sam_nano"):
        trained.load(build("decoder_only"), tmp_path)


def test_a_changed_configuration_is_refused(tmp_path: Path) -> None:
    trained.save(build("lora_qv"), "lora_qv", tmp_path)
    config = json.loads((tmp_path / trained.LORA_CONFIG).read_text())
    (tmp_path / trained.LORA_CONFIG).write_text(json.dumps(config | {"lora_alpha": 32}))
    with pytest.raises(WeightsError, match=r"lora_alpha = 32, but the model's LoRA has 4"):
        trained.load(build("lora_qv"), tmp_path)


@pytest.mark.parametrize("name", [trained.OTHERS, trained.LORA_WEIGHTS, trained.LORA_CONFIG])
@pytest.mark.parametrize("damage", ["absent", "cut off"])
def test_missing_and_cut_off_files_are_refused(name: str, damage: str, tmp_path: Path) -> None:
    trained.save(build("lora_qv"), "lora_qv", tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=rf"{name} can't be read .*train again, or restore the file"):
        trained.load(build("lora_qv"), tmp_path)


def test_saving_under_another_strategy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the model carries 'decoder_only', not 'full'"):
        trained.save(build("decoder_only"), "full", tmp_path)
    with pytest.raises(WeightsError, match=r"the model carries no strategy, not 'full'"):
        trained.save(backbones.build("sam_nano", 64), "full", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_earlier_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sam = build("lora_qv")
    trained.save(sam, "lora_qv", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trained, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trained.save(disturb(sam), "lora_qv", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_channels_last_weights_are_saved(tmp_path: Path) -> None:
    sam = disturb(build("full")).to(memory_format=torch.channels_last)
    assert not sam.image_encoder.patch_embed.proj.weight.is_contiguous()
    trained.save(sam, "full", tmp_path)
    fresh = build("full")
    trained.load(fresh, tmp_path)
    for expected, loaded in zip(sam.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(expected, loaded)


def test_batch_norm_statistics_are_not_written(tmp_path: Path) -> None:
    """No strategy changes them; see `bench.training.model.set_training_mode`."""
    sam = build("full", "mobile_sam")
    assert any(isinstance(module, nn.BatchNorm2d) for module in sam.modules())
    trained.save(sam, "full", tmp_path)
    assert not any("running" in name for name in load_file(tmp_path / trained.OTHERS))
