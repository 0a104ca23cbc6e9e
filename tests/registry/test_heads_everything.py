from __future__ import annotations

import numpy as np
import pytest
import torch

from registry import backbones, heads
from registry.errors import StrategyError
from registry.modules.mask_candidates import collect


def boxes_as_logits(side: int, *boxes: tuple[int, int, int, int], inside: float = 3.0) -> torch.Tensor:
    """One map per (y0, y1, x0, x1): `inside` within, −`inside` elsewhere."""
    logits = torch.full((len(boxes), side, side), -inside)
    for map_, (y0, y1, x0, x1) in zip(logits, boxes, strict=True):
        map_[y0:y1, x0:x1] = inside
    return logits


def collected(logits, iou, *, scale: int = 1, **given):
    side = logits.shape[-1]
    settings = {
        "size": (side * scale, side * scale),
        "grid": (side, side),
        "offset": 1.0,
        "min_iou": 0.0,
        "min_stability": 0.0,
        "max_area": 1.0,
        "limit": 100,
    }
    return collect(iter([(logits, torch.tensor(iou))]), **{**settings, **given})


@pytest.fixture
def head():
    return heads.get("everything")


def test_overlapping_pixels_belong_to_the_mask_of_higher_iou(head):
    logits = boxes_as_logits(16, (2, 10, 2, 10), (6, 14, 6, 14))
    label_map = head.instances(collected(logits, [0.90, 0.95]), max_area=1.0)
    assert label_map.dtype == np.int32 and label_map[7, 7] == label_map[12, 12] == 1 and label_map[3, 3] == 2
    assert (label_map == 1).sum() == 64 and (label_map == 2).sum() == 64 - 16


def test_nms_removes_a_duplicate_mask(head):
    candidates = collected(boxes_as_logits(16, (2, 10, 2, 10), (2, 10, 2, 11)), [0.95, 0.90])
    assert head.instances(candidates, max_area=1.0, visible=0.0).max() == 1
    assert head.instances(candidates, max_area=1.0, visible=0.0, nms=1.0).max() == 2


def test_masks_are_filtered_by_iou_and_area(head):
    logits = boxes_as_logits(20, (2, 6, 2, 6), (0, 20, 0, 12), (10, 14, 14, 18))
    candidates = collected(logits, [0.95, 0.99, 0.60])
    np.testing.assert_allclose(candidates.area, [240 / 400, 16 / 400, 16 / 400], rtol=1e-6)
    assert head.instances(candidates).max() == 1  # the background is too large, the third too poor
    assert head.instances(candidates, iou=0.5).max() == 2
    assert head.instances(candidates, iou=0.5, max_area=1.0).max() == 2  # the first lies in the background's mask
    assert head.instances(candidates, min_area=0.05).max() == 0


def test_stability_is_the_iou_of_the_mask_at_plus_and_minus_one_logit(head):
    logits = boxes_as_logits(16, (2, 6, 2, 6))
    logits[0, 2:6, 6:10] = 0.5  # above −1, not above 1: half of the mask is unsure
    candidates = collected(logits, [0.95])
    np.testing.assert_allclose(candidates.stability, [0.5])
    assert head.instances(candidates, max_area=1.0).max() == 0
    assert head.instances(candidates, max_area=1.0, stability=0.5).max() == 1


def test_a_mask_covered_by_better_masks_is_dropped(head):
    logits = boxes_as_logits(16, (2, 12, 2, 8), (2, 12, 8, 12), (2, 12, 2, 12))
    candidates = collected(logits, [0.99, 0.98, 0.90])
    assert head.instances(candidates, max_area=1.0, nms=1.0).max() == 2


def test_a_region_swallows_the_nuclei_inside_it_unless_the_smallest_mask_comes_first(head):
    nuclei = [(2, 6, 2, 6), (8, 12, 2, 6), (2, 6, 9, 13), (8, 12, 9, 13)]
    candidates = collected(boxes_as_logits(24, (0, 14, 0, 15), *nuclei), [0.97, 0.95, 0.94, 0.93, 0.92])
    settings = {"max_area": 1.0, "nms": 1.0}
    swallowed = head.instances(candidates, **settings)
    assert swallowed.max() == 1 and (swallowed == 1).sum() == 14 * 15
    apart = head.instances(candidates, **settings, order=1.0)
    assert apart.max() == 5 and [(apart[y0:y1, x0:x1] > 0).all() for y0, y1, x0, x1 in nuclei] == [True] * 4
    assert len({apart[y0, x0] for y0, _, x0, _ in nuclei}) == 4 and apart[0, 0] == 5
    # Half of the region is not left by its nuclei: it is dropped, and they alone remain.
    assert head.instances(candidates, **settings, order=1.0, visible=0.8).max() == 4


def test_masks_of_equal_size_are_painted_by_their_iou(head):
    logits = boxes_as_logits(16, (2, 10, 2, 10), (6, 14, 6, 14))
    candidates = collected(logits, [0.90, 0.95])
    by_iou = head.instances(candidates, max_area=1.0)
    np.testing.assert_array_equal(head.instances(candidates, max_area=1.0, order=1.0), by_iou)


def test_masks_are_upsampled_between_pixels(head):
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    logits = (4.3 - ((y - 8) ** 2 + (x - 8) ** 2).sqrt())[None]
    label_map = head.instances(collected(logits, [0.95], scale=4), max_area=1.0, stability=0.0)
    expected = torch.nn.functional.interpolate(logits[None], (64, 64), mode="bilinear")[0, 0] > 0
    # Eight bits of logit cost a pixel here and there.
    assert (label_map.astype(bool) != expected.numpy()).sum() <= 4


def test_padding_belongs_to_no_mask(head):
    logits = boxes_as_logits(16, (0, 16, 4, 8))
    candidates = collected(logits, [0.95], grid=(8, 16), size=(16, 32))
    assert candidates.patches[0].shape == (8, 6) and candidates.area[0] == pytest.approx(32 / 128)
    label_map = head.instances(candidates, max_area=1.0)
    assert label_map.shape == (16, 32) and (label_map > 0).sum() == 16 * 8


def test_the_limit_keeps_the_masks_of_highest_iou():
    logits = boxes_as_logits(16, *[(i, i + 2, i, i + 2) for i in range(10)])
    iou = torch.linspace(0.5, 0.95, 10)
    candidates = collect(
        iter(zip(logits.split(3), iou.split(3), strict=True)),
        size=(16, 16),
        grid=(16, 16),
        offset=1.0,
        min_iou=0.0,
        min_stability=0.0,
        max_area=1.0,
        limit=4,
    )
    np.testing.assert_allclose(candidates.iou, [0.95, 0.9, 0.85, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(candidates.boxes[0], [9, 9, 10, 10])


def test_no_candidates_give_an_empty_map(head):
    candidates = collected(boxes_as_logits(16, (2, 6, 2, 6)), [0.1], min_iou=0.5)
    label_map = head.instances(candidates)
    assert label_map.shape == (16, 16) and label_map.max() == 0


def test_targets_loss_and_logits_are_refused(head):
    for call in (lambda: head.targets(np.zeros((4, 4), int)), lambda: head.loss(None, None)):
        with pytest.raises(StrategyError, match="can't be trained; run it with the strategy 'zero_shot'"):
            call()
    with pytest.raises(StrategyError, match=r"reads masks of its candidates\(\), not ndarray"):
        head.instances(np.zeros((3, 8, 8)))
    with pytest.raises(StrategyError, match=r"unknown parameter of head 'everything' 'stabilty'. Did you mean"):
        head.instances(collected(boxes_as_logits(16, (2, 6, 2, 6)), [0.9]), stabilty=0.1)


class OracleSam:
    """Fake model whose mask of a point is the square cell around it, at a quarter of the input's size."""

    image_size = 64
    card = backbones.card("sam_nano")

    def encode(self, images):
        assert images.shape == (1, 3, 64, 64)
        return torch.zeros(1, 256, 4, 4)

    def decode(self, embeddings, points=None, labels=None, boxes=None):
        assert (labels == 1).all() and points.shape[1:] == (1, 2)
        logits = torch.full((len(points), 4, 16, 16), -3.0)
        for row, (x, y) in zip(logits, points[:, 0].tolist(), strict=True):
            top, left = int(y // 16) * 4, int(x // 16) * 4
            row[2, top : top + 3, left : left + 3] = 3.0
            row[0] = 3.0  # token 0 is not used
        return logits, torch.tensor([1.0, 0.2, 0.9, 0.3]).expand(len(points), 4)


def test_a_grid_of_points_gives_each_cell_once(head):
    candidates = head.candidates(
        OracleSam(), torch.zeros(3, 64, 64), size=(24, 32), valid=(48, 64), points_per_side=8, points_per_batch=7
    )
    assert len(candidates.patches) == 64 and candidates.stride == (2.0, 2.0)
    label_map = head.instances(candidates, max_area=0.25)
    assert label_map.shape == (24, 32) and label_map.max() == 12
    assert label_map[2, 2] > 0 and label_map[7, 7] == 0


def test_any_backbone_can_be_prompted(head):
    sam = backbones.build("sam_nano", image_size=128)
    candidates = head.candidates(sam, torch.rand(3, 128, 128), points_per_side=4, limit=10)
    assert candidates.size == (128, 128) and len(candidates.patches) <= 10
    assert head.instances(candidates).shape == (128, 128)
