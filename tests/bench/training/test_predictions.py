"""Predictions: resampling of ideal logits, tiles at several magnifications, and test-time augmentation."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench import metrics
from bench.training import predictions, tiling, variants
from registry import backbones, heads, painter
from registry.resampling import sample_labels, whole

CPU = torch.device("cpu")


class Given(torch.nn.Module):
    """Model whose logits are given, or computed from the input."""

    def __init__(self, logits: Any, image_size: int) -> None:
        super().__init__()
        self.logits, self.image_size = logits, image_size
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def decoder_input(self, images, *, embeddings=None):
        return images

    def decode(self, images):
        return (self.logits(images) if callable(self.logits) else self.logits[None]), None


@dataclass
class Single:
    """Head of a single channel."""

    channels: tuple[int, ...] = (0,)
    dense: bool = True


@pytest.fixture(scope="module")
def label_maps() -> list[np.ndarray]:
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    return [painter.paint(rng, painter.tissue(rng), size=256, n_nuclei=25)[1] for rng in rngs]


def ideal_logits(label_map: np.ndarray, targets: int, cells: int) -> torch.Tensor:
    """Return the logits of a label map's own targets, made as in training."""
    span = whole(len(label_map), targets)
    made = torch.from_numpy(heads.get("distance").targets(sample_labels(label_map, span, span)))
    return torch.logit(F.avg_pool2d(made, targets // cells), eps=1e-4)


def mean_scores(label_maps: list[np.ndarray], resample: Any) -> tuple[float, float]:
    rows = []
    for label_map in label_maps:
        logits = resample(ideal_logits(label_map, 256, 128))
        rows.append(metrics.score(label_map, heads.get("distance").instances(logits), aji_plus=False))
    return float(np.mean([row["aji"] for row in rows])), float(np.mean([row["pq"] for row in rows]))


def test_ideal_logits_lose_little_by_a_single_resampling_and_more_by_two(label_maps):
    """Logits of 128 pixels of an input of 512, for an image of 256: the upper bound of every score."""

    def once(logits):
        pixels = np.zeros((256, 256, 3), np.uint8)
        return predictions.dense_logits(Given(logits, 512), pixels, channels=(0, 1, 2), scale=None, device=CPU)

    def twice(logits):
        return tiling.resize(tiling.resize(logits[None], 512, 512), 256, 256)[0]

    aji, pq = mean_scores(label_maps, once)
    earlier_aji, earlier_pq = mean_scores(label_maps, twice)
    assert aji > 0.98 and pq > 0.976  # 0.983 and 0.979
    assert earlier_aji < 0.98 and earlier_pq < 0.976  # 0.977 and 0.972


def averaged(cell: int) -> Any:
    """Return a function from inputs to logits: green, averaged over the cells of the logits."""
    return lambda images: F.avg_pool2d(images[:, 1:2], cell)


def ramp(height: int, width: int) -> np.ndarray:
    """Return an image whose green rises by 2 in every column."""
    return np.broadcast_to((2 * np.arange(width)).astype(np.uint8)[None, :, None], (height, width, 3)).copy()


@pytest.mark.parametrize("cell", [1, 4])
@pytest.mark.parametrize("scale", [None, 0.75, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("image_size", [32, 64])
def test_logits_of_every_pixel_are_those_at_its_centre(scale: float | None, cell: int, image_size: int):
    """A ramp stays the same ramp through scaling, tiles, logits and back, but for the outermost cells of the image."""
    pixels = ramp(72, 100)
    model = Given(averaged(cell), image_size)
    logits = predictions.dense_logits(model, pixels, channels=(0,), scale=scale, device=CPU)
    assert logits.shape == (1, 72, 100)
    factor = tiling.scale_for(72, 100, image_size=image_size, scale=scale)
    rim = int(np.ceil((cell + 1) / factor))
    inner = logits[0, rim:-rim, rim:-rim].numpy() * 255
    # Near the edges of a tile its outermost cells repeat, by up to half a cell of the ramp, with little weight.
    tolerance = 0.25 if scale is None or cell == 1 else 2 * cell / factor * 0.25
    assert np.abs(inner - pixels[rim:-rim, rim:-rim, 1]).max() < tolerance


def test_a_grid_of_the_logits_own_size_returns_them_as_they_are():
    logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    model = Given(logits, 64)
    pixels = np.zeros((128, 128, 3), np.uint8)
    made = predictions.dense_logits(model, pixels, channels=(0, 1), scale=None, device=CPU, grid=(16, 16))
    assert torch.allclose(made, logits, atol=1e-6)


def predict(model: Any, pixels: np.ndarray, *, head: Any = None, **options: Any) -> torch.Tensor:
    raw: torch.Tensor = predictions.raw_prediction(model, head or Single(), pixels, autocast=nullcontext, **options)
    return raw


@pytest.mark.parametrize("turn", range(variants.TURNS))
def test_maps_of_a_turned_image_are_turned_back(turn: int):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    maps = torch.from_numpy(variants.turned(pixels, turn).copy()).permute(2, 0, 1)
    assert np.array_equal(variants.turned_back(maps, turn).permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize(("scale", "shape"), [(None, (64, 64)), (1.0, (50, 90))])
def test_mean_of_all_orientations_turns_with_the_image(scale: float | None, shape: tuple[int, int]):
    torch.manual_seed(0)
    sam, head = backbones.build("sam_nano", image_size=64).eval(), heads.get("distance")
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    once, mean = (predict(sam, pixels, head=head, scale=scale, tta=tta) for tta in (False, True))
    assert mean.shape == once.shape and float((mean - once).abs().max()) > 1e-3
    if scale is None:  # padding, to the right and below, does not turn with the image
        for turn in (3, 6):
            turned = predict(sam, variants.turned(pixels, turn), head=head, scale=scale, tta=True)
            assert torch.allclose(variants.turned_back(turned, turn), mean, atol=1e-4)
    views = [
        variants.turned_back(predict(sam, variants.turned(pixels, turn), head=head, scale=scale), turn)
        for turn in range(8)
    ]
    assert torch.allclose(torch.stack(views).mean(0), mean, atol=1e-5)


def test_orientations_of_a_model_that_treats_them_alike_change_nothing():
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    model = Given(averaged(4), 64)
    assert torch.allclose(predict(model, pixels, scale=None, tta=True), predict(model, pixels, scale=None), atol=1e-6)
