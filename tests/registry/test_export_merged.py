"""Merged checkpoints: the original projects' code loads them, and the outputs are those of the fine-tuned model."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_models import SIZE, difference, outputs, registered, trained_model
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as OfficialSam
from strategy_models import ALL, build
from torch import nn

from registry import backbones, export_merged
from registry.errors import StrategyError, WeightsError

MERGED = 1e-5
"""Largest relative difference that adding B·A to a weight in float32 may cause."""


@pytest.fixture(autouse=True)
def unchanged_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    backbones.names()
    monkeypatch.setattr(backbones._store, "_entries", dict(backbones._store._entries))


def change_entry(name: str, **changes: Any) -> None:
    """Replace fields of a registered backbone."""
    backbones._store._entries[name] = dataclasses.replace(backbones.get(name), **changes)


def official_nano() -> OfficialSam:
    """Build SAM nano by the original project's classes: SAM with 4 blocks of width 128 for images of 256 pixels."""
    return OfficialSam(
        image_encoder=ImageEncoderViT(
            img_size=256,
            embed_dim=128,
            depth=4,
            num_heads=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(3,),
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=256, image_embedding_size=(16, 16), input_image_size=(256, 256), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
        ),
    ).eval()


def by_the_original_code(sam: OfficialSam, images: torch.Tensor) -> torch.Tensor:
    """Return all mask tokens' logits of images in [0, 1] without prompts, computed by segment_anything."""
    with torch.no_grad():
        embeddings = sam.image_encoder(torch.stack([sam.preprocess(255 * image) for image in images]))
        sparse, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        logits, _ = sam.mask_decoder.predict_masks(
            image_embeddings=embeddings,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
    return logits


def saved(sam: Any, folder: Path) -> Path:
    path = folder / export_merged.filename(sam)
    export_merged.save(sam, path)
    return path


@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear"])
def test_the_original_classes_load_it_and_compute_the_same(strategy: str, tmp_path: Path) -> None:
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    tuned = trained_model(strategy)
    path = saved(tuned, tmp_path)
    sam = build("sam_nano", 256)
    sam.load_state_dict(torch.load(path, weights_only=True))
    official = official_nano()
    before = by_the_original_code(official, images)
    official.load_state_dict(torch.load(path, weights_only=True))  # strict, as the original code does
    with torch.no_grad():
        expected = sam.eval().decode(sam.encode(images))[0]
    assert difference(by_the_original_code(official, images), expected) <= MERGED
    assert difference(before, expected) > 0.01


@pytest.mark.parametrize("strategy", ["lora_qv", "full"])
def test_build_loads_it_with_the_outputs_of_the_fine_tuned_model(strategy: str, tmp_path: Path) -> None:
    sam = trained_model(strategy)
    expected = outputs(sam)
    again = backbones.build("sam_nano", SIZE, checkpoint=saved(sam, tmp_path))
    assert difference(outputs(again), expected) <= MERGED


@pytest.mark.release
@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear", "full"])
@pytest.mark.parametrize("backbone", ALL[1:])
def test_build_loads_the_merged_file_of_every_backbone(backbone: str, strategy: str, tmp_path: Path) -> None:
    sam = trained_model(strategy, backbone)
    expected = outputs(sam)
    path = saved(sam, tmp_path)
    del sam
    assert difference(outputs(backbones.build(backbone, SIZE, checkpoint=path)), expected) <= MERGED


def test_names_and_nesting_are_those_of_the_authors(tmp_path: Path) -> None:
    sam = trained_model("lora_qv", "efficient_sam_ti")
    expected = outputs(sam)
    path = saved(sam, tmp_path)
    assert path.name == "efficient_sam_ti_merged.pt"
    content = torch.load(path, weights_only=True)
    assert list(content) == ["model"]
    names = {"mask_decoder.iou_prediction_head.fc.weight", "image_encoder.blocks.0.attn.qkv.weight"}
    assert names <= set(content["model"])
    assert difference(outputs(backbones.build("efficient_sam_ti", SIZE, checkpoint=path)), expected) <= MERGED


@pytest.mark.release
def test_segment_anything_loads_vit_b_and_computes_the_same(tmp_path: Path) -> None:
    from segment_anything import sam_model_registry
    from strategy_models import build

    from registry import strategies

    sam = build("sam_vit_b", 1024)
    strategies.apply("lora_qv", sam)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in sam.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    images = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = sam.eval().decode(sam.encode(images))[0]
    path = saved(sam, tmp_path)
    del sam
    official = sam_model_registry["vit_b"](checkpoint=str(path)).eval()
    # segment_anything adds the relative positions to the product in another order than fused attention does.
    assert difference(by_the_original_code(official, images), expected) <= 1e-4


def test_the_same_model_gives_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("a.pth", "another_name.pt"):
        export_merged.save(trained_model("lora_qv"), tmp_path / name)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another_name.pt").read_bytes()


def test_a_check_changes_nothing() -> None:
    sam = trained_model("lora_qv")
    before = outputs(sam)
    export_merged.check(sam)
    assert torch.equal(outputs(sam), before)
    assert not any(module.merged for module in sam.modules() if hasattr(module, "lora_A"))


# --- refusals --------------------------------------------------------------------------------------------------


def test_adapters_are_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(StrategyError) as raised:
        saved(trained_model("adapter"), tmp_path)
    text = str(raised.value)
    assert text.startswith("'adapter' adds 32 tensors that the official format of SAM nano has no place for (image_enc")
    assert "Export without --merged and load the folder with registry.load, or train a strategy whose" in text
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_without_inverse_is_refused(tmp_path: Path) -> None:
    sam = trained_model("lora_qv")
    change_entry("sam_nano", convert=dict, restore=None)
    with pytest.raises(WeightsError, match=r"registers how to read their names, not how to restore them"):
        saved(sam, tmp_path)


def test_a_wrong_inverse_is_refused(tmp_path: Path) -> None:
    sam = trained_model("decoder_only")
    change_entry(
        "sam_nano",
        convert=lambda official: {f"{name}.x": tensor for name, tensor in official.items()},
        restore=lambda own: dict(own),
    )
    with pytest.raises(
        WeightsError, match=r"restore of the backbone 'sam_nano' is not the inverse of its convert: 202"
    ):
        saved(sam, tmp_path)


def test_a_conversion_that_fails_on_restored_names_is_refused(tmp_path: Path) -> None:
    sam = trained_model("decoder_only")
    change_entry("sam_nano", convert=lambda official: official["model"], restore=dict)
    with pytest.raises(WeightsError, match=r"restore of the backbone 'sam_nano' .* fails on them: KeyError\('model'\)"):
        saved(sam, tmp_path)


def test_a_layer_that_cannot_be_merged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import Linear

    def cannot(self: Any, **_: Any) -> None:
        raise NotImplementedError("no way")

    monkeypatch.setattr(Linear, "merge", cannot)
    with pytest.raises(StrategyError, match=r"blocks\.0\.attn\.qkv\.q' can't be merged \(no way\); export without"):
        saved(trained_model("lora_qv"), tmp_path)


def test_a_strategy_that_leaves_out_a_tensor_is_refused(tmp_path: Path) -> None:
    def apply(sam: Any, *, tokens: tuple[int, ...]) -> None:
        from registry import trainable

        trainable.freeze(sam)
        trainable.train_decoder(sam, tokens)
        sam.image_encoder.blocks[0].norm1 = nn.Identity()

    with registered(apply) as name, pytest.raises(StrategyError, match=r"leaves out 2 tensors of SAM nano \(image_enc"):
        saved(trained_model(name), tmp_path)


def with_unused_keys(*keys: str) -> None:
    from registry.card import Checkpoint

    card = dataclasses.replace(
        backbones.card("sam_nano"), checkpoint=Checkpoint(url="", filename="nano.pth", unused_keys=keys)
    )
    change_entry("sam_nano", card=card)


def test_unused_keys_of_the_official_file_are_copied(tmp_path: Path) -> None:
    sam = trained_model("decoder_only")
    with_unused_keys("classifier.weight")
    torch.save({"classifier.weight": torch.arange(3.0)}, tmp_path / "nano.pth")
    export_merged.save(sam, tmp_path / "merged.pth", tmp_path / "nano.pth")
    content = torch.load(tmp_path / "merged.pth", weights_only=True)
    assert content["classifier.weight"].tolist() == [0, 1, 2]
    assert content.keys() - {"classifier.weight"} == build("sam_nano").state_dict().keys()


def test_unused_keys_without_the_official_file_are_refused(tmp_path: Path) -> None:
    sam = trained_model("decoder_only")
    with_unused_keys("classifier.weight")
    with pytest.raises(WeightsError, match=r"with random weights there is no file to copy them from"):
        saved(sam, tmp_path)
