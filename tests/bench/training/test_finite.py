"""NaN and overflowing weights are named before the audit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from bench.errors import AuditError
from bench.training import model
from bench.training.finite import check_finite

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def adapted() -> Any:
    return model.prepare(
        backbone="sam_nano", strategy="lora_qv", options={}, image_size=64, checkpoint=None, tokens=(1,), seed=0
    )


def test_sound_model_passes_and_is_left_as_it_was() -> None:
    sam = adapted()
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    random = torch.get_rng_state()
    check_finite(sam, IMAGES, autocast=nullcontext)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sam.state_dict().items())
    assert not any(module.training for module in sam.modules())


def test_tensor_with_nan_is_named_with_the_number_of_its_values() -> None:
    sam = adapted()
    with torch.no_grad():
        sam.get_parameter("mask_decoder.iou_token.weight")[0, :3] = float("nan")
    with pytest.raises(AuditError) as raised:
        check_finite(sam, IMAGES, autocast=nullcontext)
    text = str(raised.value)
    assert "the weights of sam_nano hold NaN or infinite values: 3 of 256 in mask_decoder.iou_token.weight." in text
    assert "a hook, a setting or a buffer" not in text


def test_module_that_overflows_is_named() -> None:
    sam = adapted()
    with torch.no_grad():
        sam.get_parameter("image_encoder.blocks.1.mlp.lin2.weight").fill_(3e38)
    with pytest.raises(AuditError) as raised:
        check_finite(sam, IMAGES, autocast=nullcontext)
    text = str(raised.value)
    assert text.startswith("the outputs of sam_nano for a real image are not finite, though all its weights are. ")
    assert "It overflows first in image_encoder.blocks.1.mlp.lin2 (Linear)" in text


def test_infinite_values_inside_a_model_with_finite_outputs_are_no_problem() -> None:
    """A mask of minus infinity before a softmax is infinite on purpose."""
    sam = adapted()

    class Masked(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, -torch.inf)

    masked = Masked()
    sam.image_encoder.add_module("masked", masked)
    sam.image_encoder.register_forward_hook(lambda _, inputs, output: output + 0 * masked(output).exp().clamp(max=1))
    check_finite(sam, IMAGES, autocast=nullcontext)
