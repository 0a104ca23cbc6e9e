"""Validation during training on the two grids."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench import metrics
from bench.training import evaluate, predictions, validation
from bench.training.data import Image
from registry import heads


class Painted(torch.nn.Module):
    """Model whose logits, for every token, are those of the pixels' brightness at a quarter of the resolution."""

    image_size = 64

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.card = SimpleNamespace(
            logits_per_pixel=4 / stride, target_side=lambda size: min(size, round(2 * size * 4 / stride))
        )

    def encode(self, images):
        return images

    def decoder_input(self, images, *, embeddings=None):
        return self.encode(images) if embeddings is None else embeddings

    def decode(self, images):
        side = round(self.image_size * self.card.logits_per_pixel)
        grey = torch.nn.functional.adaptive_avg_pool2d(images[:, :1], side)
        return ((grey - 0.5) * 20).expand(-1, 4, -1, -1), None


def painted(stem: str, *discs: tuple[int, int, int], side: int = 64) -> Image:
    y, x = np.mgrid[:side, :side]
    label_map = np.zeros((side, side), np.int32)
    for index, (cy, cx, radius) in enumerate(discs, start=1):
        label_map[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = index
    pixels = np.repeat(np.where(label_map > 0, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return Image(stem, "liver", stem, pixels, label_map)


BLOCK = np.ones((2, 2), np.int32)
"""A pixel becomes four."""


@pytest.fixture(scope="module")
def images():
    return [painted("a", (20, 20, 9), (44, 40, 11)), painted("b", (30, 30, 15))]


def scores(sam, images, head="watershed", **options):
    return validation.scores(sam, heads.get(head), images, scale=None, autocast=nullcontext, **options)


def test_scores_on_the_image_are_those_of_the_test_without_aji_plus(images):
    sam, head = Painted(), heads.get("watershed")
    raw = [predictions.raw_prediction(sam, head, image.pixels, scale=None, autocast=nullcontext) for image in images]
    rows = [
        metrics.score(image.label_map, head.instances(logits), aji_plus=False)
        for image, logits in zip(images, raw, strict=True)
    ]
    assert scores(sam, images) == evaluate.mean(rows)
    assert not sam.training


def test_scores_on_the_output_are_those_of_maps_of_the_logits_size(images, monkeypatch):
    sizes = []
    plain = evaluate.candidate_scores

    def followed(raw, scored, *arguments, **options):
        raw = list(raw)
        sizes.extend((tuple(logits.shape), image.label_map.shape) for logits, image in zip(raw, scored, strict=True))
        return plain(raw, scored, *arguments, **options)

    monkeypatch.setattr(evaluate, "candidate_scores", followed)
    on_output = scores(Painted(), images, validate_on="output")
    assert sizes == [((1, 16, 16), (16, 16))] * 2
    assert on_output["dice"] > 0.9 and on_output != scores(Painted(), images)


def test_grid_of_the_output_is_never_finer_than_the_image(images):
    fine = Painted(stride=4)  # logits as large as the input
    assert scores(fine, images, validate_on="output") == scores(fine, images)


def test_label_of_each_centre_is_kept():
    image = painted("a", (8, 8, 3), side=96)  # fitted into an input of 64, whose logits have 16
    reduced = validation._on_output_grid(image, Painted(), None).label_map
    np.testing.assert_array_equal(reduced, image.label_map[3::6, 3::6])
    assert validation._on_output_grid(image, Painted(), 1.0).label_map.shape == (24, 24)


def test_searched_pq_is_the_best_of_the_starts_and_leaves_the_other_scores(images):
    sam, head = Painted(), heads.get("watershed")
    found = scores(sam, images, choose_by="searched_pq")
    raw = [predictions.raw_prediction(sam, head, image.pixels, scale=None, autocast=nullcontext) for image in images]
    each = evaluate.candidate_scores(raw, images, head, heads.starts(head))
    assert found.pop("searched_pq") == max(means["pq"] for means in each) >= found["pq"]
    assert found == scores(sam, images)


def test_loss_is_that_of_the_head_at_the_resolution_of_the_targets():
    sam, head = Painted(), heads.get("watershed")  # 64 px of input, 16 of logits, 32 of targets
    small = [painted("a", (10, 10, 5), (22, 20, 6), side=32), painted("b", (15, 15, 8), side=32)]
    images = [
        replace(
            image, pixels=np.kron(image.pixels, np.ones((2, 2, 1), np.uint8)), label_map=np.kron(image.label_map, BLOCK)
        )
        for image in small
    ]
    expected = []
    for image, coarse in zip(images, small, strict=True):
        logits = predictions.raw_prediction(sam, head, image.pixels, scale=None, autocast=nullcontext)
        shrunk = torch.nn.functional.interpolate(logits[None], (32, 32), mode="bilinear", antialias=True)
        expected.append(head.loss(shrunk, torch.from_numpy(head.targets(coarse.label_map))[None]).item())
    found = scores(sam, images, choose_by="loss")
    assert found.pop("validation_loss") == pytest.approx(np.mean(expected), rel=1e-6)
    assert found == scores(sam, images)


def test_loss_of_better_logits_is_lower(images):
    def loss(swapped: bool) -> float:
        sam = Painted()
        seen = [replace(images[0], pixels=255 - images[0].pixels)] if swapped else [images[0]]
        return scores(sam, seen, choose_by="loss")["validation_loss"]

    assert loss(swapped=False) < 0.3 < 1.0 < loss(swapped=True)
