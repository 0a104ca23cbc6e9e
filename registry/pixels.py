"""Image and label files to arrays, with a clear refusal of whatever is neither H&E nor a label map."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from registry import label_content, png, tiff
from registry.contract import LabelMap
from registry.errors import DataError
from registry.names import shown
from registry.refusals import too_large, unreadable

# Predicting and scoring hold up to 90 bytes for each pixel (measured with the distance head), so an image of this size
# takes 6 GB; all images of a dataset are held decoded, at 7 bytes for each pixel.
MAX_PIXELS = 8192 * 8192

# What Pillow's decoders raise for damaged files; a bare Exception would hide faults of our own.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 274  # the tag of EXIF and TIFF


def read_image(
    path: Path, *, max_pixels: int | None = MAX_PIXELS
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Read an 8-bit colour PNG, upright.

    Args:
        max_pixels: more than these are refused before anything is decoded; None allows all.

    Returns:
        The RGB image, and one sentence for each harmless oddity of the file.

    Raises:
        DataError: a file that is unreadable, cut, no PNG, grey, animated, of 16 bits, or of too many pixels.
    """
    try:
        data = path.read_bytes()
        header = png.header(data)
        if max_pixels is not None and header.width * header.height > max_pixels:
            raise DataError(too_large(path, header.height, header.width, max_pixels))
        # Pillow reads 16-bit RGB as 8 bits without a word.
        if header.depth == 16:
            raise DataError(f"{shown(path)} has 16 bits per channel; convert it to 8-bit RGB PNG.")
        chunks = png.require_whole(data)
        if (frames := png.n_frames(chunks)) > 1:
            raise DataError(f"{shown(path)} is an animated PNG of {frames} frames; save one of them as 8-bit RGB PNG.")
        pixels, mode, alpha, orientation = _decode(data)
    except _DAMAGE as error:
        raise DataError(unreadable(path, "PNG image", error)) from error
    if mode not in ("RGB", "RGBA", "P"):
        raise DataError(
            f"{shown(path)} is a grey image (mode {mode}); H&E needs colour: "
            "replace it by the 8-bit RGB original, or remove it and its label map."
        )
    return upright(pixels, orientation), _image_notes(shown(path), pixels, mode, alpha, orientation, chunks)


def read_label(path: Path, *, max_pixels: int | None = MAX_PIXELS) -> tuple[LabelMap, tuple[str, ...]]:
    """Read an integer instance label map from TIFF: raw values, upright.

    Args:
        max_pixels: more than these are refused before anything is decoded; None allows all.

    Returns:
        The label map as int32, 0 = background, and one sentence for each harmless oddity of the file.

    Raises:
        DataError: a file that is unreadable, cut, no TIFF, of several pages or channels, no map of integers, a binary
            mask in several pieces, or of too many pixels.
    """
    page = tiff.read_label_page(path, max_pixels=max_pixels)
    low, high = int(page.values.min()), int(page.values.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        raise DataError(
            f"{shown(path)} holds labels outside 0…2147483647; save it as uint16 with 0 = background "
            f"(it is {page.kind}, with values from {low} to {high})."
        )
    label_map = upright(page.values.astype(np.int32), page.orientation)
    if problem := label_content.problem(label_map, int(np.iinfo(page.values.dtype).max)):
        raise DataError(f"{shown(path)} {problem}")
    notes = [f"{shown(path)} {sentence}" for sentence in label_content.notes(label_map)]
    return label_map, (*_orientation_notes(shown(path), page.orientation), *notes)


def write_label(path: Path, label_map: Int[np.ndarray, "h w"]) -> None:
    """Write a label map as the release does: uint16 TIFF, PackBits.

    Raises:
        DataError: a label that does not fit 16 bits.
    """
    if label_map.min() < 0 or label_map.max() > 65535:
        raise DataError(f"{shown(path)}: labels {label_map.min()}…{label_map.max()} do not fit uint16 (0…65535).")
    # Pillow, because the bytes of synthetic datasets, and so the ids of runs on them, depend on the writer.
    Image.fromarray(label_map.astype(np.uint16)).save(path, format="TIFF", compression="packbits")


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror a stored array (h, w, …) as its orientation says (1…8, as in TIFF 6.0 and EXIF)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _decode(data: bytes) -> tuple[np.ndarray, str, np.ndarray | None, int]:
    """Return RGB pixels, Pillow's mode, the alpha channel (None without one) and the orientation of a PNG file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF: it is not needed
        # Not Image.open: its own limit of pixels warns of attacks.
        with PngImageFile(io.BytesIO(data)) as image:
            image.load()
            alpha = None
            if image.mode in ("RGBA", "LA") or "transparency" in image.info:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
            return np.array(image.convert("RGB")), image.mode, alpha, _orientation(image)


def _orientation(image: Any) -> int:
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _image_notes(
    name: str, pixels: np.ndarray, mode: str, alpha: np.ndarray | None, orientation: int, chunks: dict[str, bytes]
) -> tuple[str, ...]:
    notes = _orientation_notes(name, orientation)
    if alpha is not None:
        kind = "partly transparent: check its colours" if alpha.min() < 255 else "opaque"
        notes.append(f"{name} has an alpha channel ({kind}); it is dropped and the image read as RGB.")
    elif mode == "P":
        notes.append(f"{name} is a palette image; it is read as RGB.")
    if space := png.colour_space(chunks):
        notes.append(f"{name} declares {space}; it is not applied, the values are read as stored.")
    if (pixels == pixels[..., :1]).all():
        notes.append(f"{name} is RGB without any colour (all three channels equal).")
    return tuple(notes)


def _orientation_notes(name: str, orientation: int) -> list[str]:
    if orientation == 1:
        return []
    return [
        f"{name} is stored turned or mirrored (orientation {orientation} in its header) and read upright, as viewers "
        "show it: check that image and label map still lie on each other."
    ]
