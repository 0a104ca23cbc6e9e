"""Deformation, blur and noise: what they change, what they leave, and that labels move with the image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.training import augmentation, data, variants

Y, X = np.mgrid[:128, :128]
DISCS = ((Y % 32 - 16) ** 2 + (X % 32 - 16) ** 2 < 100).astype(np.int32) * (1 + Y // 32 * 4 + X // 32).astype(np.int32)
PIXELS = np.repeat(np.where(DISCS > 0, 60, 220).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def always(monkeypatch):
    """Every kind happens each time, or only the one that is named."""

    def only(name: str) -> None:
        for kind in ("P_ELASTIC", "P_BLUR", "P_ZOOM", "P_NOISE"):
            monkeypatch.setattr(augmentation, kind, float(kind == name))

    return only


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_deformed_with_the_image(always, seed):
    always("P_ELASTIC")
    pixels, labels = augmentation.deformed(PIXELS, DISCS, np.random.default_rng(seed))
    assert ((pixels[..., 0] < 140) == (labels > 0)).mean() > 0.99
    moved = (labels != DISCS).mean()
    assert 0.02 < moved < 0.35  # of 4 pixels at most nodes, where nuclei have a radius of 10
    assert set(np.unique(labels)) <= set(np.unique(DISCS)) and labels.dtype == np.int32


def test_deformation_without_shifts_changes_nothing(always, monkeypatch):
    always("P_ELASTIC")
    monkeypatch.setattr(augmentation, "NODE_SHIFT", 0.0)
    pixels, labels = augmentation.deformed(PIXELS, DISCS, np.random.default_rng(0))
    assert np.array_equal(pixels, PIXELS) and np.array_equal(labels, DISCS)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 65)])
def test_crops_of_any_size_are_deformed(always, shape):
    always("P_ELASTIC")
    rng = np.random.default_rng(0)
    pixels, labels = augmentation.deformed(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.int32), rng)
    assert pixels.shape == (*shape, 3) and labels.shape == shape and labels.all() and not pixels.any()


@pytest.mark.parametrize("kind", ["P_BLUR", "P_ZOOM"])
def test_blurs_smooth_edges_and_keep_the_mean(always, kind):
    always(kind)
    sharp, *of_blurred = [
        (np.abs(np.diff(p[..., 0].astype(int), axis=1)) > 150).mean() for p in (PIXELS, *_degraded(8))
    ]
    assert min(of_blurred) < 0.3 * sharp and max(of_blurred) <= sharp
    assert all(abs(float(pixels.mean()) - PIXELS.mean()) < 4 for pixels in _degraded(8))


def test_zoom_blur_leaves_the_centre_and_blurs_the_rim(always):
    always("P_ZOOM")
    change = np.mean([np.abs(pixels.astype(float) - PIXELS).mean(-1) for pixels in _degraded(8)], axis=0)
    distance = np.hypot(Y - 63.5, X - 63.5)
    assert change[distance < 20].mean() < change[distance > 50].mean() / 2


def test_noise_has_at_most_its_largest_variance(always):
    always("P_NOISE")
    grey = np.full((128, 128, 3), 128, np.uint8)
    variances = [augmentation.degraded(grey, np.random.default_rng(seed)).var() for seed in range(20)]
    assert min(variances) < 15 and 35 < max(variances) < 1.1 * augmentation.LARGEST_VARIANCE


def _degraded(n: int) -> list[np.ndarray]:
    return [augmentation.degraded(PIXELS, np.random.default_rng(seed)) for seed in range(n)]


def test_about_half_of_the_images_keep_their_pixels_and_most_their_shapes():
    unchanged = np.mean([np.array_equal(p, PIXELS) for p in _degraded(60)])
    assert 0.35 < unchanged < 0.75  # 0.8 · 0.9 · 0.75 = 0.54
    rngs = (np.random.default_rng(seed) for seed in range(60))
    assert 0.65 < np.mean([augmentation.deformed(PIXELS, DISCS, rng)[1] is DISCS for rng in rngs]) < 0.95


def sample(seed: int, **changes):
    image = data.Image("a", "o", "a", PIXELS, DISCS)
    options = {"image_size": 128, "target_side": 128, "scale": 1.0, "augment": True}
    jitter = {"stain_strength": 0.05, "scale_strength": 0.0}
    return data.training_sample(image, rng=np.random.default_rng(seed), **(options | jitter | changes))


def test_sample_with_all_augmentations_has_its_own_labels(monkeypatch):
    for kind in ("P_ELASTIC", "P_ZOOM", "P_NOISE"):
        monkeypatch.setattr(augmentation, kind, 1.0)
    for seed in range(4):
        inputs, labels = sample(seed, augmentation="cellvit")
        smooth = ndimage.gaussian_filter(inputs[1].numpy(), 1)
        threshold = (np.median(smooth[labels == 0]) + np.median(smooth[labels > 0])) / 2
        assert ((smooth < threshold) == (labels > 0)).mean() > 0.95
    again = sample(3, augmentation="cellvit")
    assert np.array_equal(again[1], labels) and np.array_equal(again[0], inputs)


def test_without_augmentation_or_with_the_basic_one_nothing_is_drawn_for_it(monkeypatch):
    monkeypatch.setattr(augmentation, "deformed", None)
    monkeypatch.setattr(augmentation, "degraded", None)
    assert np.array_equal(sample(1)[0], sample(1, augmentation="basic")[0])
    assert np.array_equal(sample(1, augment=False)[0], sample(1, augment=False, augmentation="cellvit")[0])


def test_stain_variants_are_blurred_and_noisy_but_never_deformed(always):
    always("P_NOISE")
    digest = variants.pixels_digest(PIXELS)
    options = {"strength": 0.0, "digest": digest}
    assert variants.stained(PIXELS, 0, **options, augmentation="cellvit") is PIXELS
    basic, noisy, again = (
        variants.stained(PIXELS, 1, **options, augmentation=kind) for kind in ("basic", "cellvit", "cellvit")
    )
    assert np.array_equal(noisy, again) and not np.array_equal(basic, noisy)
    assert np.array_equal(noisy[..., 0] < 140, DISCS > 0)


def test_stains_vary_twice_as_much():
    def spread(kind):
        made = [data.recoloured(PIXELS, np.random.default_rng(s), strength=0.1, augmentation=kind) for s in range(30)]
        return np.std([pixels[16, 16].astype(float) for pixels in made], axis=0).mean()

    assert 1.5 < spread("cellvit") / spread("basic") < 2.5
