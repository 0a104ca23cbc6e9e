"""Models with official weights give the outputs of the original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import official_files
import pytest
import torch

from registry import backbones

PROMPTS = {
    "none": {},
    "point": {"points": torch.tensor([[[300.0, 420.0]]]), "labels": torch.tensor([[1]])},
    "two_points": {"points": torch.tensor([[[300.0, 420.0], [700.0, 100.0]]]), "labels": torch.tensor([[1, 1]])},
    "box": {"boxes": torch.tensor([[200.0, 300.0, 640.0, 700.0]])},
}


def relative_error(output: torch.Tensor, gold: np.ndarray) -> float:
    assert output.shape == gold.shape
    return float(np.linalg.norm(output.numpy() - gold) / np.linalg.norm(gold))


@pytest.mark.parametrize("name", ["mobile_sam", "tiny_sam", "efficient_sam_ti", "sam_vit_b"])
def test_outputs_equal_those_of_the_original_code(name: str, tmp_path: Path) -> None:
    gold = np.load(official_files.golden(f"{name}.npz"))
    sam = backbones.build(name, checkpoint=official_files.write(name, tmp_path))
    with torch.no_grad():
        embedding = sam.encode(official_files.image())
        assert relative_error(embedding[0, :, ::4, ::4], gold["embedding"]) < 1e-5
        assert embedding.mean().item() == pytest.approx(gold["embedding_mean_std"][0], abs=1e-5)
        assert embedding.std().item() == pytest.approx(gold["embedding_mean_std"][1], rel=1e-5)
        checked = 0
        for prompt, given in PROMPTS.items():
            if f"{prompt}_logits" not in gold:
                continue
            logits, iou = sam.decode(embedding, **given)
            tokens = slice(4 - len(gold[f"{prompt}_iou"]), None)
            assert relative_error(logits[0, tokens, ::4, ::4], gold[f"{prompt}_logits"]) < 1e-4
            assert relative_error(iou[0, tokens], gold[f"{prompt}_iou"]) < 1e-4
            checked += 1
    assert checked == 3


def test_all_tensors_of_a_zip_with_nesting_are_loaded(tmp_path: Path) -> None:
    tensors = official_files.state_dict("efficient_sam_s")
    sam = backbones.build(
        "efficient_sam_s", image_size=256, checkpoint=official_files.write("efficient_sam_s", tmp_path)
    )
    assert len(sam.state_dict()) == len(tensors)
    upscaling = "mask_decoder.final_output_upscaling_layers.1.0.weight"
    assert torch.equal(sam.mask_decoder.output_upscaling[3].weight, tensors[upscaling])
    assert torch.equal(sam.image_encoder.pos_embed, tensors["image_encoder.pos_embed"])
