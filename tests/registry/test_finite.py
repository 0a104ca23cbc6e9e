"""NaN, infinite and overflowing values are found by name: in checkpoints, in trained parts and in a forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import official_files
import pytest
import torch

from registry import backbones, strategies, trained
from registry.errors import WeightsError
from registry.modules import finite

NAN, INF = float("nan"), float("inf")
LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")


def nano() -> Any:
    torch.manual_seed(0)
    return backbones.build("sam_nano", 64)


def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_values_are_counted_by_tensor() -> None:
    state = {
        "good": torch.ones(3),
        "integers": torch.tensor([2**62, 2**62]),
        "empty": torch.zeros(0),
        "bad": torch.tensor([[NAN, 1.0], [INF, -INF]]),
        "half": torch.tensor([NAN, 1.0], dtype=torch.float16),
        "eight": torch.tensor([NAN, 1.0]).to(torch.float8_e4m3fn),
        "complex": torch.tensor([complex(0, INF), 1]),
    }
    assert finite.not_finite(state) == {"bad": 3, "half": 1, "eight": 1, "complex": 1}
    text = finite.describe(state)
    assert text == "NaN or infinite values: 3 of 4 in bad, 1 of 2 in half, 1 of 2 in eight, and in 1 more tensors"


def test_a_sum_that_overflows_is_no_finding() -> None:
    assert finite.not_finite({"large": torch.full((4,), 3e38), "half": torch.full((9,), 6e4, dtype=torch.half)}) == {}
    assert finite.describe({"large": torch.full((4,), 3e38)}) == ""


def test_a_checkpoint_with_nan_is_refused_with_the_tensors_names(tmp_path: Path) -> None:
    tensors = official_files.state_dict("mobile_sam")
    tensors["mask_decoder.iou_token.weight"][0, :5] = NAN
    tensors["image_encoder.neck.0.weight"][0] = INF
    path = official_files.write("mobile_sam", tmp_path, tensors)
    with pytest.raises(WeightsError) as raised:
        backbones.build("mobile_sam", 64, path)
    text = str(raised.value)
    assert text.startswith(f"{path} holds NaN or infinite values: ")
    assert (
        "5 of 256 in mask_decoder.iou_token.weight" in text and "320 of 81,920 in image_encoder.neck.0.weight" in text
    )
    assert "fetch the official file with `bench weights fetch mobile_sam`" in text


def test_a_trained_part_with_nan_is_refused(tmp_path: Path) -> None:
    sam = nano()
    strategies.apply("decoder_only", sam)
    with torch.no_grad():
        sam.mask_decoder.iou_token.weight[0, 3] = NAN
    trained.save(sam, "decoder_only", tmp_path)
    fresh = nano()
    strategies.apply("decoder_only", fresh)
    with pytest.raises(WeightsError, match=r"hold NaN or infinite values: 1 of 256 in mask_decoder\.iou_token\.weight"):
        trained.load(fresh, tmp_path)


@pytest.mark.parametrize("strategy", ["zero_shot", "lora_qv", "adapter"])
@pytest.mark.parametrize("backbone", LIGHT)
def test_a_sound_model_has_no_such_module(backbone: str, strategy: str) -> None:
    sam = backbones.build(backbone, 64)
    strategies.apply(strategy, sam)
    assert finite.first_not_finite(sam, images()) is None


def test_the_first_module_with_infinite_weights_is_named_with_them() -> None:
    sam = nano()
    with torch.no_grad():
        sam.get_parameter("image_encoder.blocks.1.mlp.lin2.weight")[0, 0] = INF
    found = finite.first_not_finite(sam, images())
    assert found is not None
    assert found.startswith("image_encoder.blocks.1.mlp.lin2 (Linear): ")
    assert found.endswith("; NaN or infinite values: 1 of 65,536 in weight")


def test_the_first_module_that_overflows_is_named_with_its_largest_input_and_weight() -> None:
    sam = nano()
    with torch.no_grad():
        sam.get_parameter("image_encoder.blocks.1.mlp.lin2.weight").fill_(3e38)
    found = finite.first_not_finite(sam, images())
    assert found is not None
    assert found.startswith("image_encoder.blocks.1.mlp.lin2 (Linear): ")
    assert "its inputs are finite and reach " in found and found.endswith("; its own weights reach 3e+38")


def test_an_overflow_between_modules_is_located_in_the_module_around_it() -> None:
    sam = nano()
    with torch.no_grad():  # queries and keys of 1e25 are finite, their products are not
        sam.get_parameter("image_encoder.blocks.2.attn.qkv.bias").fill_(1e25)
    found = finite.first_not_finite(sam, images())
    assert found is not None
    assert found.startswith("image_encoder.blocks.2.attn.proj (Linear): ")
    assert found.endswith("they are computed between modules, in image_encoder.blocks.2.attn")


def test_images_and_logits_are_checked_too() -> None:
    sam, bad = nano(), images()
    bad[0, 0, 0, :2] = NAN
    assert finite.first_not_finite(sam, bad) == "the images hold NaN or infinite values: 2 of 12,288"
    with torch.no_grad():
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].bias.fill_(3e38)
    found = finite.first_not_finite(sam, images())
    assert found is not None and found.startswith("sam.decode: ")


def test_the_model_is_left_as_it_was() -> None:
    sam = nano()
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    finite.first_not_finite(sam, images())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in sam.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in sam.state_dict().items())
    assert all(parameter.grad is None for parameter in sam.parameters())
