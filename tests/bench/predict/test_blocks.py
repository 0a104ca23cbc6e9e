"""Stitching: made-up models whose label maps are known, cut into blocks of many sizes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.predict import blocks
from bench.predict.rows import Whole
from registry.contract import LabelMap


def discs(height: int, width: int, n: int, *, seed: int = 0, radius: tuple[int, int] = (4, 12)) -> np.ndarray:
    """An RGB image whose red channel is the number of a disc (modulo 255, from 1); neighbours never share a number."""
    rng = np.random.default_rng(seed)
    red = np.zeros((height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    for number in range(n):
        cy, cx, r = rng.integers(0, height), rng.integers(0, width), rng.integers(*radius)
        red[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = number % 255 + 1
    return np.repeat(red[..., None], 3, axis=-1)


def segment(pixels: np.ndarray) -> LabelMap:
    """A model that sees no further than a pixel's own piece: each connected piece of one colour is an instance."""
    label_map = np.zeros(pixels.shape[:2], np.int32)
    for colour in np.unique(pixels[..., 0][pixels[..., 0] > 0]):
        pieces = ndimage.label(pixels[..., 0] == colour)[0]
        label_map[pieces > 0] = pieces[pieces > 0] + label_map.max()
    return label_map


def stitch(image: np.ndarray, *, side: int, halo: int, model: object = segment, same_size: bool = False) -> np.ndarray:
    height, width = image.shape[:2]
    plan = blocks.plan(height, width, side=side, halo=halo, same_size=same_size)
    bands = list(blocks.stitched(Whole(image), plan, model))  # type: ignore[arg-type]
    tops = [band.top for band in bands]
    assert tops == list(np.cumsum([0, *(len(band.label_map) for band in bands[:-1])]))
    stitched = np.concatenate([band.label_map for band in bands])
    assert stitched.shape == image.shape[:2]
    assert [nucleus.label for band in bands for nucleus in band.nuclei] == list(range(1, stitched.max() + 1))
    return stitched


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return discs(170, 230, 70)


@pytest.mark.parametrize(
    ("side", "halo", "same_size"), [(64, 26, False), (50, 30, False), (97, 26, False), (64, 26, True), (101, 40, True)]
)
def test_blocks_of_any_size_give_the_map_of_the_whole_image(
    image: np.ndarray, side: int, halo: int, same_size: bool
) -> None:
    whole = stitch(image, side=400, halo=0)
    assert whole.max() > 50
    assert np.array_equal(stitch(image, side=side, halo=halo, same_size=same_size), whole)


def test_ids_are_in_the_order_of_the_first_pixels(image: np.ndarray) -> None:
    label_map = stitch(image, side=64, halo=26)
    _, first = np.unique(label_map[label_map > 0], return_index=True)
    assert (np.diff(first) > 0).all()


def test_measurements_are_those_of_the_instances_in_the_map(image: np.ndarray) -> None:
    plan = blocks.plan(*image.shape[:2], side=64, halo=26)
    bands = list(blocks.stitched(Whole(image), plan, segment))
    label_map = np.concatenate([band.label_map for band in bands])
    for nucleus in (nucleus for band in bands for nucleus in band.nuclei):
        h, w = nucleus.mask.shape
        box = label_map[nucleus.top : nucleus.top + h, nucleus.left : nucleus.left + w]
        assert np.array_equal(box == nucleus.label, nucleus.mask)
        assert nucleus.values[0] == (label_map == nucleus.label).sum()


def test_an_instance_that_two_blocks_see_differently_is_taken_once(image: np.ndarray) -> None:
    """The model grows instances by what it sees of them, so blocks disagree by a pixel around each of them."""
    calls = iter(range(1000))

    def wavering(pixels: np.ndarray) -> LabelMap:
        label_map = segment(pixels)
        if next(calls) % 2:
            grown = ndimage.grey_dilation(label_map, size=(3, 3))
            label_map = np.where(label_map > 0, label_map, grown)
        return label_map

    sparse = discs(230, 310, 12, seed=5)
    assert stitch(sparse, side=64, halo=30, model=wavering).max() == stitch(sparse, side=400, halo=0).max()


@pytest.mark.parametrize("centre", [(100, 200), (100, 225), (190, 190)])
def test_an_instance_that_is_larger_than_the_halo_is_whole(centre: tuple[int, int]) -> None:
    y, x = np.mgrid[:300, :400]
    disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= 40**2).astype(np.uint8)
    label_map = stitch(np.repeat(disc[..., None], 3, axis=-1), side=190, halo=16)
    assert np.array_equal(label_map, disc)


@pytest.mark.parametrize("merging", [0, 1], ids=["first block", "second block"])
def test_two_instances_that_one_block_merges_are_two_in_the_core_of_the_other(merging: int) -> None:
    y, x = np.mgrid[:200, :400]
    truth = np.zeros((200, 400), np.uint8)
    truth[(x - (195, 205)[merging]) ** 2 + (y - 100) ** 2 <= 10**2] = 1  # across the seam at column 200
    truth[(x - (212, 188)[merging]) ** 2 + (y - 100) ** 2 <= 8**2] = 2  # beside it, in the other block's core
    calls = iter(range(2))

    def merges_in_one_window(pixels: np.ndarray) -> LabelMap:
        label_map = pixels[..., 0].astype(np.int32)
        return np.minimum(label_map, 1) if next(calls) == merging else label_map

    label_map = stitch(np.repeat(truth[..., None], 3, axis=-1), side=200, halo=32, model=merges_in_one_window)
    assert label_map.max() == 2
    ids = [np.bincount(label_map[truth == number]).argmax() for number in (1, 2)]
    assert ids[0] != ids[1] and 0 not in ids
    assert np.array_equal(label_map > 0, truth > 0)


def test_an_image_that_is_all_nucleus_is_cut_into_parts_of_a_window_and_not_held_whole() -> None:
    bands = list(
        blocks.stitched(
            Whole(np.ones((900, 230, 3), np.uint8)),
            blocks.plan(900, 230, side=50, halo=20),
            lambda pixels: np.ones(pixels.shape[:2], np.int32),
        )
    )
    assert max(len(band.label_map) for band in bands) <= 140
    assert max(max(nucleus.mask.shape) for band in bands for nucleus in band.nuclei) <= 90
    assert sum(nucleus.values[0] for band in bands for nucleus in band.nuclei) == 900 * 230


def test_every_pixel_lies_in_one_core_and_each_core_in_its_window() -> None:
    for same_size in (False, True):
        seen = np.zeros((230, 310), int)
        for row in blocks.plan(230, 310, side=50, halo=20, same_size=same_size):
            for block in row:
                top, left, bottom, right = block.core
                seen[top:bottom, left:right] += 1
                first, start, last, end = block.window
                assert first <= top and start <= left and last >= bottom and end >= right
                if same_size:
                    assert (last - first, end - start) == (90, 90)
        assert (seen == 1).all()


def test_an_image_that_fits_one_window_is_not_cut() -> None:
    assert blocks.plan(90, 60, side=50, halo=20) == [[blocks.Block((0, 0, 90, 60), (0, 0, 90, 60))]]


def test_no_more_than_a_row_of_blocks_is_held() -> None:
    class Counted(Whole):
        asked: list[int]

        def rows(self, top: int, bottom: int) -> np.ndarray:
            self.asked.append(bottom - top)
            return super().rows(top, bottom)

    source = Counted(discs(900, 80, 30))
    source.asked = []
    bands = list(blocks.stitched(source, blocks.plan(900, 80, side=50, halo=20), segment))
    assert max(source.asked) == 90
    assert max(len(band.label_map) for band in bands) <= 90


def test_an_image_without_nuclei_gives_an_empty_map() -> None:
    assert stitch(np.zeros((130, 150, 3), np.uint8), side=50, halo=10).max() == 0
