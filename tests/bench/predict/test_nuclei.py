"""Measurements and outlines of single instances: hand-computed ones, and shapely's judgement of the others."""

from __future__ import annotations

import json

import geojson
import numpy as np
import pytest
from shapely.geometry import Point, shape

from bench.predict.nuclei import COLUMNS, measure, outline


def values(mask: np.ndarray, top: int = 0, left: int = 0) -> dict[str, float]:
    return dict(zip(COLUMNS[1:], measure(mask, top=top, left=left).values, strict=True))


def test_a_rectangle_is_measured() -> None:
    mask = np.zeros((8, 10), bool)
    mask[2:6, 1:9] = True  # 4 rows, 8 columns
    measured = values(mask, top=100, left=200)
    assert measured["area_px"] == 32
    assert (measured["centroid_x_px"], measured["centroid_y_px"]) == (205, 104)
    assert [measured[f"{side}_px"] for side in ("left", "top", "right", "bottom")] == [201, 102, 209, 106]
    # The second moment of n pixels in a row is (n² − 1)/12, and an axis of the ellipse four times its root.
    assert measured["major_axis_px"] == pytest.approx(4 * np.sqrt(63 / 12))
    assert measured["minor_axis_px"] == pytest.approx(4 * np.sqrt(15 / 12))
    assert measured["eccentricity"] == pytest.approx(np.sqrt(1 - 15 / 63))
    assert measured["orientation_degrees"] == pytest.approx(0)


def test_the_orientation_is_counter_clockwise_from_the_x_axis() -> None:
    y, x = np.mgrid[:41, :41]
    for degrees in (20, 70, 110, 160):
        # The image's y axis points down.
        along = (x - 20) * np.cos(np.radians(degrees)) - (y - 20) * np.sin(np.radians(degrees))
        across = (x - 20) * np.sin(np.radians(degrees)) + (y - 20) * np.cos(np.radians(degrees))
        assert values((along / 18) ** 2 + (across / 6) ** 2 < 1)["orientation_degrees"] == pytest.approx(degrees, abs=1)


def test_the_first_pixel_and_the_box_are_those_of_the_mask() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1, 4] = mask[2, 2:5] = True
    nucleus = measure(mask, top=10, left=20)
    assert (nucleus.first, nucleus.top, nucleus.left, nucleus.mask.shape) == ((11, 24), 11, 22, (2, 3))


def test_the_outline_of_a_rectangle_runs_along_its_edges() -> None:
    geometry = outline(measure(np.ones((3, 5), bool), top=10, left=20))
    assert geometry["type"] == "Polygon"
    (ring,) = geometry["coordinates"]
    assert ring[0] == ring[-1]
    assert shape(geometry).bounds == (20, 10, 25, 13)
    assert shape(geometry).area == 15 - 4 / 8  # each corner is cut by an eighth of a pixel


def test_a_single_pixel_has_an_outline() -> None:
    geometry = outline(measure(np.ones((1, 1), bool), top=4, left=7))
    assert shape(geometry).is_valid
    assert shape(geometry).centroid.coords[0] == (7.5, 4.5)


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_any_mask_are_valid_closed_and_of_its_area(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 14)) < (0.55, 0.75, 0.9)[seed % 3]  # pieces, holes, and pixels that touch by a corner
    geometry = outline(measure(mask, top=3, left=5))
    feature = geojson.loads(json.dumps({"type": "Feature", "geometry": geometry, "properties": {}}))
    assert feature.is_valid, feature.errors()
    polygon = shape(geometry)
    assert polygon.is_valid
    # The corners of a mask are at most as many as its vertices.
    n_corners = sum(len(ring) - 1 for part in _parts(geometry) for ring in part)
    assert abs(polygon.area - mask.sum()) <= n_corners / 8
    for y, x in np.ndindex(mask.shape):
        assert polygon.contains(Point(x + 5.5, y + 3.5)) == mask[y, x]


def test_a_hole_is_a_ring_of_the_other_direction() -> None:
    mask = np.ones((7, 7), bool)
    mask[3, 3] = False
    outer, hole = outline(measure(mask, top=0, left=0))["coordinates"]
    assert _area(outer) == 49 - 0.5
    assert _area(hole) == -0.5


def test_two_pieces_are_a_multipolygon() -> None:
    geometry = outline(measure(np.array([[1, 1, 0, 1]], bool), top=0, left=0))
    assert geometry["type"] == "MultiPolygon"
    assert [len(part) for part in geometry["coordinates"]] == [1, 1]


def _parts(geometry: dict) -> list:
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]


def _area(ring: list) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
