from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bench.errors import DivergedError
from bench.training import evaluate, predictions, side_processes
from registry import heads


class Oracle(torch.nn.Module):
    """Model whose logits, for every token, are the green channel at a quarter of the resolution."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size, self.seen = image_size, 0
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        assert images.shape[-2:] == (self.image_size, self.image_size)
        self.seen += len(images)
        return images

    def decoder_input(self, images, *, embeddings=None):
        return self.encode(images) if embeddings is None else embeddings

    def decode(self, images):
        green = torch.nn.functional.avg_pool2d(images[:, 1:2], 4)
        return (green - 0.5).expand(-1, 4, -1, -1) * 20, None


@dataclass
class Threshold:
    """Head with a single nucleus: all pixels above the threshold."""

    defaults: Mapping[str, float] = field(default_factory=lambda: {"above": 0.9, "unused": 1.0})
    search: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"above": (0.5, 0.9), "unused": (1.0, 2.0)})
    channels: tuple[int, ...] = (1, 2, 3)
    dense: bool = True

    def instances(self, logits, *, above, unused):
        return (np.asarray(logits)[0] > above).astype(np.int32)


def picture(height: int, width: int) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[8:32, 16:48] = 255
    return pixels


@pytest.mark.parametrize(("scale", "tiles"), [(None, 1), (1.0, 4), (2.0, 12)])
def test_logits_have_the_images_own_resolution(scale, tiles):
    oracle = Oracle(64)
    logits = predictions.raw_prediction(oracle, Threshold(), picture(96, 80), scale=scale, autocast=nullcontext)
    assert logits.shape == (3, 96, 80) and oracle.seen == tiles
    predicted = logits[0].numpy() > 0
    true = picture(96, 80)[..., 1] > 0
    assert (predicted != true).mean() < 0.03


def test_tiles_are_blended_without_seams():
    smooth = np.full((100, 100, 3), 200, np.uint8)
    logits = predictions.raw_prediction(Oracle(64), Threshold(), smooth, scale=1.0, autocast=nullcontext)
    assert float(logits.max() - logits.min()) < 1e-4


def test_logits_that_are_not_finite_are_refused():
    class Overflowing(Oracle):
        def decode(self, images):
            logits, iou = super().decode(images)
            return logits * torch.inf, iou

    with pytest.raises(
        DivergedError, match=r"logits that are not finite; try a smaller train\.lr or train\.encoder_lr\.$"
    ):
        predictions.raw_prediction(Overflowing(64), Threshold(), picture(64, 64), scale=None, autocast=nullcontext)


@dataclass
class Picture:
    stem: str
    organ: str
    pixels: np.ndarray
    label_map: np.ndarray


def test_every_image_is_scored_and_has_the_same_weight_in_the_mean():
    full = np.ones((4, 4), np.int32)
    half = np.zeros((4, 4), np.int32)
    half[:2] = 5
    images = [Picture("a", "liver", full, full), Picture("b", "brain", half, full)]
    numbers: list[Mapping[str, int]] = []
    rows, label_maps = evaluate.score_images(images, lambda pixels: pixels, np.asarray, fold=2, progress=numbers.append)
    assert numbers == [{"image": 1, "images": 2}, {"image": 2, "images": 2}]
    assert [(r["stem"], r["organ"], r["fold"]) for r in rows] == [("a", "liver", 2), ("b", "brain", 2)]
    assert rows[0]["dice"] == 1.0 and rows[1]["dice"] == pytest.approx(2 * 8 / 24)
    assert label_maps["b"] is half
    errors = ("n_missed", "n_spurious", "n_merged", "n_split")
    assert [[type(row[name]) for name in errors] for row in rows] == [[int] * 4] * 2
    assert [rows[1][name] for name in errors] == [1, 1, 0, 0]
    scores = evaluate.summarise(rows)
    assert scores["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["pq"] == 0.5  # half of a nucleus is no match: 2·8 is not above 16
    assert (scores["n_images"], scores["n_true"], scores["n_pred"]) == (2, 2, 2)


def nuclei(seed: int, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Label map of discs, and noisy logits of its foreground (1, h, w)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    label_map = np.zeros((side, side), np.int32)
    for index, (cy, cx, radius) in enumerate(rng.uniform([0, 0, 3], [side, side, 8], (12, 3)), start=1):
        label_map[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = index
    return label_map, (np.where(label_map > 0, 1.5, -1.5) + rng.normal(size=label_map.shape))[None].astype(np.float32)


@pytest.fixture(scope="module")
def noisy() -> tuple[list[Picture], list[torch.Tensor]]:
    maps, logits = zip(*(nuclei(seed) for seed in range(4)), strict=True)
    images = [Picture(f"image {n}", "liver", picture(48, 48), label_map) for n, label_map in enumerate(maps)]
    return images, [torch.from_numpy(values) for values in logits]


@pytest.fixture
def eager_processes(monkeypatch):
    """Processes start even where there is little work; counts the pools."""
    started: list[int] = []
    pool = side_processes.ProcessPoolExecutor

    def counted(size: int, *others):
        started.append(size)
        return pool(size, *others)

    monkeypatch.setattr(side_processes, "ProcessPoolExecutor", counted)
    monkeypatch.setattr(side_processes.each, "__kwdefaults__", {**side_processes.each.__kwdefaults__, "pays_s": 0.0})
    return started


def test_scores_and_label_maps_from_processes_equal_those_made_here(noisy, eager_processes):
    images, raw = noisy
    logits = dict(zip((id(image.pixels) for image in images), raw, strict=True))
    results = [
        evaluate.score_images(
            images, lambda pixels: logits[id(pixels)], heads.get("watershed").instances, fold=1, processes=processes
        )
        for processes in (0, 2)
    ]
    assert eager_processes == [2] and results[0][0] == results[1][0]
    for image in images:
        np.testing.assert_array_equal(results[0][1][image.stem], results[1][1][image.stem])
