"""Feature maps of images by stride: those on the card, of one forward pass, in every form of a model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from strategy_models import build
from torch import nn

from registry import backbones, block_forward, frozen_prefix, strategies
from registry.features import EmbeddedImages

SMALL = (("sam_nano", 64), ("lite_medsam", 32))


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def check_features(name: str, size: int) -> None:
    sam, calls = build(name, size), []
    sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    given = images(size)
    with torch.no_grad():
        features = sam.features(given)
        assert len(calls) == 1
        assert torch.equal(features[sam.card.stride], sam.encode(given))
        again = sam.features(given, embeddings=features.embedding)
        assert len(calls) == 2  # of `encode` alone
    assert {s: (f.shape[1], f.shape[2] * s, f.shape[3] * s) for s, f in features.items()} == {
        stride: (width, size, size) for stride, width in backbones.card(name).feature_widths.items()
    }
    assert list(features) == sorted(features) and features.embedding is features[list(features)[-1]]
    assert all(torch.equal(features[stride], again[stride]) for stride in features)
    assert torch.equal(features.image, sam.normalise(given))


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_features_are_those_on_the_card_and_end_with_the_embedding(name: str, size: int) -> None:
    check_features(name, size)


@pytest.mark.release
@pytest.mark.parametrize("name", backbones.names())
def test_features_of_every_backbone_are_those_on_the_card_and_end_with_the_embedding(name: str) -> None:
    check_features(name, backbones.card(name).size_multiple)


def test_strides_of_early_maps_are_known_without_a_model() -> None:
    widths = {name: backbones.card(name).feature_widths for name in ("mobile_sam", "lite_medsam", "sam_vit_b")}
    assert widths == {
        "mobile_sam": {4: 64, 8: 128, 16: 256},
        "lite_medsam": {1: 64, 2: 128, 4: 256},
        "sam_vit_b": {16: 256},
    }


@pytest.fixture(scope="module")
def adapted() -> Any:
    sam = build("lite_medsam", 32)
    strategies.apply("lora_qv", sam, tokens=(1, 2, 3))
    for name, parameter in sam.named_parameters():
        if ".lora_B" in name:
            nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    return sam.eval()


def test_inference_form_and_frozen_prefix_give_the_same_features_but_for_rounding(adapted: Any) -> None:
    with torch.no_grad():
        expected, given = adapted.features(images(32)), adapted.optimise().features(images(32))
        for stride in expected:
            torch.testing.assert_close(given[stride], expected[stride], rtol=1e-4, atol=1e-4)
    shell: Any = frozen_prefix.encoder(adapted).__self__  # type: ignore[attr-defined]  # a bound method
    assert shell is not adapted
    given = shell.features(images(32))
    early = shell.features(images(32), strides=(2,), embeddings=given.embedding)
    for stride in expected:
        torch.testing.assert_close(given[stride], expected[stride], rtol=1e-4, atol=1e-4)
    assert list(early) == [2, 4] and torch.equal(early[2], given[2])


def test_gradients_through_early_features_are_the_same_with_activations_computed_again(adapted: Any) -> None:
    def gradients() -> list[torch.Tensor]:
        trained = [p for n, p in adapted.named_parameters() if "stages.1" in n and p.requires_grad]
        features = adapted.features(images(32), strides=(2,))
        return list(torch.autograd.grad(features[2].square().mean(), trained))

    plain = gradients()
    with block_forward.checkpointed(adapted, None):
        again = gradients()
    assert len(plain) == 8 and all(gradient.any() for gradient in plain)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_stride_that_the_card_does_not_name_is_refused(adapted: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^strides \[3\] were asked for; lite_medsam has feature maps of strides \[1, 2"
    ):
        adapted.features(images(32), strides=(2, 3))


def test_encoder_of_a_strategy_without_early_maps_gives_the_embedding_alone(adapted: Any) -> None:
    sam = copy.copy(adapted)
    sam._modules = dict(adapted._modules)
    sam.image_encoder = nn.Sequential(sam.image_encoder)
    assert list(sam.features(images(32), strides=())) == [4]
    with pytest.raises(
        ValueError, match=r"^the encoder is a Sequential without a method `early`.*no maps of strides \[1, 2\]"
    ):
        sam.features(images(32))


def test_images_with_embeddings_are_sliced_and_moved_together() -> None:
    both = EmbeddedImages(images(8, 3), torch.arange(3.0).view(3, 1, 1, 1))
    part = both[1:3].to("cpu", non_blocking=True)
    assert len(both) == 3 and len(part) == 2
    assert torch.equal(part.images, both.images[1:3]) and part.embeddings.flatten().tolist() == [1.0, 2.0]
