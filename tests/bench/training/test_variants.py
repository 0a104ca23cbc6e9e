"""Variants of an image: the tiles of a prediction, turned and stained, with the labels of the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.training import data, predictions, variants
from bench.training.variants import Variant
from registry import backbones

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 5, (64, 64)).astype(np.int32)


@pytest.mark.parametrize(
    ("height", "width", "scale", "tiles"), [(64, 64, None, 1), (50, 80, None, 1), (40, 90, 1.0, 2), (100, 70, 1.5, 6)]
)
def test_tiles_are_those_that_a_prediction_encodes_in_its_order(height, width, scale, tiles):
    sam = backbones.build("sam_nano", image_size=64).eval()
    pixels = RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)
    encoded: list[torch.Tensor] = []

    def encode(batch: torch.Tensor) -> torch.Tensor:
        encoded.extend(batch)
        return sam.encode(batch)

    with torch.inference_mode():
        predictions.dense_logits(sam, pixels, channels=(0,), scale=scale, device=torch.device("cpu"), encode=encode)
    assert len(encoded) == tiles == variants.tile_count(height, width, image_size=64, scale=scale)
    for number, tile in enumerate(encoded):
        assert torch.equal(variants.tile_input(pixels, number, image_size=64, scale=scale), tile)


def test_whole_image_is_the_sample_of_training_without_augmentation():
    image = data.Image("a", "o", "a", PIXELS[:, :48], LABELS[:, :48])
    inputs, label_map = data.training_sample(
        image,
        rng=np.random.default_rng(0),
        image_size=128,
        target_side=64,
        scale=None,
        augment=False,
        stain_strength=0.0,
        scale_strength=0.0,
    )
    # A prediction pads what it has resized, so that the last column of the image is not mixed with the padding.
    expected = variants.tile_input(image.pixels, 0, image_size=128, scale=None)
    assert torch.allclose(expected[..., :94], inputs[..., :94], atol=1e-6)
    assert np.array_equal(variants.tile_labels(image.label_map, 0, image_size=128, scale=None, side=64), label_map)


def test_labels_of_a_tile_are_those_of_its_pixels():
    label_map = np.arange(1, 9, dtype=np.int32)[None].repeat(2, axis=0)  # eight columns, two rows
    first, second = (variants.tile_labels(label_map, tile, image_size=4, scale=0.75, side=4) for tile in (0, 1))
    # Six columns and two rows of the scaled image; the tiles begin at its columns 0 and 2, below is padding.
    assert first.tolist() == [[1, 3, 4, 5], [1, 3, 4, 5], [0] * 4, [0] * 4]
    assert second.tolist() == [[4, 5, 7, 8], [4, 5, 7, 8], [0] * 4, [0] * 4]


@pytest.mark.parametrize("turn", range(variants.TURNS))
def test_turned_image_has_turned_labels_and_inputs(turn):
    def inputs(pixels: np.ndarray) -> np.ndarray:
        return variants.tile_input(pixels, 0, image_size=128, scale=None).permute(1, 2, 0).numpy()

    def labels(label_map: np.ndarray) -> np.ndarray:
        return variants.tile_labels(label_map, 0, image_size=128, scale=None, side=64)

    assert np.allclose(inputs(variants.turned(PIXELS, turn)), variants.turned(inputs(PIXELS), turn), atol=1e-6)
    assert np.array_equal(labels(variants.turned(LABELS, turn)), variants.turned(labels(LABELS), turn))


def test_turns_are_the_eight_of_a_square():
    assert len({variants.turned(PIXELS, turn).tobytes() for turn in range(variants.TURNS)}) == 8
    assert np.array_equal(variants.turned(PIXELS, 0), PIXELS)


def test_stain_variant_depends_on_the_image_and_its_number_alone():
    digest = variants.pixels_digest(PIXELS)
    plain, first, again, second = (
        variants.stained(PIXELS, number, strength=0.1, digest=digest) for number in (0, 1, 1, 2)
    )
    assert np.array_equal(plain, PIXELS) and np.array_equal(first, again)
    assert not np.array_equal(first, second) and 0 < np.abs(first.astype(int) - PIXELS).mean() < 20
    assert digest == variants.pixels_digest(PIXELS.copy(order="F"))
    assert digest not in {variants.pixels_digest(other) for other in (PIXELS[::-1], PIXELS.reshape(32, 128, 3))}


def test_every_variant_is_drawn_equally_often_and_none_but_tiles_without_augmentation():
    rng = np.random.default_rng(3)
    drawn = [variants.draw(rng, tiles=2, stain_variants=3, augment=True) for _ in range(4800)]
    counts = [drawn.count(variant) for variant in set(drawn)]
    assert len(counts) == 8 * 3 * 2 and min(counts) > 60 and max(counts) < 140  # 100 each, give or take four sigma
    assert {variants.draw(rng, tiles=2, stain_variants=3, augment=False) for _ in range(99)} == {
        Variant(tile=0),
        Variant(tile=1),
    }
