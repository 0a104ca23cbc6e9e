"""Images of every mode as bands of RGB rows, and clear refusals of what is no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import ALPHA, GREY, RGB, read, tiff
from PIL import Image

from bench.predict import colours, sources
from registry.errors import DataError


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 16},
        {"tile": (32, 48)},
        {"tile": (32, 32), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 8, "compression": "lzw"},
        {"compression": "zlib"},
        {"bigtiff": True, "byteorder": ">"},
        {"planarconfig": "separate"},
    ],
    ids=["plain", "strips", "tiles", "compressed tiles", "compressed strips", "one strip", "big", "planes"],
)
def test_a_tiff_gives_the_same_rows_however_it_is_stored(options: dict[str, Any], tmp_path: Path) -> None:
    writer = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    values = np.moveaxis(RGB, -1, 0) if "planarconfig" in options else RGB
    path = tiff(tmp_path / "a.tif", values, photometric="rgb", **options, **writer)
    for bands in (1, 5):
        rows, notes = read(path, bands=bands)
        assert np.array_equal(rows, RGB)
        assert notes == ()


def test_only_the_tiles_of_a_band_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.predict.tiff_rows import TiffRows

    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", tile=(16, 16), compression="zlib")
    decoded: list[int] = []
    segment = TiffRows._segment
    monkeypatch.setattr(TiffRows, "_segment", lambda self, index: decoded.append(index) or segment(self, index))
    with sources.opened(path) as source:
        assert np.array_equal(source.rows(20, 30), RGB[20:30])
    assert decoded == [6, 7, 8, 9, 10, 11]  # the second of five rows of six tiles


def test_a_jpeg_tiff_of_a_scanner_is_read_in_rgb(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None], 64, axis=1)
    values = np.dstack([smooth, smooth // 2, 255 - smooth])
    path = tiff(tmp_path / "a.svs", values, photometric="rgb", tile=(32, 32), compression="jpeg")
    assert tifffile.TiffFile(path).pages.first.photometric == 6  # YCbCr
    rows, notes = read(path)
    assert np.abs(rows.astype(int) - values).max() <= 4
    assert notes == ()


@pytest.mark.parametrize(
    ("name", "image", "expected", "note"),
    [
        ("rgba.png", Image.fromarray(ALPHA), RGB, colours.ALPHA),
        ("grey.png", Image.fromarray(GREY), np.dstack([GREY] * 3), colours.GREY),
        (
            "bits.png",
            Image.fromarray(GREY > 99),
            np.dstack([(GREY > 99) * np.uint8(255)] * 3),
            "has 1 bit per pixel; it is read as black and white.",
        ),
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 257), np.dstack([GREY] * 3), colours.SIXTEEN_BITS),
        ("rgb.bmp", Image.fromarray(RGB), RGB, None),
    ],
)
def test_other_modes_are_converted_and_said(
    name: str, image: Image.Image, expected: np.ndarray, note: str | None, tmp_path: Path
) -> None:
    image.save(tmp_path / name)
    rows, notes = read(tmp_path / name)
    assert np.array_equal(rows, expected)
    assert [text.removeprefix(f"{tmp_path / name} ") for text in notes][:1] == ([note] if note else [])


def test_palettes_and_cmyk_are_converted_and_said(tmp_path: Path) -> None:
    palette, cmyk = Image.fromarray(RGB).quantize(16), Image.fromarray(RGB).convert("CMYK")
    palette.save(tmp_path / "palette.png")
    cmyk.save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    rows, notes = read(tmp_path / "palette.png")
    assert np.array_equal(rows, np.asarray(palette.convert("RGB")))
    assert notes == (f"{tmp_path / 'palette.png'} has a palette; it is read as RGB.",)
    rows, notes = read(tmp_path / "cmyk.jpg")
    assert np.abs(rows.astype(int) - RGB).mean() < 3
    assert notes[0].endswith("has CMYK colours; they are converted to RGB without a profile.")


@pytest.mark.parametrize(
    ("values", "options", "expected", "note"),
    [
        (ALPHA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB, colours.ALPHA),
        (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}, RGB, colours.SIXTEEN_BITS),
        (GREY, {"photometric": "minisblack"}, np.dstack([GREY] * 3), colours.GREY),
        (255 - GREY, {"photometric": "miniswhite"}, np.dstack([GREY] * 3), colours.GREY),
        (GREY > 99, {"photometric": "minisblack"}, np.dstack([(GREY > 99) * np.uint8(255)] * 3), "has 1 bit per pixel"),
        (
            GREY // 86,
            {"photometric": "palette", "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256) * 85},
            (np.arange(768).reshape(3, 256) * 85 // 257).astype(np.uint8).T[GREY // 86],
            "has a palette",
        ),
        (
            np.dstack([255 - RGB, np.zeros_like(GREY)]),
            {"photometric": "separated", "tile": (32, 32), "compression": "zlib"},
            RGB,
            "has CMYK colours",
        ),
    ],
    ids=["RGBA", "16 bits", "grey", "white is zero", "1 bit", "palette", "CMYK"],
)
def test_tiffs_of_other_modes_are_converted_and_said(
    values: np.ndarray, options: dict[str, Any], expected: np.ndarray, note: str, tmp_path: Path
) -> None:
    rows, notes = read(tiff(tmp_path / "a.tif", values, **options), bands=3)
    assert np.array_equal(rows, expected)
    assert notes[0].startswith(f"{tmp_path / 'a.tif'} {note}")


def test_an_image_that_is_stored_turned_is_read_upright(tmp_path: Path) -> None:
    turned = Image.fromarray(RGB)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    tiff(tmp_path / "b.tif", RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    for name in ("a.png", "b.tif"):
        rows, notes = read(tmp_path / name)
        assert np.array_equal(rows, np.rot90(RGB, -1))
        assert (
            notes[-1] == f"{tmp_path / name} has an orientation in its header; it is read upright, as viewers show it."
        )


def test_of_a_pyramid_the_full_resolution_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb", tile=(32, 32))
        file.write(RGB[::2, ::2], photometric="rgb", tile=(32, 32))
    rows, notes = read(tmp_path / "a.tif")
    assert np.array_equal(rows, RGB)
    assert notes[0].endswith("has 1 smaller pages (a pyramid or previews); the largest is read.")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", np.stack([RGB, RGB]), photometric="rgb")
    with pytest.raises(DataError, match=r"a\.tif holds 2 pages; one picture is needed\. Save the page that is meant"):
        read(path)
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a\.gif holds 2 pictures; save one of them"):
        read(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("values", "options", "problem"),
    [
        (GREY.astype(np.float32), {}, r"holds values of 32 bits \(float32\); a picture has 8 or 16 bits per channel"),
        (GREY.astype(np.int16), {}, r"holds values of 16 bits \(int16\)"),
        (np.dstack([RGB, RGB]), {"photometric": "rgb", "planarconfig": "contig"}, "holds 6 channels of 8 bits"),
    ],
)
def test_values_that_are_no_picture_are_refused(
    values: np.ndarray, options: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        read(tiff(tmp_path / "a.tif", values, **options))


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<!doctype html><p>404")
    with pytest.raises(DataError, match=r"page\.png is no image that can be read \(it begins like an HTML page"):
        read(tmp_path / "page.png")
    Image.fromarray(RGB).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-300])
    with pytest.raises(
        DataError, match=r"cut\.png is damaged \(the file is cut: its end is missing\); copy the file anew"
    ):
        read(tmp_path / "cut.png")
    Image.fromarray(RGB).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-900])
    with pytest.raises(DataError, match=r"cut\.jpg is damaged \(image file is truncated"):
        read(tmp_path / "cut.jpg")
    with pytest.raises(DataError, match=r"none\.png can't be read: No such file or directory"):
        read(tmp_path / "none.png")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 8}], ids=["plain", "compressed"])
def test_a_cut_tiff_is_refused_where_its_rows_end(options: dict[str, Any], tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", **options)
    path.write_bytes(path.read_bytes()[:-6000])
    with sources.opened(path) as source:
        assert np.array_equal(source.rows(0, 8), RGB[:8])
        with pytest.raises(
            DataError, match=r"a\.tif is damaged \(its (pixels end too early|strip or tile \d is missing)"
        ):
            source.rows(60, 70)


def test_a_png_that_is_too_large_to_be_decoded_whole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(sources, "MAX_WHOLE_PIXELS", 6000)
    with pytest.raises(DataError, match=r"has 0 MP, more than the 0 MP that a PNG file may have, .* a tiled TIFF"):
        read(tmp_path / "a.png")


def test_the_limit_of_pillow_is_as_before(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    read(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS
