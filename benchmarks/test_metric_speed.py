"""Time of the scores of an image, against the floor (both maps read once), and with AJI+ against without."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ratios

from bench import metrics


def a_pair(seed: int = 19, side: int = 512, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Discs, and the same discs moved by up to three pixels, as uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-15:16, -15:16]
    true, pred = np.zeros((side, side), np.uint16), np.zeros((side, side), np.uint16)
    pitch = side // int(np.sqrt(count))
    for index in range(count):
        centre = (np.array(divmod(index, side // pitch)) + 0.5) * pitch + rng.uniform(-4, 4, 2)
        radius = rng.uniform(6, 11)
        for label_map, (cy, cx) in ((true, centre), (pred, centre + rng.uniform(-3, 3, 2))):
            top, left = (int(np.clip(c, 15, side - 16)) for c in (cy, cx))
            disc = (y + top - cy) ** 2 + (x + left - cx) ** 2 < radius**2
            label_map[top - 15 : top + 16, left - 15 : left + 16][disc] = index + 1
    return true, pred


def report(name: str, target: float | None, call: Callable[[], Any], reference: Callable[[], Any], detail: str) -> None:
    """Medians of many calls, in interleaved rounds: other work on the machine then slows both alike."""
    found = [median_seconds(call) / median_seconds(reference) for _ in range(5)]
    ratios.report(name, float(np.median(found)), target, better="lower", detail=detail)


def median_seconds(call: Callable[[], Any], repeats: int = 100) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@pytest.mark.parametrize(("side", "count", "target"), [(512, 50, None), (512, 400, 12), (1024, 2000, None)])
def test_dice_aji_pq_against_the_floor(side: int, count: int, target: float | None) -> None:
    true, pred = a_pair(side=side, count=count)
    assert len(np.unique(true)) > 0.97 * count
    report(
        f"Dice + AJI + PQ, {side} px, {count} nuclei",
        target,
        lambda: metrics.score(true, pred, aji_plus=False),
        lambda: (true.sum(), pred.sum()),
        "against summing both label maps once",
    )


def test_aji_plus_against_without() -> None:
    true, pred = a_pair()
    report(
        "all scores with AJI+ against without, 400 nuclei",
        2,
        lambda: metrics.score(true, pred),
        lambda: metrics.score(true, pred, aji_plus=False),
        "512 px; AJI+ solves an assignment problem",
    )
