"""Outlines of nuclei as lines, told apart by what became of them: matched, missed, spurious, merged or split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from bench.metrics.object_errors import Category, categories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = Float[np.ndarray, "points 2"]
# White and four hues whose smallest distance in CIEDE2000 is 27 in normal sight, protanopia, deuteranopia and
# tritanopia (simulated as in Machado et al. 2009). Each has an edge of the opposite lightness, because stained tissue
# is neither light nor dark.
COLOURS: Mapping[Category, tuple[str, str]] = {
    "matched": ("#ffffff", "#202020"),
    "missed": ("#ff9a00", "#202020"),
    "spurious": ("#b00000", "#ffffff"),
    "merged": ("#00b4ff", "#202020"),
    "split": ("#0030c0", "#ffffff"),
}
"""Colour of the line and of its edge."""
MEANINGS: Mapping[Category, str] = {
    "matched": "matched (IoU > 0.5)",
    "missed": "missed nucleus",
    "spurious": "spurious",
    "merged": "merged: over several nuclei",
    "split": "split: part of a nucleus",
}
TRUE_COLOUR = ("#ffffff", "#202020")
WIDTH, EDGE = 0.55, 0.45
"""Width of a line in points, and of the edge on each side of it."""
DASHES = (3.0, 1.2)
TOLERANCE = 0.35
"""Pixels by which an outline may leave the borders of the pixels: a smooth line in a quarter of the points."""


def outlines(label_map: Int[np.ndarray, "h w"]) -> dict[int, list[Line]]:
    """Return the closed outlines of each label as points (x, y); pixel (0, 0) has its centre at (0, 0).

    A label has several of them if it lies in pieces or has holes. Those of a label at the border of the image end one
    pixel outside of it, so that no line runs along the border.
    """
    from scipy.ndimage import find_objects
    from shapely import LineString, get_coordinates, simplify
    from skimage.measure import find_contours

    lines: dict[int, list[Line]] = {}
    ids = [int(label) for label in np.unique(label_map) if label]
    dense = np.searchsorted([0, *ids], label_map)  # find_objects has an entry for every id up to the largest
    continued = np.pad(dense, 1, mode="edge")
    for place, (label, (rows, columns)) in enumerate(zip(ids, find_objects(dense), strict=True), start=1):
        mask = continued[rows.start : rows.stop + 2, columns.start : columns.stop + 2] == place
        offset = np.array([columns.start - 1, rows.start - 1])
        lines[label] = [
            # skimage's own approximate_polygon, in Python, took most of the time of a gallery.
            get_coordinates(simplify(LineString(contour[:, ::-1] + offset), TOLERANCE))
            for contour in find_contours(mask, 0.5)
        ]
    return lines


def by_category(true: Int[np.ndarray, "h w"], predicted: Int[np.ndarray, "h w"]) -> dict[Category, list[Line]]:
    """Return the outlines of all predictions, and of the true nuclei that were missed, by category."""
    of_true, of_predicted = categories(true, predicted)
    lines: dict[Category, list[Line]] = {name: [] for name in COLOURS}
    for label, own in outlines(predicted).items():
        lines[of_predicted[label]] += own
    missed = [label for label, category in of_true.items() if category == "missed"]
    for own in outlines(np.where(np.isin(true, missed), true, 0)).values():
        lines["missed"] += own
    return lines


def draw_lines(axes: Axes, lines: list[Line], colour: str, edge: str, *, dashed: bool = False) -> None:
    """Draw outlines as lines of a width in points, so that they are crisp whatever the size of the figure."""
    from matplotlib.collections import LineCollection

    if lines:
        axes.add_collection(LineCollection(lines, colors=edge, linewidths=WIDTH + 2 * EDGE, joinstyle="round"))
        style: Any = (0, DASHES) if dashed else "solid"
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=WIDTH, linestyles=style))


def legend_handles() -> list[Any]:
    """Return a line for each category, as it is drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    handles = []
    for category, (colour, edge) in COLOURS.items():
        style: Any = (0, DASHES) if category == "missed" else "solid"
        handle = Line2D([], [], color=colour, linewidth=1.2, linestyle=style, label=MEANINGS[category])
        around = Stroke(linewidth=2.6, foreground=edge)
        handle.set_path_effects([around, Normal()])
        handles.append(handle)
    return handles


def reduced(pixels: UInt8[np.ndarray, "h w 3"], longest: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return an image of at most `longest` pixels on its longer side; smaller ones are left as they are."""
    from PIL import Image

    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
