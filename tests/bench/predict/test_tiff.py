"""TIFF files in rare colours and with damaged bytes."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import GREY, RGB, read, tiff
from PIL import Image

from bench.predict import colours, sources
from registry.errors import DataError


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_ycbcr_without_jpeg_is_converted(compression: str | None, tmp_path: Path) -> None:
    values = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    path = tiff(tmp_path / "a.tif", values, photometric="ycbcr", compression=compression, rowsperstrip=16)
    rows, notes = read(path, bands=3)
    assert np.abs(rows.astype(int) - RGB).max() <= 3  # values are rounded twice
    assert notes == (f"{path} {colours.YCBCR}",)


def test_a_tiff_of_ycbcr_that_is_stored_in_a_rare_way_is_refused(tmp_path: Path) -> None:
    video = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    path = tiff(tmp_path / "a.tif", RGB, photometric="ycbcr", extratags=[(532, "2I", 6, video, True)])
    with pytest.raises(DataError, match=r"a\.tif has YCbCr colours that are stored in a rare way .*: convert it to"):
        read(path)


def test_a_palette_of_8_bits_gives_the_same_colours(tmp_path: Path) -> None:
    palette = np.random.default_rng(2).integers(0, 256, (3, 256), dtype=np.uint16)
    narrow = tiff(tmp_path / "8.tif", GREY, photometric="palette", colormap=palette)
    wide = tiff(tmp_path / "16.tif", GREY, photometric="palette", colormap=palette * 257)
    assert np.array_equal(read(narrow)[0], palette.T[GREY])
    assert np.array_equal(read(wide)[0], palette.T[GREY])


def test_a_palette_of_two_colours_is_read(tmp_path: Path) -> None:
    palette = np.array([[65535, 0], [0, 65535], [257 * 7, 257 * 9]], np.uint16)
    path = tiff(
        tmp_path / "a.tif", GREY > 99, photometric="minisblack", extratags=[(320, "H", 6, palette.ravel(), True)]
    )
    _set_photometric(path, 3)
    assert np.array_equal(read(path)[0], np.array([[255, 0, 7], [0, 255, 9]], np.uint8)[(GREY > 99).astype(int)])


def test_a_palette_that_is_missing_is_said(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", GREY, photometric="minisblack")
    _set_photometric(path, 3)
    with pytest.raises(DataError, match=r"a\.tif has palette indices but no palette \(the tag ColorMap is missing\)"):
        read(path)


def _set_photometric(path: Path, value: int) -> None:
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        content[file.pages.first.tags[262].valueoffset] = value
    path.write_bytes(content)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_tiff_without_its_directory_is_refused(share: float, tmp_path: Path) -> None:
    """Pillow's library writes the directory at the end, so that a copy that broke off has none."""
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = (tmp_path / "a.tif").read_bytes()
    assert int.from_bytes(content[4:8], "little") > 0.9 * len(content)
    (tmp_path / "a.tif").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a\.tif is damaged \(.+\); copy the file anew from where it comes from\."):
        read(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_of_a_tiff_are_read_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(4)
    colormap = np.arange(768, dtype=np.uint16).reshape(3, 256) * 85
    originals = [
        tiff(tmp_path / "tiles.tif", RGB, photometric="rgb", tile=(32, 32)).read_bytes(),
        tiff(tmp_path / "strips.tif", RGB, photometric="rgb", compression="zlib", rowsperstrip=16).read_bytes(),
        tiff(tmp_path / "map.tif", GREY, photometric="palette", colormap=colormap).read_bytes(),
        tiff(tmp_path / "planes.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate").read_bytes(),
    ]
    refused = 0
    for turn in range(400):
        content = bytearray(originals[turn % 4])
        for _ in range(rng.randint(1, 3)):
            content[rng.choice([rng.randrange(16), 8 + rng.randrange(200)])] = rng.choice(
                [0, 1, 255, rng.randrange(256)]
            )
        (tmp_path / "a.tif").write_bytes(content)
        try:
            with sources.opened(tmp_path / "a.tif") as source:
                source.rows(0, min(50, source.height))
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"{tmp_path / 'a.tif'} ")
    assert 100 < refused < 400
