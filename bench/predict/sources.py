"""Images of any size as bands of RGB rows: TIFF files are read as far as they are needed, other kinds whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.predict import colours, tiff_rows
from bench.predict.rows import Source, Whole
from registry import file_kind, png
from registry.errors import DataError
from registry.names import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".bmp", ".webp")
"""Endings of the files of a folder that are taken for images; a file that is named itself may have any."""
MAX_WHOLE_PIXELS = 400_000_000
"""Largest image of a kind that can only be decoded whole: 1.2 GB of RGB, and as much again while it is converted."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open an image, whatever its suffix says.

    Raises:
        DataError: a file that is missing, damaged, of several pages, or no picture of 8 or 16 bits; the text says what
            to do. Damage further inside a TIFF file is met when its rows are read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise DataError(f"{shown(path)} can't be read: {error.strerror or error}.") from error
    if head.startswith(_TIFF_STARTS):
        with tiff_rows.opened(path) as rows:
            yield rows
    else:
        yield _decoded(path, head)


def _decoded(path: Path, head: bytes) -> Whole:
    """Decode a PNG, JPEG or other file that Pillow reads, upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        _require_whole_png(path, head)
        with _any_size(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF: it is not needed
            with Image.open(path) as image:
                _require_one(path, image)
                notes = _depth_note(head)
                image.load()
                if image.getexif().get(274, 1) not in (0, 1):
                    notes += ("has an orientation in its header; it is read upright, as viewers show it.",)
                rgb, conversion = colours.of_pillow(ImageOps.exif_transpose(image))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(shown(path)) else f"{shown(path)} {text}") from error
    except UnidentifiedImageError as error:
        kind = file_kind.of(head)
        raise DataError(
            f"{shown(path)} is no image that can be read" + (f" (it begins like {kind})" if kind else "") + "; allowed "
            "are TIFF, PNG, JPEG, BMP and WebP."
        ) from error
    # On damaged bytes Pillow's decoders raise whatever they like.
    except Exception as error:
        raise DataError(f"{shown(path)} is damaged ({error}); copy the file anew from where it comes from.") from error
    return Whole(rgb, tuple(f"{shown(path)} {note}" for note in (*notes, *conversion)))


def _require_whole_png(path: Path, head: bytes) -> None:
    """Refuse a PNG file that is cut or altered, some of which Pillow decodes to black without a word."""
    if head.startswith(png.SIGNATURE):
        png.require_whole(path.read_bytes())


def _require_one(path: Path, image: Any) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph with its preview
        raise DataError(f"holds {frames} pictures; save one of them as a file of its own.")
    if image.width * image.height > MAX_WHOLE_PIXELS:
        raise DataError(
            f"has {image.width * image.height / 1e6:,.0f} MP, more than the {MAX_WHOLE_PIXELS // 1_000_000} MP that a "
            f"{image.format} file may have, as it can only be decoded whole: convert it to a tiled TIFF, which is read "
            "in parts (`vips tiffsave IN OUT.tif --tile --bigtiff`)."
        )


def _depth_note(head: bytes) -> tuple[str, ...]:
    # Pillow reads 16-bit RGB as 8 bits without a word; of grey it tells.
    deep = head.startswith(png.SIGNATURE) and (header := png.header(head)).depth == 16 and header.colour_type in (2, 6)
    return ("has 16 bits per channel; the lower 8 are dropped.",) if deep else ()


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit, which takes large images for attacks; ours is compared before anything is decoded."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
