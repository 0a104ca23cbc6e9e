"""The cost axis of a plot: logarithmic, with a place for zero left of a marked break."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from bench.units import tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_INCHES = 0.36
"""Room that the label of a tick needs, as wide as "100 M"."""
STEPS = (
    ((1, 1.5, 2, 3, 4, 6, 8), 1),
    ((1, 2, 5), 1),
    ((1, 3), 1),
    ((1,), 1),
    ((1,), 2),
    ((1,), 3),
    ((1,), 4),
    ((1,), 10),
    ((1,), 50),
    ((1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9), 1),
)
"""Multiples of powers of ten that ticks stand at, and of which powers."""


@dataclass(frozen=True)
class CostAxis:
    """Limits and ticks in the axis's unit.

    Attributes:
        left: left limit.
        right: right limit.
        ticks: positions of the ticks.
        labels: their texts.
        zero: position at which the value 0 is drawn; None where no value is 0.
        gap: position of the mark of the break; None without a break.
    """

    left: float
    right: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    zero: float | None = None
    gap: float | None = None

    def place(self, values: pd.Series) -> pd.Series:
        """Return the positions at which values are drawn: the values, but for 0."""
        return values if self.zero is None else values.where(values > 0, self.zero)

    def apply_to(self, panel: Axes, label: str) -> None:
        """Set the horizontal axis of a panel.

        A symmetric-log scale was refused: it would give most of the width to the stretch between 0 and the
        smallest strategy, where nothing lies.
        """
        from matplotlib.ticker import NullLocator

        panel.set_xscale("log")
        panel.set_xlim(self.left, self.right)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(self.ticks, self.labels)
        panel.set_xlabel(label, labelpad=3)
        if self.gap is not None:
            white = {"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none"}
            panel.text(
                self.gap,
                0,
                "//",
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="center",
                fontsize=6,
                bbox=white,
                zorder=6,
            )


def cost_axis(values: pd.Series, inches: float = 3.0) -> CostAxis:
    """Return a logarithmic axis for `values` (≥ 0) with room on both sides.

    Args:
        values: costs in the axis's unit.
        inches: width of the panel, which decides how many ticks are legible.
    """
    positive = values[values > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 10.0)
    decades = max(math.log10(high / low), 0.5)
    margin = max(10 ** (0.08 * decades), math.sqrt(2 * low / high))  # at least a factor of 2, so that two ticks fit
    left, right = low / margin, high * margin
    has_zero = bool((values == 0).any())
    width = inches * math.log10(right / left) / (math.log10(right / left) + (0.22 * decades if has_zero else 0))
    ticks = _ticks(left, right, most=max(2, int(width / TICK_INCHES)))
    labels = tuple(map(tick, ticks))
    if not has_zero:
        return CostAxis(left, right, ticks, labels)
    zero = left / 10 ** (0.14 * decades)
    return CostAxis(zero / margin, right, (zero, *ticks), ("0", *labels), zero, math.sqrt(zero * left))


def _ticks(left: float, right: float, *, most: int) -> tuple[float, ...]:
    """Return round numbers between two limits, as many as are legible; a range may hold no power of ten at all."""
    choices = [_multiples(left, right, steps, every) for steps, every in STEPS]
    legible = [ticks for ticks in choices if 2 <= len(ticks) <= most]
    return max(legible, key=len) if legible else min((ticks for ticks in choices if len(ticks) > 1), key=len)


def _multiples(left: float, right: float, steps: tuple[float, ...], every: int) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    values = (step * 10.0**power for power in powers if power % every == 0 for step in steps)
    return tuple(value for value in values if left <= value <= right)
