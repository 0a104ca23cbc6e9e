"""The classical pipeline on painted and on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bench import metrics
from bench.training.classical import segment

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "dsb-he-512"


def painted(*discs: tuple[int, int, int], size: int = 128) -> np.ndarray:
    """Purple discs (x, y, radius) on pale pink."""
    image = np.full((size, size, 3), (240, 220, 232), np.uint8)
    y, x = np.mgrid[:size, :size]
    for cx, cy, radius in discs:
        image[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = (85, 50, 130)
    return image


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 150, 180), (85, 50, 130)])
def test_a_blank_image_has_no_nuclei(colour: tuple[int, int, int]) -> None:
    label_map = segment(np.full((64, 48, 3), colour, np.uint8))
    assert label_map.shape == (64, 48)
    assert label_map.dtype == np.int32
    assert not label_map.any()


def test_separate_discs_are_segmented_in_place() -> None:
    label_map = segment(painted((30, 40, 12), (90, 80, 15)))
    assert label_map.max() == 2
    assert {label_map[40, 30], label_map[80, 90]} == {1, 2}
    assert label_map[5, 5] == 0
    assert abs((label_map == label_map[80, 90]).sum() - np.pi * 15**2) < 0.1 * np.pi * 15**2


def test_touching_discs_are_split() -> None:
    label_map = segment(painted((45, 64, 16), (73, 64, 16)))
    assert label_map.max() == 2
    assert label_map[64, 45] != label_map[64, 73]


def test_specks_are_removed_and_holes_filled() -> None:
    image = painted((64, 64, 20), (15, 15, 2))
    image[62:67, 62:67] = (240, 220, 232)
    label_map = segment(image)
    assert label_map.max() == 1
    assert label_map[64, 64] == 1
    assert label_map[15, 15] == 0


def test_array_that_is_no_rgb_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given float64 of shape \(8, 8, 3\); it takes uint8 RGB"):
        segment(np.zeros((8, 8, 3)))
    with pytest.raises(ValueError, match=r"given uint8 of shape \(8, 8\); it takes uint8 RGB"):
        segment(np.zeros((8, 8), np.uint8))


def test_real_images_get_the_known_scores() -> None:
    if not REAL.is_dir():
        pytest.skip(f"the real images are not here ({REAL})")
    scores = []
    for path in sorted(REAL.glob("*/tissue images/*.png")):
        true = tifffile.imread(path.parents[1] / "label masks modify" / f"{path.stem}.tif").astype(np.int32)
        predicted = segment(np.asarray(Image.open(path).convert("RGB")))
        scores.append(metrics.score(true, predicted, aji_plus=False))
    assert len(scores) == 19
    means = {name: np.mean([score[name] for score in scores]) for name in ("dice", "aji", "pq")}
    assert means == pytest.approx({"dice": 0.81, "aji": 0.49, "pq": 0.45}, abs=0.03)
