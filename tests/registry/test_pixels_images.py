"""Image files: 8-bit colour PNG of every legal kind, whole, upright and of a size that fits a run."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from registry import pixels
from registry.errors import DataError

ORIENTATION = 274
IMAGE = np.random.default_rng(0).integers(0, 256, (13, 22, 3)).astype(np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    rows: bytes, *, width: int = 22, height: int = 13, depth: int = 8, colour_type: int = 2, interlace: int = 0
) -> bytes:
    """A PNG file made by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def inserted(data: bytes, *chunks: bytes) -> bytes:
    """Put chunks between the header and the image data."""
    return data[:33] + b"".join(chunks) + data[33:]


ROWS = b"".join(b"\0" + row.tobytes() for row in IMAGE)


def read(path: Path, data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    path.write_bytes(data)
    return pixels.read_image(path)


def refusal_of(path: Path, data: bytes | None = None) -> str:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        pixels.read_image(path)
    return str(caught.value)


def test_plain_rgb(tmp_path: Path) -> None:
    image, notes = read(tmp_path / "a.png", png(ROWS))
    assert notes == ()
    np.testing.assert_array_equal(image, IMAGE)


def adam7(image: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = (image[top::down, left::across] for left, top, across, down in passes)
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


@pytest.mark.parametrize(("height", "width"), [(13, 22), (1, 1), (3, 2), (5, 9)])
def test_interlaced(tmp_path: Path, height: int, width: int) -> None:
    path, part = tmp_path / "a.png", IMAGE[:height, :width]
    data = adam7(part)
    image, _ = read(path, png(data, width=width, height=height, interlace=1))
    np.testing.assert_array_equal(image, part)
    cut = png(data[:-1], width=width, height=height, interlace=1)
    text = f"its image data end after {len(data) - 1} of {len(data)} bytes"
    assert text in refusal_of(path, cut)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_every_depth(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.png"
    picture = Image.fromarray((np.arange(15 * 3).reshape(15, 3) % 2**bits).astype(np.uint8))
    picture.putpalette([(7 * k) % 256 for k in range(3 * 2**bits)])
    picture.save(path, bits=bits)
    image, notes = pixels.read_image(path)
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    assert notes == (f"{path} is a palette image; it is read as RGB.",)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_of_every_kind_is_refused(tmp_path: Path, mode: str) -> None:
    Image.fromarray(IMAGE).convert(mode).save(tmp_path / "a.png")
    assert f"is a grey image (mode {mode}); H&E needs colour" in refusal_of(tmp_path / "a.png")


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_of_every_kind_are_refused(tmp_path: Path, colour_type: int, channels: int) -> None:
    rows = (b"\0" + bytes(22 * 2 * channels)) * 13
    text = refusal_of(tmp_path / "a.png", png(rows, depth=16, colour_type=colour_type))
    assert text == f"{tmp_path / 'a.png'} has 16 bits per channel; convert it to 8-bit RGB PNG."


def test_transparent_colour_of_rgb_is_dropped_and_noted(tmp_path: Path) -> None:
    colour = b"".join(struct.pack(">H", value) for value in IMAGE[0, 0])
    image, notes = read(tmp_path / "a.png", inserted(png(ROWS), chunk(b"tRNS", colour)))
    np.testing.assert_array_equal(image, IMAGE)
    assert "has an alpha channel (partly transparent: check its colours)" in notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_turned_upright_as_those_of_labels_are(tmp_path: Path, orientation: int) -> None:
    stored = IMAGE.copy()
    stored[0, 0] = 0  # a pixel of background
    picture = Image.fromarray(stored)
    exif = picture.getexif()
    exif[ORIENTATION] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    image, notes = pixels.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, np.asarray(ImageOps.exif_transpose(picture)))
    assert len(notes) == (orientation != 1)
    label = stored[..., 0].astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", label, extratags=[(ORIENTATION, "H", 1, orientation, True)], metadata=None)
    label_map, label_notes = pixels.read_label(tmp_path / "a.tif")
    np.testing.assert_array_equal(label_map, image[..., 0])
    assert [note.replace(".tif", ".png") for note in label_notes] == list(notes)


def test_animated_pngs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    frames = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1]), Image.fromarray(IMAGE[:, ::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert refusal_of(path) == f"{path} is an animated PNG of 3 frames; save one of them as 8-bit RGB PNG."


def test_other_colour_spaces_are_noted_and_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image, notes = read(path, inserted(png(ROWS), chunk(b"gAMA", struct.pack(">I", 100_000))))
    np.testing.assert_array_equal(image, IMAGE)
    assert notes == (f"{path} declares the gamma 1; it is not applied, the values are read as stored.",)
    assert read(path, inserted(png(ROWS), chunk(b"gAMA", struct.pack(">I", 45_455))))[1] == ()
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    assert read(path, inserted(png(ROWS), gamma, chunk(b"sRGB", b"\0")))[1] == ()
    profile = zlib.compress(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    image, notes = read(path, inserted(png(ROWS), chunk(b"iCCP", b"Display P3\0\0" + profile)))
    np.testing.assert_array_equal(image, IMAGE)
    assert "declares the colour profile 'Display P3'; it is not applied" in notes[0]
    assert read(path, inserted(png(ROWS), chunk(b"iCCP", b"sRGB IEC61966-2.1\0\0" + profile)))[1] == ()


# --- damaged


def test_image_data_that_end_early_are_refused(tmp_path: Path) -> None:
    """Pillow paints the missing rows black when the data end with a row."""
    text = refusal_of(tmp_path / "a.png", png(ROWS[: 9 * 67]))
    assert "can't be read as a PNG image: its image data end after 603 of 871 bytes" in text


def test_missing_end_is_refused(tmp_path: Path) -> None:
    """Pillow does not miss it where the last image data are there."""
    assert "the file is cut: its end is missing" in refusal_of(tmp_path / "a.png", png(ROWS)[:-12])


def test_altered_bytes_are_refused(tmp_path: Path) -> None:
    data = png(ROWS)
    at = len(data) - 12 - 10
    altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert "the checksum of its part 'IDAT' at byte 33 is wrong" in refusal_of(tmp_path / "a.png", altered)
    # The same bytes under a checksum of their own: only the checksum inside of the compressed data tells.
    body = bytearray(zlib.compress(ROWS))
    body[-1] ^= 1
    header = data[:33]
    wrong = header + chunk(b"IDAT", bytes(body)) + chunk(b"IEND", b"")
    assert "can't be read as a PNG image" in refusal_of(tmp_path / "a.png", wrong)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    data = png(ROWS)
    for kept in range(0, len(data), 13):
        assert "can't be read as a PNG image" in refusal_of(tmp_path / "a.png", data[:kept]), kept


def test_bytes_after_the_end_do_no_harm(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path / "a.png", png(ROWS) + b"more")[0], IMAGE)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"II*\0" + bytes(60), "a TIFF image"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "a JPEG image"),
        (b"<html><body>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    text = refusal_of(tmp_path / "a.png", content)
    assert f"its content is something else, or damaged (it begins like {kind}" in text


# --- too many pixels


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = refusal_of(path, png(b"", width=14_000, height=14_000))
    assert text == (
        f"{path} has 196 MP (14,000 × 14,000 pixels), more than the 67 MP that one image may have (a run holds about "
        "90 bytes for each pixel): cut image and label map into tiles with `python -m registry.tiles IMAGE.png "
        "LABELS.tif NEW_ORGAN_FOLDER`."
    )


def test_the_largest_size_is_allowed_without_a_warning(tmp_path: Path) -> None:
    """The data of this one are missing, which is only said of a size that is allowed."""
    path = tmp_path / "a.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "its image data end after 0 of" in refusal_of(path, png(b"", width=8192, height=8192))
        assert "has 68 MP (8,193 × 8,192 pixels), more than the 67 MP" in refusal_of(
            path, png(b"", width=8192, height=8193)
        )


def test_long_texts_do_no_harm(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Description", "x" * 100_000, zip=True)
    Image.fromarray(IMAGE).save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(pixels.read_image(tmp_path / "a.png")[0], IMAGE)
