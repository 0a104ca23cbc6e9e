"""Label files: raw values of every legal kind of TIFF, or a refusal that names the kind."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from registry import pixels
from registry.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ORIENTATION = 274

# Nine squares of 10 × 10 pixels with the labels 1 to 9, in a map that is neither square nor symmetric.
NINE = np.zeros((40, 64), np.uint8)
for k in range(9):
    NINE[2 + 13 * (k // 3) : 12 + 13 * (k // 3), 3 + 20 * (k % 3) : 13 + 20 * (k % 3)] = k + 1


def write(path: Path, values: np.ndarray = NINE, **options: Any) -> Path:
    tifffile.imwrite(path, values, metadata=None, **options)
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        pixels.read_label(path)
    return str(caught.value)


def patch(path: Path, tag: int, value: int, *, index: int = 0) -> None:
    """Overwrite one value of a tag of a little-endian file."""
    with tifffile.TiffFile(path) as file:
        entry = file.pages.first.tags[tag]
        size = entry.valuebytecount // entry.count
        at = entry.valueoffset + index * size
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], data, at, value)
    path.write_bytes(data)


# --- read with raw values


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_integers_of_every_type_byte_order_and_grey_photometric(
    tmp_path: Path, dtype: str, byteorder: Any, photometric: str
) -> None:
    path = write(tmp_path / "a.tif", NINE.astype(dtype), byteorder=byteorder, photometric=photometric)
    label_map, notes = pixels.read_label(path)
    assert (label_map.dtype, notes) == (np.int32, ())
    np.testing.assert_array_equal(label_map, NINE)


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (16, 32)},
        {"tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 7},
        {"rowsperstrip": 7, "compression": "lzw"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "lzw", "predictor": 2, "byteorder": ">"},
        {"compression": "adobe_deflate"},
        {"compression": "deflate", "predictor": 2},
        {"compression": "packbits", "rowsperstrip": 5},
        {"compression": "zstd"},
        {"compression": "lzma"},
    ],
    ids=str,
)
def test_every_lossless_storage(tmp_path: Path, options: dict[str, Any]) -> None:
    values = NINE.astype(np.uint16) * 300
    label_map, notes = pixels.read_label(write(tmp_path / "a.tif", values, **options))
    assert notes == ()
    np.testing.assert_array_equal(label_map, values)


@pytest.mark.parametrize("bits", [4, 7, 12, 20])
def test_packed_integers(tmp_path: Path, bits: int) -> None:
    values = NINE.astype("uint8" if bits < 8 else "uint16" if bits < 16 else "uint32")
    path = write(tmp_path / "a.tif", values, bitspersample=bits, photometric="minisblack")
    np.testing.assert_array_equal(pixels.read_label(path)[0], NINE)


@pytest.mark.parametrize(("bits", "dtype"), [(4, "uint8"), (8, "uint8"), (16, "uint16")])
def test_reversed_bit_order(tmp_path: Path, bits: int, dtype: str) -> None:
    """FillOrder 2, which tifffile does not write: the tag ResolutionUnit is turned into it."""
    path = write(tmp_path / "a.tif", NINE.astype(dtype), bitspersample=bits, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, length, entry = page.dataoffsets[0], page.databytecounts[0], page.tags[296].offset
    data = bytearray(path.read_bytes())
    data[start : start + length] = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data[start : start + length])
    struct.pack_into("<H", data, entry, 266)
    struct.pack_into("<H", data, entry + 8, 2)
    path.write_bytes(data)
    np.testing.assert_array_equal(pixels.read_label(path)[0], NINE)


def test_two_bit_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE % 4, bitspersample=2, photometric="miniswhite")
    np.testing.assert_array_equal(pixels.read_label(path)[0], NINE % 4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_palette_indices_are_the_labels(tmp_path: Path, dtype: str) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256 if dtype == "uint8" else 65536)).astype(np.uint16)
    path = write(tmp_path / "a.tif", NINE.astype(dtype), photometric="palette", colormap=colours)
    np.testing.assert_array_equal(pixels.read_label(path)[0], NINE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_turned_upright_and_noted(tmp_path: Path, orientation: int) -> None:
    """Pillow's turn of the same number is the reference."""
    path = write(tmp_path / "a.tif", extratags=[(ORIENTATION, "H", 1, orientation, True)])
    picture = Image.fromarray(NINE)
    picture.getexif()[ORIENTATION] = orientation
    label_map, notes = pixels.read_label(path)
    np.testing.assert_array_equal(label_map, np.asarray(ImageOps.exif_transpose(picture)))
    assert len(notes) == (orientation != 1)
    if notes:
        assert f"is stored turned or mirrored (orientation {orientation} in its header) and read upright" in notes[0]


def test_the_shared_odd_labels() -> None:
    folder = SHARED / "odd-labels"
    if not folder.is_dir():
        pytest.skip("shared/data/odd-labels is not beside the checkout")
    kinds = ("white_is_zero_8bit", "white_is_zero_16bit", "uint32_big_endian", "uint16_big_endian", "palette_8bit")
    for kind in kinds:
        label_map, notes = pixels.read_label(folder / f"{kind}.tif")
        assert (sorted(np.unique(label_map)), notes) == (list(range(10)), ()), kind
    assert "orientation 6" in pixels.read_label(folder / "orientation_6.tif")[1][0]
    for kind, value in (("mask_0_1", 1), ("mask_0_255", 255)):
        text = f"is a binary mask in 9 pieces (its only values are 0 and {value}), not a label map"
        assert text in refusal_of(folder / f"{kind}.tif")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "BigTIFFMotorola.tif",
            "is a colour image (mode RGB); a label map has one channel of integers, not 3 of 8 bits",
        ),
        ("gradient-1c-32b.tiff", "it is 32-bit unsigned, with values from 3837672 to 4287516159"),
        ("gradient-1c-64b.tiff", "holds uint64 values"),
        ("int16.tif", "it is 16-bit signed, with values from -5000 to 4998"),
        ("int16_zstd.tif", "it is 16-bit signed, with values from -5000 to 4998"),
        ("int8.tif", "it is 8-bit signed, with values from -128 to 127"),
        ("minisblack-2c-8b-alpha.tiff", "holds 2 samples per pixel (one channel and 1 more, alpha perhaps)"),
        ("random-fp16.tiff", "holds float16 values"),
        ("seq-1c-12b-47c39b31.tiff", None),
        ("seq-1c-16b-bigendian-68f373a0.tiff", None),
        ("seq-1c-16b-deflate-68f373a0.tiff", None),
        ("seq-1c-16b-lzw-68f373a0.tiff", None),
        ("seq-1c-16b-tiled-68f373a0.tiff", None),
        ("seq-1c-1b-miniswhite-71f6a21a.tiff", "is a binary mask"),
        ("seq-1c-8b-bigtiff-20f3db0c.tiff", None),
        ("seq-1c-8b-multipage-adeefdcc.tiff", "holds 3 pages"),
        ("seq-1c-8b-packbits-20f3db0c.tiff", None),
        (
            "seq-4c-16b-rgba-5181991f.tiff",
            "is a colour image (mode RGBA); a label map has one channel of integers, not 4 of",
        ),
        ("seq-4c-8b-cmyk-352ac1da.tiff", "is a colour image (mode CMYK)"),
    ],
)
def test_the_shared_odd_tiffs(name: str, text: str | None) -> None:
    path = SHARED / "odd-tiffs" / name
    if not path.is_file():
        pytest.skip("shared/data/odd-tiffs is not beside the checkout")
    if text is not None:
        refusal = refusal_of(path)
        assert text in refusal and "Copy the file anew" not in refusal
    else:  # a ramp: 0 to 255 in reading order
        np.testing.assert_array_equal(pixels.read_label(path)[0].ravel(), np.arange(256))


# --- refused by kind


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint64", "complex64"])
def test_values_that_are_no_integers_up_to_32_bits(tmp_path: Path, dtype: str, byteorder: Any) -> None:
    path = write(tmp_path / "a.tif", NINE.astype(dtype), byteorder=byteorder, photometric="minisblack")
    text = f"{path} holds {dtype} values; a label map holds integers up to 32 bits: save it as uint16."
    assert refusal_of(path) == text


def test_labels_beyond_int32_name_type_and_range(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[0, 2**31]], np.uint32), byteorder=">")
    assert refusal_of(path) == (
        f"{path} holds labels outside 0…2147483647; save it as uint16 with 0 = background "
        "(it is 32-bit unsigned big-endian, with values from 0 to 2147483648)."
    )
    largest = np.array([[0, 2**31 - 1]], np.uint32)
    assert pixels.read_label(write(path, largest))[0].max() == 2**31 - 1


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ((6, 8, 3), {"photometric": "rgb"}, "is a colour image (mode RGB)"),
        ((3, 6, 8), {"photometric": "rgb", "planarconfig": "separate"}, "is a colour image (mode RGB)"),
        ((6, 8, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "is a colour image (mode RGBA)"),
        ((6, 8, 4), {"photometric": "separated"}, "is a colour image (mode CMYK)"),
        ((6, 8, 3), {"photometric": "cielab"}, "is a colour image (mode CIELab)"),
        ((6, 8, 2), {"photometric": "minisblack", "extrasamples": ["assocalpha"]}, "holds 2 samples per pixel"),
        ((2, 6, 8), {"photometric": "minisblack"}, "holds 2 pages; a label map is one page of integers"),
        ((6, 8), {"photometric": "cfa"}, "has the photometric interpretation 32803 (CFA), not one of labels"),
    ],
)
def test_other_pictures(tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], text: str) -> None:
    assert text in refusal_of(write(tmp_path / "a.tif", np.ones(shape, np.uint16), **options))


def test_many_planes_behind_one_header(tmp_path: Path) -> None:
    """ImageJ and tifffile write large stacks so: as one page, of which a reader sees the first plane."""
    for name, options in (("imagej", {"imagej": True}), ("shaped", {"truncate": True})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, np.stack([NINE] * 3), photometric="minisblack", **options)
        assert "holds 3 pages" in refusal_of(path), name
    path = write(tmp_path / "volume.tif", np.stack([NINE[:32]] * 16), volumetric=True, tile=(16, 16, 16))
    assert "holds 16 pages" in refusal_of(path)


def test_compression_that_changes_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE, compression="jpeg", photometric="minisblack")
    assert refusal_of(path) == (
        f"{path} is compressed with JPEG; only methods that keep every value are read: save it as uint16 with LZW, "
        "Deflate or PackBits, from the labels as they were before."
    )


def test_one_bit_and_sample_formats_that_do_not_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE > 0)
    assert "is a binary mask; a label map gives every nucleus its own integer" in refusal_of(path)
    path = write(tmp_path / "b.tif", NINE.astype(np.int16))
    patch(path, 339, 9)  # SampleFormat
    assert "holds values of 16 bits in the sample format 9, not of labels: save it as uint16" in refusal_of(path)


# --- damaged


def test_missing_strips_are_refused(tmp_path: Path) -> None:
    """A reader that fills them with zeros would drop the nuclei in them."""
    path = write(tmp_path / "a.tif", rowsperstrip=10, compression="lzw")
    patch(path, 279, 0, index=2)  # StripByteCounts
    assert refusal_of(path) == (
        f"{path} is a sparse TIFF: 1 of its 4 strips or tiles hold no data; save it as uint16 with all of them."
    )


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
def test_short_strips_are_refused(tmp_path: Path, compression: str | None) -> None:
    path = write(tmp_path / "a.tif", NINE, rowsperstrip=10, compression=compression)
    with tifffile.TiffFile(path) as file:
        size = file.pages.first.databytecounts[3]
    patch(path, 279, size // 2, index=3)
    assert f"{path} can't be read as a TIFF label map: " in refusal_of(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for name, options in (("plain", {}), ("tiled", {"tile": (16, 16), "compression": "zlib"})):
        path = write(tmp_path / f"{name}.tif", NINE, **options)
        whole = path.read_bytes()
        for kept in range(0, len(whole) - 1, 97):
            path.write_bytes(whole[:kept])
            assert "can't be read as a TIFF label map" in refusal_of(path), (name, kept)


def test_a_tag_that_can_not_be_read_is_refused_and_nothing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.tif", NINE.astype(np.int16))
    with tifffile.TiffFile(path) as file:
        entry = file.pages.first.tags[339]
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, entry.offset + 2, 99)  # the type of SampleFormat: without it, int16 reads as uint16
    path.write_bytes(data)
    with caplog.at_level(logging.DEBUG):
        assert "can't be read as a TIFF label map: <TiffTag.fromfile> raised" in refusal_of(path)
    assert caplog.records == [] and capfd.readouterr().err == ""
    assert logging.getLogger("tifffile").propagate


def test_no_damaged_byte_ends_in_another_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE, compression="lzw", predictor=2)
    whole = path.read_bytes()
    outcomes = set()
    for at in range(0, 330, 3):
        for value in (0, 255):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                outcomes.add(pixels.read_label(path)[0].dtype.name)
            except DataError:
                outcomes.add("refused")
    assert outcomes == {"int32", "refused"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "a PNG image"),
        (b"\n<!DOCTYPE html><html>", "an HTML page: the download was answered by a web site, not by the file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: fetch the file itself with"),
        (b"", "nothing: the file is empty"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    text = f"{path} can't be read as a TIFF label map: its content is something else, or damaged (it begins like {kind}"
    assert refusal_of(path).startswith(text)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE, compression="zlib")
    patch(path, 256, 14_000)  # ImageWidth
    patch(path, 257, 14_000)
    assert f"{path} has 196 MP (14,000 × 14,000 pixels), more than the 67 MP that one image may have" in refusal_of(
        path
    )


# --- masks and other maps that are none of labels


def squares(*values: int, size: int = 4) -> np.ndarray:
    """Squares in one row, 3 pixels apart, one for each value."""
    label_map = np.zeros((size + 4, (size + 3) * len(values) + 3), np.uint16)
    for k, value in enumerate(values):
        label_map[2 : 2 + size, 3 + (size + 3) * k : 3 + size + (size + 3) * k] = value
    return label_map


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 1), ("uint8", 255), ("uint16", 65535), ("int32", 255)])
def test_binary_masks_of_several_pieces_are_refused(tmp_path: Path, dtype: str, value: int) -> None:
    path = write(tmp_path / "a.tif", squares(value, value).astype(dtype))
    text = f"{path} is a binary mask in 2 pieces (its only values are 0 and {value}), not a label map: give every"
    assert refusal_of(path).startswith(text)


def test_one_nucleus_is_a_label_map(tmp_path: Path) -> None:
    for label, expected in ((1, 0), (2, 0), (255, 1)):
        label_map, notes = pixels.read_label(write(tmp_path / "a.tif", squares(label)))
        assert (int(label_map.max()), len(notes)) == (label, expected)
    assert notes == (f"{tmp_path / 'a.tif'} holds the one label 255: is it a binary mask rather than a label map?",)


def test_a_stray_piece_below_the_size_of_a_nucleus_is_noted_only(tmp_path: Path) -> None:
    values = squares(1, 0)
    values[2, -3] = 1
    _, notes = pixels.read_label(write(tmp_path / "a.tif", values))
    assert "holds the one label 1: is it a binary mask rather than a label map? It has 2 pieces." in notes[0]


def test_another_single_label_of_two_pieces_is_noted_only(tmp_path: Path) -> None:
    _, notes = pixels.read_label(write(tmp_path / "a.tif", squares(2, 2)))
    assert "holds the one label 2: is it a binary mask rather than a label map? It has 2 pieces." in notes[0]


def test_maps_of_classes_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert pixels.read_label(write(path, squares(1, 2, 1, 2, 1, 2)))[1] == (
        f"{path} has 2 labels in 6 pieces: are they classes rather than nuclei?",
    )
    assert pixels.read_label(write(path, squares(1, 2, 1, 2, 3)))[1] == ()


def test_swapped_or_missing_background_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    swapped = np.where(squares(1, 2) > 0, 0, 7).astype(np.uint8)
    assert (
        "gives 76 % of the image to label 7: is that the background?" in pixels.read_label(write(path, swapped))[1][0]
    )
    assert pixels.read_label(write(path, squares(1, 2) + 1))[1] == (f"{path} has no background: no pixel is 0.",)
