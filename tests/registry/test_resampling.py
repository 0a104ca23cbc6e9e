"""Resampling of maps and labels: equal to PyTorch's where both can, and without a shift of one against the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from registry.resampling import Span, resample, sample_labels, whole


@pytest.mark.parametrize(("length", "count"), [(8, 32), (8, 12), (16, 8), (17, 5), (8, 8), (1, 3)])
def test_whole_axes_are_resampled_as_pytorch_does(length: int, count: int) -> None:
    maps = torch.randn(2, length, 9, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps[None], (count, 20), mode="bilinear", align_corners=False, antialias=count < length)
    assert torch.allclose(resample(maps, whole(length, count), whole(9, 20)), expected[0], atol=1e-5)


def test_part_of_an_axis_is_that_part_of_the_whole_result() -> None:
    maps = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    complete = resample(maps, whole(16, 48), whole(16, 48))
    part = resample(maps, Span(start=7 / 3, step=1 / 3, size=20), Span(start=1.0, step=1 / 3, size=11))
    assert torch.allclose(part, complete[:, 7:27, 3:14], atol=1e-5)


def test_ramp_is_resampled_to_the_centres_of_the_parts() -> None:
    ramp = torch.arange(10).float().add(0.5).expand(1, 10, 10)  # the value of a pixel is its own centre
    values = resample(ramp, whole(10, 10), Span(start=2.25, step=0.5, size=4))
    assert values[0, 3].tolist() == pytest.approx([2.5, 3.0, 3.5, 4.0])
    halved = resample(ramp, whole(10, 10), Span(start=2.0, step=2.0, size=3))
    assert halved[0, 3].tolist() == pytest.approx([3.0, 5.0, 7.0], abs=1e-5)


def test_label_of_a_centre_within_a_pixel_is_that_pixels() -> None:
    labels = np.arange(1, 10, dtype=np.int32)[None].repeat(9, axis=0)
    assert sample_labels(labels, whole(9, 3), whole(9, 3)).tolist() == [[2, 5, 8]] * 3
    assert sample_labels(labels[:2], whole(2, 2), whole(9, 18))[0].tolist() == np.arange(1, 10).repeat(2).tolist()


@pytest.mark.parametrize("left", range(8, 16))
@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_square_keeps_its_centre_at_every_place(left: int, ratio: int) -> None:
    labels = np.zeros((32, 32), np.int32)
    labels[left : left + 8, left : left + 8] = 3
    small = sample_labels(labels, whole(32, 32 // ratio), whole(32, 32 // ratio))
    rows, columns = (ratio * (indices.mean() + 0.5) for indices in np.nonzero(small))
    if ratio < 4:  # by hand: the centre lies at left + 4, and parts that are half covered belong to the square
        assert (rows, columns) == (left + 4, left + 4)
    else:  # a square whose edges lie a quarter of a part from the grid's can't keep it; up to one pixel
        assert abs(rows - left - 4) <= 1 and rows == columns


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_labels_are_not_shifted_against_the_image_on_average(ratio: int) -> None:
    """Over all places of a square, the mean difference of the centres is 0; by the pixel on the right it was -0.5."""
    shifts, side_of_square = [], 3 * ratio
    for left in range(2 * ratio, 4 * ratio):
        labels = np.zeros((16 * ratio, 16 * ratio), np.int32)
        labels[:, left : left + side_of_square] = 1
        small = sample_labels(labels, whole(16 * ratio, 16), whole(16 * ratio, 16))
        shifts.append(ratio * (np.nonzero(small)[1].mean() + 0.5) - left - side_of_square / 2)
    assert np.mean(shifts) == 0.0 and max(map(abs, shifts)) <= ratio / 2


def test_most_frequent_label_around_a_centre_on_an_edge_is_taken() -> None:
    def halved(rows: list[list[int]]) -> int:
        return int(sample_labels(np.array(rows, np.int32), whole(2, 1), whole(2, 1))[0, 0])

    assert halved([[0, 0], [0, 5]]) == 0
    assert halved([[0, 5], [0, 5]]) == 5  # as frequent as the background
    assert halved([[3, 3], [5, 3]]) == 3
    assert halved([[3, 0], [5, 0]]) == 0
    assert halved([[3, 7], [2**31 - 1, 2**31 - 1]]) == 2**31 - 1


@pytest.mark.parametrize("turn", range(4))
def test_turned_labels_are_sampled_as_the_others(turn: int) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (24, 24)).astype(np.int32)
    small = sample_labels(labels, whole(24, 12), whole(24, 12))
    assert np.array_equal(sample_labels(np.rot90(labels, turn), whole(24, 12), whole(24, 12)), np.rot90(small, turn))


def test_labels_beyond_the_map_are_background() -> None:
    labels = np.full((4, 4), 2, np.int32)
    sampled = sample_labels(labels, Span(-2.0, 1.0, 4), Span(2.0, 1.0, 4))
    assert sampled.tolist() == [[0] * 4, [0] * 4, [2, 2, 0, 0], [2, 2, 0, 0]]
