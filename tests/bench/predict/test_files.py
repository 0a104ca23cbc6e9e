"""Files of a prediction: label TIFF, GeoJSON, CSV and overlay of a made-up label map."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geojson
import numpy as np
import pytest
import tifffile
from PIL import Image
from shapely.geometry import shape

from bench.predict import blocks, files
from bench.predict.nuclei import COLUMNS
from bench.predict.rows import Whole
from registry import pixels

SQUARES = np.zeros((600, 700), np.int32)
for number in range(1, 40):
    top, left = 15 * (number - 1), 17 * (number - 1)
    SQUARES[top : top + 9 + number % 3, left : left + 10] = number
IMAGE = np.full((600, 700, 3), 200, np.uint8)


def write(
    folder: Path, label_map: np.ndarray = SQUARES, image: np.ndarray = IMAGE, stem: str = "a", side: int = 200
) -> int:
    height, width = label_map.shape
    overlay = files.Overlay(height, width)
    plan = blocks.plan(height, width, side=side - side % overlay.factor, halo=20)
    places = iter(block.window for row in plan for block in row)

    def segment(_: np.ndarray) -> np.ndarray:
        first, start, last, end = next(places)
        return label_map[first:last, start:end]

    bands = blocks.stitched(Whole(image), plan, segment, seen=overlay.see)
    return files.write(folder, stem, bands, overlay, height=height, width=width, origin={})


def test_the_label_tiff_holds_the_map(tmp_path: Path) -> None:
    assert write(tmp_path) == 39
    path = tmp_path / "a.labels.tif"
    assert np.array_equal(tifffile.imread(path), SQUARES)
    label_map, notes = pixels.read_label(path)
    assert np.array_equal(label_map, SQUARES)
    assert notes == ()
    with tifffile.TiffFile(path) as file:
        assert (file.is_bigtiff, file.pages.first.is_tiled, file.pages.first.dtype) == (False, True, np.uint32)
        assert file.pages.first.compression.name == "ADOBE_DEFLATE"


def test_a_map_of_four_gigabytes_is_a_big_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.BIG_TIFF_BYTES < 2**32
    monkeypatch.setattr(files, "BIG_TIFF_BYTES", SQUARES.size * 4 - 1)
    write(tmp_path)
    with tifffile.TiffFile(tmp_path / "a.labels.tif") as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), SQUARES)


def test_the_outlines_are_detections_that_a_geojson_library_takes(tmp_path: Path) -> None:
    write(tmp_path)
    collection = geojson.loads((tmp_path / "a.geojson").read_text())
    assert collection.is_valid, collection.errors()
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == 39
    for number, feature in enumerate(collection["features"], start=1):
        properties, polygon = feature["properties"], shape(feature["geometry"])
        assert (properties["objectType"], properties["name"]) == ("detection", str(number))
        assert set(properties["measurements"]) == set(COLUMNS[1:])
        assert feature["geometry"]["type"] == "Polygon" and polygon.is_valid and polygon.exterior.is_ring
        assert polygon.area == np.count_nonzero(number == SQUARES) - 0.5 == properties["measurements"]["area_px"] - 0.5


def test_the_table_has_a_row_for_each_nucleus(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == list(range(1, 40))
    assert rows[0] == {
        "label": "1",
        "area_px": "100",
        "centroid_x_px": "5",
        "centroid_y_px": "5",
        "left_px": "0",
        "top_px": "0",
        "right_px": "10",
        "bottom_px": "10",
        "major_axis_px": "11.4891",
        "minor_axis_px": "11.4891",
        "eccentricity": "0",
        "orientation_degrees": rows[0]["orientation_degrees"],
        "perimeter_px": "36",
    }


def test_the_overlay_shows_the_outlines_on_the_image(tmp_path: Path) -> None:
    write(tmp_path)
    picture = np.array(Image.open(tmp_path / "a.overlay.png"))
    assert picture.shape == IMAGE.shape
    assert tuple(picture[0, 0]) == tuple(picture[9, 9]) == files.OUTLINE_COLOUR
    assert tuple(picture[5, 5]) == tuple(picture[300, 5]) == (200, 200, 200)


def test_a_large_image_has_a_shrunk_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OVERLAY_SIDE", 250)
    image = np.random.default_rng(0).integers(0, 256, IMAGE.shape, dtype=np.uint8)
    write(tmp_path, label_map=np.zeros_like(SQUARES), image=image)
    picture = np.array(Image.open(tmp_path / "a.overlay.png"))
    expected = image[:, :699].reshape(200, 3, 233, 3, 3).mean((1, 3))
    assert picture.shape == (200, 234, 3)
    assert np.abs(picture[:, :233] - expected).max() <= 0.5 + 1e-9
    assert np.abs(picture[:, 233] - image[:, 699].reshape(200, 3, 3).mean(1)).max() <= 0.5 + 1e-9


def test_the_same_prediction_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name)
    for path in files.paths(tmp_path / "one", "a"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_an_image_without_nuclei_has_empty_files(tmp_path: Path) -> None:
    assert write(tmp_path, label_map=np.zeros_like(SQUARES)) == 0
    assert json.loads((tmp_path / "a.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
    assert (tmp_path / "a.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert tifffile.imread(tmp_path / "a.labels.tif").max() == 0


def test_a_prediction_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield blocks.Band(0, np.zeros((600, 700), np.uint32)[:300], ())
        raise ValueError("its strip 7 is missing")

    with pytest.raises(ValueError, match="strip 7"):
        files.write(tmp_path, "a", broken(), files.Overlay(600, 700), height=600, width=700, origin={})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_length_and_alphabet_are_written(tmp_path: Path) -> None:
    for stem in ("Zellkern ü <b>&|_%", "x" * 250):
        write(tmp_path, stem=stem)
        assert all(path.is_file() for path in files.paths(tmp_path, stem))


def test_an_overlay_is_the_same_whatever_parts_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OVERLAY_SIDE", 60)  # shrunk by three, and 100 is no multiple of it
    pixels = np.random.default_rng(1).integers(0, 256, (130, 160, 3), dtype=np.uint8)
    pictures = []
    for side in (160, 50, 31):
        overlay = files.Overlay(130, 160)
        assert overlay.factor == 3
        for top in range(0, 130, side):
            for left in range(0, 160, side):
                overlay.see(top, left, pixels[top : top + side, left : left + side])
        pictures.append(overlay.picture().astype(int))
    means = pixels[:129, :159].reshape(43, 3, 53, 3, 3).mean((1, 3))
    assert np.abs(pictures[0][:43, :53] - means).max() <= 0.5
    for picture in pictures[1:]:
        assert np.abs(picture - pictures[0]).max() <= 2  # rounded for each part
