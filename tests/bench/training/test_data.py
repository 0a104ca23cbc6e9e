from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.training import data, validation, variants


def image(height: int = 48, width: int = 64, stem: str = "a") -> data.Image:
    rng = np.random.default_rng(0)
    label_map = np.zeros((height, width), np.int32)
    label_map[10:20, 10:20], label_map[30:40, 40:60] = 7, 300
    pixels = rng.integers(150, 250, (height, width, 3), dtype=np.uint8)
    pixels[label_map > 0] = (90, 50, 140)
    return data.Image(stem, "organ", stem, pixels, label_map)


def sample(seed: int = 0, **changes):
    arguments = {"image_size": 64, "target_side": 32, "scale": None, "augment": False}
    jitter = {"stain_strength": 0.1, "scale_strength": 0.2}
    return data.training_sample(image(), rng=np.random.default_rng(seed), **(arguments | jitter | changes))


def foreground_agreement(inputs: torch.Tensor, label_map: np.ndarray) -> float:
    """Share of target pixels where 'dark' in the input and 'nucleus' in the label map agree."""
    dark = torch.nn.functional.avg_pool2d(inputs[None, 1:2], 2)[0, 0].numpy() < 0.4
    return float((dark == (label_map > 0)).mean())


def test_targets_of_the_inputs_own_side_have_its_resolution():
    inputs, label_map = sample(target_side=64)
    assert label_map.shape == (64, 64)
    assert ((inputs[1].numpy() < 0.5) == (label_map > 0)).all()


def test_whole_image_becomes_a_padded_square_with_labels_of_half_its_size():
    inputs, label_map = sample()
    assert inputs.shape == (3, 64, 64) and inputs.dtype == torch.float32
    assert inputs.min() >= 0 and inputs.max() <= 1
    assert label_map.shape == (32, 32)
    assert set(np.unique(label_map)) == {0, 7, 300}
    assert not label_map[24:].any()  # below the image there is padding
    assert foreground_agreement(inputs, label_map) > 0.97


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), (1.0, 1.0), (0.5, 0.5), (0.75, 0.75)])
def test_training_has_the_magnification_of_evaluation(scale, expected):
    _, label_map = sample(scale=scale, image_size=64)
    width_of_nucleus = np.flatnonzero((label_map == 300).any(0)).size * 2  # 20 px in the image
    assert width_of_nucleus == pytest.approx(20 * expected, abs=4)


@pytest.mark.parametrize(("ratio", "left", "width"), [(1, 11, 8), (2, 11, 8), (4, 10, 8), (4, 11, 10)])
def test_labels_lie_where_the_input_shows_the_nucleus(ratio, left, width):
    """A square from `left` to `left` + `width`: by hand, its centre in the input and that of its label."""
    label_map = np.zeros((64, 64), np.int32)
    label_map[left : left + width, left : left + width] = 4
    pixels = np.repeat(np.where(label_map > 0, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    square = data.Image("a", "o", "a", pixels, label_map)
    options = {"scale": 1.0, "augment": False, "stain_strength": 0.0, "scale_strength": 0.0}
    inputs, labels = data.training_sample(
        square, rng=np.random.default_rng(0), image_size=64, target_side=64 // ratio, **options
    )
    in_input = np.nonzero(inputs[0].numpy() < 0.5)[1].mean() + 0.5
    tiled = variants.tile_labels(label_map, 0, image_size=64, scale=1.0, side=64 // ratio)
    model = SimpleNamespace(image_size=64, card=SimpleNamespace(logits_per_pixel=1 / ratio))
    validated = validation._on_output_grid(square, model, 1.0).label_map
    for made in (labels, tiled, validated):
        assert ratio * (np.nonzero(made)[1].mean() + 0.5) == in_input == left + width / 2
    # At half the side, the right one of two pixels would be taken: a shift of half a pixel, on average.
    assert np.array_equal(labels, tiled) and np.array_equal(labels, validated)


def test_scale_augmentation_enlarges_and_shrinks():
    widths = [np.flatnonzero((sample(seed, augment=True, scale=0.5)[1] == 300).any(0)).size for seed in range(60)]
    seen = [w for w in widths if w]
    assert min(seen) < 5 and max(seen) > 5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [None, 1.0, 1.5])
def test_augmentation_moves_image_and_labels_together(seed, scale):
    inputs, label_map = sample(seed, augment=True, scale=scale, stain_strength=0.05)
    assert inputs.shape == (3, 64, 64)
    assert foreground_agreement(inputs, label_map) > 0.93


def test_sample_is_a_function_of_its_key():
    first, second = sample(3, augment=True), sample(3, augment=True)
    assert torch.equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not torch.equal(first[0], sample(4, augment=True)[0])


def test_stain_jitter_of_strength_zero_changes_nothing():
    pixels = image().pixels
    assert np.abs(data.stain_jitter(pixels, np.random.default_rng(0), 0.0).astype(int) - pixels).max() <= 1
    assert np.abs(data.stain_jitter(pixels, np.random.default_rng(0), 0.2).astype(int) - pixels).max() > 5


def test_every_epoch_has_another_order_of_the_same_images():
    images = [image(stem=s) for s in "abcdefgh"]
    orders = [data.epoch_order(images, seed=0, epoch=e, image_size=64, scale=None) for e in range(3)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    large = data.epoch_order(images[:1], seed=0, epoch=0, image_size=16, scale=1.0)
    assert large == [0] * 12


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_resumed_training_are_the_remaining_ones(workers):
    images = [image(stem=s) for s in "abcde"]
    arguments = {
        "epochs": 2,
        "batch_size": 2,
        "image_size": 64,
        "scale": None,
        "seed": 0,
        "target_side": 32,
        "augment": True,
        "stain_jitter": 0.1,
        "scale_jitter": 0.2,
    }

    def targets(label_map):
        return (label_map > 0)[None].astype(np.float32)

    whole = list(data.batches(images, targets, first_step=0, **arguments))
    assert [len(batch.images) for batch in whole] == [2, 2, 1, 2, 2, 1]
    assert data.steps_per_epoch(images, batch_size=2, image_size=64, scale=None) == 3
    rest = list(data.batches(images, targets, first_step=2, workers=workers, **arguments))
    assert len(rest) == 4
    for expected, batch in zip(whole[2:], rest, strict=True):
        assert torch.equal(expected.images, batch.images) and torch.equal(expected.targets, batch.targets)


def test_all_images_that_can_not_be_used_are_named_at_once(tmp_path):
    from registry import datasets
    from registry.datasets import synthetic
    from registry.errors import DataError

    synthetic.write(tmp_path / "d", n_images=4, image_size=64, seed=2, nuclei=(4, 8))
    samples = datasets.get("synthetic").samples(tmp_path / "d")
    for sample in samples[:2]:
        sample.image_path.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        data.load(datasets.get("synthetic"), samples)
    assert str(caught.value).startswith("2 of 4 images can't be used; `bench data check` lists them.")
    assert all(str(sample.image_path) in str(caught.value) for sample in samples[:2])
