from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from bench.training import tiling


def test_a_whole_image_fits_one_input_unless_a_scale_is_set():
    assert tiling.scale_for(512, 512, image_size=1024, scale=None) == 2.0
    assert tiling.scale_for(256, 320, image_size=256, scale=None) == 0.8
    assert tiling.scale_for(512, 512, image_size=256, scale=1.5) == 1.5


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [(100, 256, 64, [0]), (256, 256, 64, [0]), (320, 256, 64, [0, 64]), (512, 256, 64, [0, 128, 256])],
)
def test_tiles_cover_the_image_evenly(length, size, overlap, starts):
    assert tiling.tile_starts(length, size, overlap) == starts


def test_tiles_overlap_by_at_least_the_given_overlap():
    for length in range(257, 1500, 7):
        starts = tiling.tile_starts(length, 256, 64)
        assert starts[0] == 0 and starts[-1] == length - 256
        assert max(b - a for a, b in pairwise(starts)) <= 256 - 64


def test_epoch_has_as_many_samples_of_an_image_as_it_fills_inputs():
    assert tiling.tiles_per_image(512, 512, image_size=1024, scale=None) == 1
    assert tiling.tiles_per_image(512, 512, image_size=256, scale=1.0) == 4
    assert tiling.tiles_per_image(256, 320, image_size=256, scale=1.0) == 1


def test_padding_is_right_and_below_with_the_mean_colour():
    image = torch.zeros(1, 3, 2, 4)
    image[:, 0] = 0.5
    padded = tiling.pad(image, 6)
    assert padded.shape == (1, 3, 6, 6)
    assert torch.equal(padded[..., :2, :4], image)
    assert torch.equal(padded[0, :, 5, 5], torch.tensor([0.5, 0.0, 0.0]))
    assert tiling.pad(image, 2) is image


def test_resizing_to_the_same_size_changes_nothing():
    image = torch.rand(1, 3, 5, 7)
    assert tiling.resize(image, 5, 7) is image
    assert tiling.resize(torch.ones(1, 1, 4, 4), 2, 8).unique().tolist() == [1.0]
