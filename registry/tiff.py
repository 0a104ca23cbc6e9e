"""TIFF files to maps of raw integers: no colour map is applied, nothing inverted, no colour converted.

The one reader of label maps. tifffile gives the values as stored, whatever photometric interpretation, byte order,
tiling or compression (Pillow inverts 8-bit WhiteIsZero files and reads big-endian 32 bits as garbage).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from registry.errors import DataError
from registry.names import shown
from registry.refusals import too_large, unreadable

_GREY = {0: "WhiteIsZero", 1: "BlackIsZero", 3: "palette"}  # the photometric interpretations of one channel
_COLOUR = {2: "RGB", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
# None, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard. The other methods may change values, or are for one bit.
_LOSSLESS = frozenset({1, 5, 8, 32946, 32773, 34925, 50000})
_TO_DO = "save it as uint16"


@dataclass(frozen=True)
class LabelPage:
    """The one page of a label file.

    Attributes:
        values: the integers as stored, in rows and columns as stored.
        kind: what they are, for messages: ``"32-bit unsigned big-endian"``.
        orientation: 1…8 as in the header; 1 is upright.
    """

    values: Int[np.ndarray, "h w"]
    kind: str
    orientation: int


def read_label_page(path: Path, *, max_pixels: int | None) -> LabelPage:
    """Read the integers of a TIFF file of one page and one channel.

    Args:
        max_pixels: more than these are refused before anything is decoded; None allows all.

    Raises:
        DataError: a file that is unreadable, cut, or no map of integers up to 32 bits; the text names its kind.
    """
    import tifffile

    with _logged_errors() as errors:
        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                _require_one_page(path, file, page)
                _require_size(path, page, max_pixels)
                _require_integers(path, page)
                _require_all_segments(path, page, file.filehandle.size)
                if errors:
                    raise DataError(_damaged(path, errors[0]))
                values = page.asarray(maxworkers=1)
                orientation = int(page.tags.valueof(274, 1))
                kind = _kind(page)
        except DataError:
            raise
        # Only the library's own code runs above: on damaged bytes its decoders raise whatever they like.
        except Exception as error:
            raise DataError(_damaged(path, error)) from error
    if values.ndim != 2 or errors:
        raise DataError(_damaged(path, errors[0] if errors else f"its values have the shape {values.shape}"))
    return LabelPage(values, kind, orientation if 1 <= orientation <= 8 else 1)


def _require_one_page(path: Path, file: Any, page: Any) -> None:
    n_pages = len(file.pages)
    if n_pages == 1:  # some programs write many planes behind one header
        n_pages = page.imagedepth
        if file.is_imagej:
            n_pages = max(n_pages, int((file.imagej_metadata or {}).get("images", 1)))
        if file.is_stk:
            n_pages = max(n_pages, int(file.stk_metadata["NumberPlanes"]))
        for shaped in file.shaped_metadata or () if file.is_shaped else ():
            n_pages = max(n_pages, math.prod(shaped["shape"]) // max(1, math.prod(page.shape)))
    if n_pages > 1:
        raise DataError(
            f"{shown(path)} holds {n_pages} pages; a label map is one page of integers. Save that page as a file of "
            "its own: `python -c \"import tifffile as t; t.imwrite('NEW.tif', t.imread('OLD.tif')[0])\"` (0 is the "
            "first)."
        )


def _require_size(path: Path, page: Any, max_pixels: int | None) -> None:
    height, width = page.imagelength, page.imagewidth
    if not height or not width:
        raise DataError(_damaged(path, "its header declares no pixels"))
    if max_pixels is not None and height * width > max_pixels:
        raise DataError(too_large(path, height, width, max_pixels))


def _require_integers(path: Path, page: Any) -> None:
    """Refuse colours, several channels, binary masks, values that are no integers of 32 bits, lossy compression."""
    samples, bits, name = page.samplesperpixel, page.bitspersample, shown(path)
    photometric = int(page.photometric)
    if samples < 1:
        raise DataError(_damaged(path, "its header declares no samples"))
    if photometric in _COLOUR:
        extra = page.tags.valueof(338) or ()
        mode = _COLOUR[photometric] + ("A" if any(int(e) in (1, 2) for e in np.atleast_1d(extra)) else "")
        raise DataError(
            f"{name} is a colour image (mode {mode}); a label map has one channel of integers, not {samples} of "
            f"{bits} bits: save the label map itself as uint16, not a picture of it."
        )
    if samples != 1:
        raise DataError(
            f"{name} holds {samples} samples per pixel (one channel and {samples - 1} more, alpha perhaps); a label "
            "map has one channel of integers: save that channel alone as uint16."
        )
    if bits == 1:
        raise DataError(
            f"{name} is a binary mask; a label map gives every nucleus its own integer. It holds 1 bit per pixel: "
            "number its nuclei, and save them as uint16."
        )
    if photometric not in _GREY:
        kind = getattr(page.photometric, "name", None) or "unknown"
        raise DataError(
            f"{name} has the photometric interpretation {photometric} ({kind}), not one of labels: {_TO_DO}."
        )
    if page.dtype is None:
        form = getattr(page.sampleformat, "name", page.sampleformat)
        raise DataError(f"{name} holds values of {bits} bits in the sample format {form}, not of labels: {_TO_DO}.")
    if page.dtype.kind not in "iu" or page.dtype.itemsize > 4:
        raise DataError(
            f"{name} holds {page.dtype} values; a label map holds integers up to 32 bits: save it as uint16."
        )
    compression = int(page.compression)
    if compression not in _LOSSLESS:
        method = getattr(page.compression, "name", None) or f"method {compression}"
        raise DataError(
            f"{name} is compressed with {method}; only methods that keep every value are read: {_TO_DO} with LZW, "
            "Deflate or PackBits, from the labels as they were before."
        )


def _require_all_segments(path: Path, page: Any, file_bytes: int) -> None:
    """Refuse files of which a strip or tile is missing: tifffile would fill it with zeros."""
    n_segments = math.prod(page.chunked)
    offsets = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    if len(offsets) < n_segments or len(counts) < n_segments:
        raise DataError(_damaged(path, f"{n_segments} strips or tiles are needed, {len(offsets)} are there"))
    offsets, counts = offsets[:n_segments], counts[:n_segments]
    if absent := int(((offsets <= 0) | (counts <= 0)).sum()):
        raise DataError(
            f"{shown(path)} is a sparse TIFF: {absent} of its {n_segments} strips or tiles hold no data; {_TO_DO} "
            "with all of them."
        )
    if (offsets + counts > file_bytes).any():
        needed = int((offsets + counts).max())
        raise DataError(_damaged(path, f"the file is cut: it has {file_bytes:,} of {needed:,} bytes"))
    if int(page.compression) == 1 and counts.sum() * 8 < page.imagelength * page.imagewidth * page.bitspersample:
        raise DataError(_damaged(path, f"its strips or tiles hold only {counts.sum():,} bytes"))


def _kind(page: Any) -> str:
    sign = "signed" if page.dtype.kind == "i" else "unsigned"
    order = " big-endian" if page.parent.byteorder == ">" and page.bitspersample > 8 else ""
    return f"{page.bitspersample}-bit {sign}{order}"


def _damaged(path: Path, reason: BaseException | str) -> str:
    return unreadable(path, "TIFF label map", reason)


@contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collect what tifffile logs as an error and reads on: a tag that can't be read could change every value."""
    errors: list[str] = []
    logger = logging.getLogger("tifffile")

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                errors.append(record.getMessage())

    collector, propagates = Collector(), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
