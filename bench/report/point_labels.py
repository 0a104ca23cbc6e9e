"""Names beside points: placed where they cover neither each other nor points, the same way every time.

adjustText was refused: it pushes texts about in many small steps, whose result a last digit can change, and it can't
leave a name out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.report.canvas import SMALLEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCES = (4.5, 8.0, 13.0, 20.0, 30.0, 42.0)
"""Points between a name and its point."""
NEAR, FARTHEST = 8.0, 20.0
"""Beyond the first a line joins a name with its point; beyond the second a name that is not needed is left out."""
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (2, 1), (-2, 1), (2, -1), (-2, -1))


@dataclass(frozen=True)
class Label:
    """Name of a point.

    Attributes:
        x: of the point, in data coordinates.
        y: of the point.
        text: a line of text, or several.
        needed: it goes before the others.
    """

    x: float
    y: float
    text: str
    needed: bool = False


def write_labels(
    panel: Axes, labels: Sequence[Label], points: np.ndarray, segments: np.ndarray, *, size: float = SMALLEST
) -> list[Label]:
    """Write labels into a panel whose limits and place are final.

    Args:
        panel: with its final limits.
        labels: needed ones are placed first, then in the given order.
        points: middle of every marker in data coordinates, (n, 2).
        segments: vertical and horizontal lines to keep clear of: start and end in data coordinates, (m, 2, 2).
        size: of the letters, in points.

    Returns:
        The labels for which there was no room.
    """
    figure = panel.get_figure()
    assert figure is not None
    scale = 72 / figure.dpi  # everything is in points of the page
    frame = panel.get_window_extent()
    inside = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * scale + np.array([1, 1, -1, -1])
    middles = panel.transData.transform(points.reshape(-1, 2)) * scale
    ends = panel.transData.transform(segments.reshape(-1, 2)).reshape(-1, 4) * scale
    lines = np.column_stack([np.minimum(ends[:, :2], ends[:, 2:]) - 0.5, np.maximum(ends[:, :2], ends[:, 2:]) + 0.5])
    taken = np.vstack([np.hstack([middles - 2.6, middles + 2.6]), lines])
    written, left_out = np.empty((0, 4)), []
    for label in sorted(labels, key=lambda label: not label.needed):
        spot = panel.transData.transform((label.x, label.y)) * scale
        extent = _extent(label.text, size)
        distances = [distance for distance in DISTANCES if label.needed or distance <= FARTHEST]
        place = _free_place(spot, extent, taken, written, inside, distances)
        if place is None:
            left_out.append(label)
            continue
        corner, distance = place
        box = np.hstack([corner, corner + extent])
        written = np.vstack([written, box])
        taken = np.vstack([taken, box])
        far = distance > NEAR
        if far:
            leader = _leader(spot, corner, extent)
            taken = np.vstack([taken, np.hstack([leader - 0.5, leader + 0.5])])
        panel.annotate(
            label.text,
            (label.x, label.y),
            xytext=tuple((corner + extent / 2 - spot).tolist()),
            textcoords="offset points",
            fontsize=size,
            ha="center",
            va="center",
            linespacing=1.0,
            zorder=6,
            parse_math=False,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": (1, 1, 1, 0.75), "edgecolor": "none"},
            arrowprops=_LEADER if far else None,
        )
    return left_out


def _extent(text: str, size: float) -> np.ndarray:
    from matplotlib.textpath import TextPath

    lines = text.splitlines() or [""]
    width = max(TextPath((0, 0), line, size=size).get_extents().width if line.strip() else 0 for line in lines)
    return np.array([width + 1, 1.15 * size * len(lines)])


def _leader(spot: np.ndarray, corner: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Return places along the line that joins a point with its name, (n, 2)."""
    middle = corner + extent / 2
    places = spot + np.linspace(0, 1, 20)[:, None] * (middle - spot)
    outside = (places < corner).any(axis=1) | (places > corner + extent).any(axis=1)
    kept: np.ndarray = places[outside][2:]
    return kept


_LEADER = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0.5, "shrinkB": 2.5}


def _free_place(
    spot: np.ndarray,
    extent: np.ndarray,
    taken: np.ndarray,
    written: np.ndarray,
    inside: np.ndarray,
    distances: Sequence[float],
) -> tuple[np.ndarray, float] | None:
    """Return the lower left corner of the nearest free place for a box, and its distance; None: there is none."""
    for distance in distances:
        for direction in DIRECTIONS:
            unit = np.array(direction) / np.abs(direction).max()
            corner = spot + unit * distance + (unit - 1) / 2 * extent
            box = np.hstack([corner, corner + extent])
            within = (box[:2] >= inside[:2]).all() and (box[2:] <= inside[2:]).all()
            apart = (box[2:] <= taken[:, :2]).any(axis=1) | (box[:2] >= taken[:, 2:]).any(axis=1)
            if not within or not apart.all():
                continue
            leader = _leader(spot, corner, extent)[:, None] if distance > NEAR else np.empty((0, 1, 2))
            if not ((leader > written[:, :2]) & (leader < written[:, 2:])).all(axis=2).any():
                return corner, distance
    return None
