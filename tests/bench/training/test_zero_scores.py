"""Evidence for a PQ of zero, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.training.zero_scores import Evidence
from registry import heads
from registry.modules.mask_candidates import Candidates, collect

PARTS: Any = SimpleNamespace(train=[0] * 5, validation=[0] * 2)


def rows(pq: float, n_pred: int) -> list[dict[str, float]]:
    return [{"pq": pq, "n_pred": n_pred}, {"pq": pq, "n_pred": 0}]


def test_the_largest_foreground_probability_of_all_images_is_noted() -> None:
    evidence = Evidence(heads.get("distance"), {"foreground": 0.5})
    predict = evidence.following(lambda value: torch.full((3, 2, 2), float(value)))
    assert [float(predict(value)[0, 0, 0]) for value in (-2.0, -1.0)] == [-2, -1]  # passed on as they are
    block = evidence.block(rows(0.0, 0), PARTS, refit=False)
    assert block["zero_pq"].pop("largest_foreground") == pytest.approx(1 / (1 + np.e))
    assert block == {"zero_pq": {"n_images": 2, "n_pred": 0, "n_training_images": 5}}
    assert evidence.block(rows(0.0, 3), PARTS, refit=True)["zero_pq"]["n_training_images"] == 7
    assert evidence.block(rows(0.001, 3), PARTS, refit=False) == {}


def candidates(iou: list[float], stability: list[float], n_prompted: int, largest: float) -> Candidates:
    n, none = len(iou), np.zeros(len(iou))
    boxes, corners = np.zeros((n, 4)), np.zeros((n, 2), int)
    values = np.array(iou), np.array(stability)
    return Candidates((), corners, boxes, *values, none, (1.0, 1.0), (8, 8), n_prompted, largest)


def test_masks_are_counted_before_and_after_the_thresholds() -> None:
    head = heads.get("everything")
    evidence = Evidence(head, {"iou": 0.88, "stability": 0.9})
    raw = iter([candidates([0.9, 0.9, 0.6], [0.95, 0.6, 0.95], 48, 0.91), candidates([], [], 48, 0.3)])
    predict = evidence.following(lambda _: next(raw))
    predict(None), predict(None)
    assert evidence.block(rows(0.0, 0), PARTS, refit=False)["zero_pq"] == {
        "n_images": 2,
        "n_pred": 0,
        "n_training_images": 5,
        "n_prompted": 96,
        "n_kept": 3,
        "n_passed": 1,
        "largest_iou": 0.91,
        "loosest_iou": min(head.search["iou"]),
        "loosest_stability": min(head.search["stability"]),
    }


def test_masks_that_are_dropped_at_once_are_counted_too() -> None:
    batches = iter([(torch.zeros(4, 8, 8), torch.tensor([0.1, 0.4, 0.2, 0.3])), (torch.zeros(2, 8, 8), torch.zeros(2))])
    options = {"offset": 1.0, "min_iou": 0.5, "min_stability": 0.5, "max_area": 0.5, "limit": 9}
    found = collect(batches, size=(8, 8), grid=(8.0, 8.0), **options)  # type: ignore[arg-type]
    assert (len(found.iou), found.n_prompted, found.largest_iou) == (0, 6, pytest.approx(0.4))
