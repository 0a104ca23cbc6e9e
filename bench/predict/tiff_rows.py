"""TIFF files as bands of RGB rows: only the strips or tiles of a band are read and decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from bench.predict import colours
from bench.predict.rows import Source, Whole
from registry import pixels
from registry.errors import DataError
from registry.names import shown


class TiffRows:
    """The picture of an open TIFF file (see `bench.predict.rows.Source`).

    Memory is that of the rows asked for, as wide as the image, and of one strip or tile. A compressed file that was
    written as one strip is decoded whole.

    Args:
        path: for messages.
        page: the open `tifffile.TiffPage`.
    """

    def __init__(self, path: Path, page: Any) -> None:
        try:
            self._convert, notes = colours.of_tiff(page)
        except DataError as error:
            raise DataError(f"{shown(path)} {error}") from error
        self._path, self._page = path, page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self.notes = tuple(f"{shown(path)} {note}" for note in notes)

    def rows(self, top: int, bottom: int) -> UInt8[np.ndarray, "h width 3"]:
        """Return a band of rows; raises `DataError` on damaged bytes."""
        try:
            stored = self._contiguous(top, bottom) if self._page.is_memmappable else self._decoded(top, bottom)
            return np.ascontiguousarray(self._convert(stored))
        # On damaged bytes the library's decoders raise whatever they like, or return another shape.
        except Exception as error:
            raise _as_data_error(self._path, error) from error

    def _contiguous(self, top: int, bottom: int) -> Shaped[np.ndarray, "h width *c"]:
        """Read rows of an uncompressed file, which often is one strip, so that decoding strips would read it whole."""
        page, samples = self._page, self._page.samplesperpixel
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        row_bytes = self.width * samples * dtype.itemsize
        handle = page.parent.filehandle
        handle.seek(page.dataoffsets[0] + top * row_bytes)
        content = handle.read((bottom - top) * row_bytes)
        if len(content) < (bottom - top) * row_bytes:
            raise ValueError("its pixels end too early")
        rows = np.frombuffer(content, dtype).reshape(bottom - top, self.width, samples)
        return rows[..., 0] if samples == 1 else rows

    def _decoded(self, top: int, bottom: int) -> Shaped[np.ndarray, "h width *c"]:
        page, samples = self._page, self._page.samplesperpixel
        rows = np.zeros((bottom - top, self.width, samples), page.dtype)
        high = page.tilelength if page.is_tiled else page.rowsperstrip
        across = math.ceil(self.width / page.tilewidth) if page.is_tiled else 1
        for down in range(top // high, math.ceil(bottom / high)):
            for index in range(down * across, (down + 1) * across):
                segment, y, x = self._segment(index)
                first, last, wide = max(top, y), min(bottom, y + segment.shape[0]), self.width - x
                rows[first - top : last - top, x : x + segment.shape[1]] = segment[first - y : last - y, :wide]
        return rows[..., 0] if samples == 1 else rows

    def _segment(self, index: int) -> tuple[Shaped[np.ndarray, "h w c"], int, int]:
        """Return a decoded strip or tile, which may reach beyond the image, and its first row and column."""
        page, handle = self._page, self._page.parent.filehandle
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        handle.seek(offset)
        content = handle.read(count)
        if not count or len(content) < count:
            raise ValueError(f"its strip or tile {index} is missing")
        segment, (_, _, y, x, _), _ = page.decode(content, index, jpegtables=page.jpegtables)
        return segment[0], y, x


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open the picture of a TIFF file.

    Of a pyramid the full resolution is read. A file that stores its channels apart or its picture turned is decoded
    whole, as these can't be read in bands.

    Raises:
        DataError: a damaged file, several pages of one size, or values that are no picture.
    """
    with ExitStack() as stack:
        try:
            source = _source(path, stack)
        except DataError:
            raise
        # On damaged bytes the library raises whatever it likes, also from attributes of a file that is open.
        except Exception as error:
            raise _as_data_error(path, error) from error
        yield source


def _source(path: Path, stack: ExitStack) -> Source:
    """Open the file until the stack ends; raises `DataError`, and on damaged bytes any exception of the library."""
    import tifffile

    file = stack.enter_context(tifffile.TiffFile(path))
    page = file.pages.first
    notes = _require_one_picture(path, file, page)
    rows = TiffRows(path, page)
    rows.notes = (*notes, *rows.notes)
    orientation = int(page.tags.valueof(274, 1))
    if int(page.planarconfig) == 1 or page.samplesperpixel == 1:
        if orientation in (0, 1):
            return rows
        rgb = rows.rows(0, rows.height)
    else:
        rgb = rows._convert(np.moveaxis(np.asarray(page.asarray(maxworkers=1)), 0, -1))
    turned = f"{shown(path)} has an orientation in its header; it is read upright, as viewers show it."
    return Whole(pixels.upright(rgb, orientation), (*rows.notes, *((turned,) if orientation not in (0, 1) else ())))


def _as_data_error(path: Path, error: Exception) -> DataError:
    if isinstance(error, MemoryError):
        return DataError(
            f"{shown(path)} declares more pixels than the memory holds: it is damaged, or stored so that it is decoded "
            "whole; convert it to a tiled TIFF (`vips tiffsave IN OUT.tif --tile --bigtiff`)."
        )
    return DataError(damaged(path, str(error) or type(error).__name__))


def damaged(path: Path, reason: BaseException | str) -> str:
    """Return the message about a TIFF file that can't be decoded."""
    return f"{shown(path)} is damaged ({reason}); copy the file anew from where it comes from."


def _require_one_picture(path: Path, file: Any, page: Any) -> tuple[str, ...]:
    """Refuse stacks: nobody says which of several pictures is meant. Smaller pages are a pyramid, labels, previews."""
    if not page.imagelength or not page.imagewidth:
        raise DataError(damaged(path, "its header declares no pixels"))
    same = sum((other.imagelength, other.imagewidth) == (page.imagelength, page.imagewidth) for other in file.pages)
    larger = any(other.imagelength * other.imagewidth > page.imagelength * page.imagewidth for other in file.pages)
    if same > 1 or larger or page.imagedepth > 1:
        raise DataError(
            f"{shown(path)} holds {max(len(file.pages), page.imagedepth)} pages; one picture is needed. Save the page "
            "that is meant as a file of its own: "
            "`python -c \"import tifffile as t; t.imwrite('NEW.tif', t.imread('OLD.tif', key=0))\"` (0 is the first)."
        )
    if len(file.pages) == 1:
        return ()
    return (f"{shown(path)} has {len(file.pages) - 1} smaller pages (a pyramid or previews); the largest is read.",)
