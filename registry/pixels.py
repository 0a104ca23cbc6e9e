"""Image and label files to arrays, with a clear refusal of whatever is neither H&E nor a label map."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError

from registry.contract import LabelMap
from registry.errors import DataError

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
    Image.DecompressionBombError,
)


def read_image(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Read an 8-bit colour PNG.

    Returns:
        The RGB image, and one sentence for each harmless oddity of the file.

    Raises:
        DataError: a file that is unreadable, truncated, no PNG, grey, or of 16 bits.
    """
    try:
        with path.open("rb") as file:
            header = file.read(26)
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            mode = image.mode
            # Pillow reads 16-bit RGB as 8 bits without a word: the bit depth stands in byte 24 of the file.
            depth = header[24]
            if depth == 16:
                raise DataError(f"{path} has 16 bits per channel; convert it to 8-bit RGB PNG.")
            if mode not in ("RGB", "RGBA", "P"):
                raise DataError(
                    f"{path} is a grey image (mode {mode}); H&E needs colour: "
                    "replace it by the 8-bit RGB original, or remove it and its label map."
                )
            has_alpha = mode == "RGBA" or "transparency" in image.info
            see_through = has_alpha and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
            pixels = np.array(image.convert("RGB"))
    except _DAMAGE as error:
        raise DataError(_unreadable(path, "PNG image", error)) from error
    notes = []
    if has_alpha:
        kind = "partly transparent: check its colours" if see_through else "opaque"
        notes.append(f"{path} has an alpha channel ({kind}); it is dropped and the image read as RGB.")
    elif mode == "P":
        notes.append(f"{path} is a palette image; it is read as RGB.")
    if (pixels == pixels[..., :1]).all():
        notes.append(f"{path} is RGB without any colour (all three channels equal).")
    return pixels, tuple(notes)


def read_label(path: Path) -> tuple[LabelMap, tuple[str, ...]]:
    """Read an integer instance label map from TIFF.

    Returns:
        The label map as int32, 0 = background, and one sentence for each harmless oddity of the file.

    Raises:
        DataError: a file that is unreadable, truncated, no TIFF, of several pages, or no map of integers.
    """
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            pages, mode = getattr(image, "n_frames", 1), image.mode
            if pages > 1:
                raise DataError(f"{path} holds {pages} pages; a label map is one page of integers.")
            if mode == "F":
                raise DataError(_not_integer(path, "float32"))
            if mode == "1":
                raise DataError(f"{path} is a binary mask; a label map gives every nucleus its own integer.")
            if mode not in ("L", "P", "I", "I;16", "I;16B", "I;16L"):
                raise DataError(
                    f"{path} is a colour image (mode {mode}); a label map has one channel of integers: "
                    "take the file from 'label masks modify', not an overlay."
                )
            label_map = np.array(image).astype(np.int32)
    except UnidentifiedImageError as error:
        kind = _tiff_dtype(path)
        raise DataError(_not_integer(path, kind) if kind else _unreadable(path, "TIFF label map", error)) from error
    except _DAMAGE as error:
        raise DataError(_unreadable(path, "TIFF label map", error)) from error
    if label_map.min() < 0:
        raise DataError(f"{path} holds labels outside 0…2147483647; save it as uint16 with 0 = background.")
    notes = []
    labels = np.unique(label_map[label_map > 0])
    if labels.size == 0:
        notes.append(f"{path} is all zero: an image without nuclei.")
    elif labels.size == 1 and labels[0] == 255:
        notes.append(f"{path} holds the one label 255: is it a binary mask rather than a label map?")
    return label_map, tuple(notes)


def write_label(path: Path, label_map: Int[np.ndarray, "h w"]) -> None:
    """Write a label map as the release does: uint16 TIFF, PackBits.

    Raises:
        DataError: a label that does not fit 16 bits.
    """
    if label_map.min() < 0 or label_map.max() > 65535:
        raise DataError(f"{path}: labels {label_map.min()}…{label_map.max()} do not fit uint16 (0…65535).")
    # Pillow, because tifffile writes PackBits only with imagecodecs.
    Image.fromarray(label_map.astype(np.uint16)).save(path, format="TIFF", compression="packbits")


def _tiff_dtype(path: Path) -> str | None:
    """The dtype of a TIFF that Pillow has no mode for (float64, int64, …); None where it is no such TIFF."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            dtype = file.pages[0].dtype
    except (tifffile.TiffFileError, *_DAMAGE):
        return None
    # Damaged headers claim ordinary types, too: those are not what is wrong with the file.
    return str(dtype) if dtype is not None and (dtype.kind in "fc" or dtype.itemsize == 8) else None


def _not_integer(path: Path, kind: str) -> str:
    return f"{path} holds {kind} values; a label map holds integers up to 32 bits: save it as uint16."


def _unreadable(path: Path, what: str, error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        reason = "its content is something else, or damaged"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = str(error) or type(error).__name__
    return f"{path} can't be read as a {what}: {reason}. Restore the file from the release, or remove the pair."
