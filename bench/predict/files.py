"""Files of one image's prediction, written as its rows become final: label map, outlines, table, overlay, origin."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int, UInt8
from scipy import ndimage

from bench.predict.blocks import Band
from bench.predict.nuclei import COLUMNS, Nucleus, outline
from bench.results.kept_files import file_stem
from registry.atomic import replacing

SUFFIXES = (".labels.tif", ".geojson", ".csv", ".overlay.png", ".json")
TILE = 512
BIG_TIFF_BYTES = 2**32 - 2**25
"""From this size before compression on, a label map is a BigTIFF: offsets of TIFF have 32 bits."""
OVERLAY_SIDE = 4096
"""Longest side of an overlay; larger images are shrunk by a whole number."""
OUTLINE_COLOUR = (255, 235, 0)


def paths(folder: Path, stem: str) -> tuple[Path, ...]:
    """Return the files of an image, in the order of `SUFFIXES`."""
    return tuple(folder / f"{file_stem(stem)}{suffix}" for suffix in SUFFIXES)


def is_prediction(path: Path) -> bool:
    """Return whether a picture was written by `write`: the other files of its image stand beside it."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
    if suffix is None:
        return False
    stem = path.name.removesuffix(suffix)
    return all(path.with_name(stem + other).is_file() for other in SUFFIXES)


class Overlay:
    """The image with the outlines of its nuclei, shrunk where it is large; its memory is that of the picture.

    Args:
        height, width: of the image in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self.factor = math.ceil(max(height, width) / OVERLAY_SIDE)
        size = math.ceil(height / self.factor), math.ceil(width / self.factor)
        self._pixels = np.zeros((*size, 3), np.uint8)
        # Outline pixels of the image in each pixel of the picture.
        self._lines = np.zeros(size, np.uint16)

    def see(self, top: int, left: int, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Take the pixels of a part of the image, anywhere in it; each pixel of the image once.

        A pixel of the picture that several parts share is rounded once for each of them.
        """
        rows, down, tall = _shrunk(top, pixels.shape[0], self.factor, self._height)
        columns, across, wide = _shrunk(left, pixels.shape[1], self.factor, self._width)
        sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.uint32), rows, axis=0), columns, axis=1)
        shares = (sums / (tall[:, None] * wide)[..., None]).round().astype(np.uint16)
        picture = self._pixels[down : down + len(rows), across : across + len(columns)]
        picture[:] = np.minimum(255, picture + shares)

    def draw(self, nucleus: Nucleus) -> None:
        """Draw the pixels of a nucleus that touch its outside."""
        inner = np.pad(nucleus.mask, 1) & ~ndimage.binary_erosion(np.pad(nucleus.mask, 1))
        y, x = np.nonzero(inner[1:-1, 1:-1])
        np.add.at(self._lines, ((y + nucleus.top) // self.factor, (x + nucleus.left) // self.factor), 1)

    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the picture; a line that crosses a shrunk pixel from edge to edge covers it."""
        y, x = np.nonzero(self._lines)
        cover = np.minimum(1.0, self._lines[y, x, None] / self.factor)
        picture = self._pixels.copy()
        picture[y, x] = (picture[y, x] * (1 - cover) + np.array(OUTLINE_COLOUR) * cover).round().astype(np.uint8)
        return picture


def _shrunk(
    first: int, length: int, factor: int, whole: int
) -> tuple[Int[np.ndarray, " n"], int, Int[np.ndarray, " n"]]:
    """Return how a part of an axis is shrunk.

    Returns:
        Where the pixels of the picture begin in the part, the first of them, and how many pixels of the image each is.
    """
    begin = first // factor
    edges = np.arange(begin, math.ceil((first + length) / factor)) * factor
    return np.maximum(edges - first, 0), begin, np.minimum(edges + factor, whole) - edges


def write(
    folder: Path,
    stem: str,
    bands: Iterable[Band],
    overlay: Overlay,
    *,
    height: int,
    width: int,
    origin: Mapping[str, Any],
) -> int:
    """Write the files of an image while its bands are made; all of them, or none.

    Args:
        folder: made if it isn't there.
        stem: of the image.
        bands: what `bench.predict.blocks.stitched` yields.
        overlay: sees the pixels while the bands are made.
        height, width: of the image in pixels.
        origin: what the prediction was made from and with, as JSON values.

    Returns:
        The number of nuclei.

    Raises:
        OSError: no room or no permission.
    """
    from PIL import Image
    from tifffile import TiffWriter

    with ExitStack() as stack:
        temporary = [stack.enter_context(replacing(path)) for path in paths(folder, stem)]
        labels, outlines, table, picture, summary = temporary
        lines = _Lines(
            stack.enter_context(table.open("w", encoding="utf-8", newline="")),
            stack.enter_context(outlines.open("w", encoding="utf-8", newline="")),
        )
        with TiffWriter(labels, bigtiff=height * width * 4 > BIG_TIFF_BYTES) as tiff:
            tiff.write(
                _tiles(_recorded(bands, lines, overlay), height, width),
                shape=(height, width),
                dtype=np.uint32,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="minisblack",
                software=False,  # names a version of the library, which would change the bytes
                metadata=None,
                maxworkers=1,
            )
        lines.end()
        Image.fromarray(overlay.picture()).save(picture, format="png")
        values = {**origin, "nuclei": lines.n_nuclei}
        summary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return lines.n_nuclei


class _Lines:
    """CSV rows and GeoJSON features, a line for each nucleus.

    Args:
        table, outlines: open text files.
    """

    def __init__(self, table: IO[str], outlines: IO[str]) -> None:
        self.n_nuclei = 0
        self._rows, self._table, self._outlines = csv.writer(table, lineterminator="\n"), table, outlines
        self._rows.writerow(COLUMNS)
        outlines.write('{"type": "FeatureCollection", "features": [')

    def add(self, nucleus: Nucleus) -> None:
        """Write a nucleus."""
        self._rows.writerow([nucleus.label, *(f"{value:.10g}" for value in (round(v, 4) for v in nucleus.values))])
        self._outlines.write(("," if self.n_nuclei else "") + "\n" + json.dumps(_feature(nucleus)))
        self.n_nuclei += 1

    def end(self) -> None:
        """Complete and close both files."""
        self._outlines.write("\n]}\n")
        self._outlines.close()
        self._table.close()


def _feature(nucleus: Nucleus) -> dict[str, Any]:
    """Return a feature as QuPath reads it: a detection, named after its label, with its measurements."""
    measurements = {name: round(value, 4) for name, value in zip(COLUMNS[1:], nucleus.values, strict=True)}
    properties = {"objectType": "detection", "name": str(nucleus.label), "measurements": measurements}
    return {"type": "Feature", "geometry": outline(nucleus), "properties": properties}


def _recorded(bands: Iterable[Band], lines: _Lines, overlay: Overlay) -> Iterator[Int[np.ndarray, "h w"]]:
    for band in bands:
        for nucleus in band.nuclei:
            lines.add(nucleus)
            overlay.draw(nucleus)
        yield band.label_map


def _tiles(bands: Iterable[Int[np.ndarray, "h w"]], height: int, width: int) -> Iterator[Int[np.ndarray, "t t"]]:
    """Yield the tiles of a label map, row by row, from bands of any height."""
    waiting = np.zeros((0, width), np.uint32)
    written = 0
    for band in bands:
        waiting = np.concatenate([waiting, band])
        while len(waiting) >= TILE or 0 < height - written == len(waiting):
            rows, waiting = waiting[:TILE], waiting[TILE:]
            written += len(rows)
            for left in range(0, width, TILE):
                part = rows[:, left : left + TILE]
                tile = np.zeros((TILE, TILE), np.uint32)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile
