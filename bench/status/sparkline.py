"""Sparkline: a row of values as a line of small bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return one bar per value, scaled from the lowest to the highest; equal values give bars of middle height.

    Args:
        values: finite.
        width: bars at most; of more values, neighbours are averaged.
    """
    if not values or width < 1:
        return ""
    n_bars = min(len(values), width)
    edges = [number * len(values) // n_bars for number in range(n_bars + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(edges)]
    low, high = min(means), max(means)
    if low == high:
        return BARS[len(BARS) // 2 - 1] * n_bars
    return "".join(BARS[min(len(BARS) - 1, int((value - low) / (high - low) * len(BARS)))] for value in means)
