"""The cost axis of a plot: logarithmic, with a place for zero left of a marked break."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from bench.units import tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        panel.set_xlabel(label)
        if self.gap is not None:
            white = {"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none"}
            panel.text(
                self.gap,
                0,
                "//",
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="center",
                fontsize=9,
                bbox=white,
                zorder=6,
            )


def cost_axis(values: pd.Series) -> CostAxis:
    """Return an axis for `values` (≥ 0) with room on both sides."""
    positive = values[values > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 10.0)
    decades = max(math.log10(high / low), 0.5)
    margin = 10 ** (0.08 * decades)
    left, right = low / margin, high * margin
    # As many ticks as there is room for; a range within one decade may hold no power of ten at all.
    steps: tuple[float, ...] = (1,) if decades > 2.6 else (1, 3) if decades > 1.4 else (1, 2, 5)
    if decades < 0.7:
        steps = (1, 1.5, 2, 3, 4, 6, 8)
    powers = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    ticks = tuple(m * 10.0**p for p in powers for m in steps if left <= m * 10.0**p <= right)
    labels = tuple(map(tick, ticks))
    if not (values == 0).any():
        return CostAxis(left, right, ticks, labels)
    zero = left / 10 ** (0.14 * decades)
    return CostAxis(zero / margin, right, (zero, *ticks), ("0", *labels), zero, math.sqrt(zero * left))
