"""One nucleus: its measurements and its outline, from the pixels of its own bounding box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Ring = tuple[tuple[float, float], ...]
COLUMNS = (
    "label",
    "area_px",
    "centroid_x_px",
    "centroid_y_px",
    "left_px",
    "top_px",
    "right_px",
    "bottom_px",
    "major_axis_px",
    "minor_axis_px",
    "eccentricity",
    "orientation_degrees",
    "perimeter_px",
)
"""Columns of the CSV file. A pixel's left upper corner is its coordinate; right and bottom are exclusive. Axes and
eccentricity are those of the ellipse of the same second moments, the orientation is the angle of its major axis to the
x axis, counter-clockwise as seen, from 0 to 180 (all by scikit-image's `regionprops`)."""


@dataclass(frozen=True)
class Nucleus:
    """An instance of a label map, in pixels of the image.

    Attributes:
        label: its id in the final label map; 0 before it has one.
        first: (y, x) of its first pixel, row by row.
        top, left: of its bounding box.
        mask: its pixels in the bounding box.
        values: measurements, by `COLUMNS` without the label.
    """

    label: int
    first: tuple[int, int]
    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]
    values: tuple[float, ...]

    def numbered(self, label: int) -> Nucleus:
        """Return it with its final id."""
        return replace(self, label=label)


def measure(mask: Bool[np.ndarray, "h w"], *, top: int, left: int) -> Nucleus:
    """Measure an instance.

    Args:
        mask: its pixels, at least one.
        top, left: of the mask in the image.
    """
    from skimage.measure import regionprops

    (region,) = regionprops(mask.astype(np.uint8))
    min_row, min_column, max_row, max_column = region.bbox
    cut = mask[min_row:max_row, min_column:max_column].copy()
    top, left = top + min_row, left + min_column
    y, x = (int(index) for index in np.argwhere(cut)[0])
    centroid = region.centroid
    values = (
        float(region.area),
        centroid[1] + 0.5 + left - min_column,
        centroid[0] + 0.5 + top - min_row,
        float(left),
        float(top),
        float(left + cut.shape[1]),
        float(top + cut.shape[0]),
        float(region.axis_major_length),
        float(region.axis_minor_length),
        float(region.eccentricity),
        # regionprops: the angle between the rows' axis, which points down, and the major axis, counter-clockwise.
        float(90 + np.degrees(region.orientation)) % 180,
        float(region.perimeter),
    )
    return Nucleus(0, (top + y, left + x), top, left, cut, values)


def outline(nucleus: Nucleus) -> dict[str, Any]:
    """Return the outline as a GeoJSON geometry: a Polygon, or a MultiPolygon for an instance in several pieces.

    Its lines run along the pixels' edges and cut their corners, so the area is that of the pixels up to an eighth of a
    pixel for each corner. Coordinates are (x, y) in pixels, (0, 0) is the image's left upper corner. Outer rings run
    counter-clockwise and holes clockwise as RFC 7946 (3.1.6) has it; where y points down, as in images, it looks the
    other way round.
    """
    pieces, n_pieces = ndimage.label(nucleus.mask)
    polygons = [
        [[list(point) for point in ring] for ring in _rings(pieces == number, nucleus.top, nucleus.left)]
        for number in range(1, n_pieces + 1)
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _rings(piece: Bool[np.ndarray, "h w"], top: int, left: int) -> list[Ring]:
    """Return the outer ring and the holes of a 4-connected piece."""
    from skimage.measure import find_contours

    rings = []
    for contour in find_contours(np.pad(piece, 1).astype(np.float32), 0.5, fully_connected="low"):
        points = contour[:, ::-1] - 0.5 + (left, top)  # the padding moved it by one, a pixel's centre lies at one half
        rings.append(_without_straight(points))
    areas = [_signed_area(ring) for ring in rings]
    outer = int(np.argmax(np.abs(areas)))
    ordered = [outer, *(number for number in range(len(rings)) if number != outer)]
    return [
        tuple(map(tuple, (rings[number] if (areas[number] > 0) == (number == outer) else rings[number][::-1]).tolist()))
        for number in ordered
    ]


def _without_straight(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "k 2"]:
    """Return a closed ring without the points that lie on the line between their neighbours."""
    ring = points[:-1]
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    incoming, outgoing = ring - before, after - ring
    kept = ring[incoming[:, 0] * outgoing[:, 1] != incoming[:, 1] * outgoing[:, 0]]
    return np.concatenate([kept, kept[:1]])


def _signed_area(ring: Float[np.ndarray, "n 2"]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
