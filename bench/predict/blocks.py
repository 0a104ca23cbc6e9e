"""Instances of an image of any size: blocks with a halo, each instance taken once, rows handed on as they are final."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8
from scipy import ndimage

from bench.predict.nuclei import Nucleus, measure
from bench.predict.rows import Source
from registry.contract import LabelMap

Segment = Callable[[UInt8[np.ndarray, "h w 3"]], LabelMap]
COVERED = 0.5
"""An instance of which at least this share is covered by instances of earlier blocks is one of them, seen again."""


@dataclass(frozen=True)
class Block:
    """Part of an image: a core, and the window around it that is segmented. Cores cover the image without overlap.

    Attributes:
        core: (top, left, bottom, right) in pixels of the image.
        window: the core with its halo, cut at the image's edges; or shifted inwards, where windows keep their size.
    """

    core: tuple[int, int, int, int]
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class Band:
    """Rows whose label map is final.

    Attributes:
        top: first row.
        label_map: ids 1…n in the order of the instances' first pixels, row by row, over the whole image; uint32.
        nuclei: the instances whose first pixel lies in these rows, in the order of their ids.
    """

    top: int
    label_map: Int[np.ndarray, "h width"]
    nuclei: tuple[Nucleus, ...]


def plan(height: int, width: int, *, side: int, halo: int, same_size: bool = False) -> list[list[Block]]:
    """Return the blocks of an image, row by row; a single one where the image fits one window.

    Args:
        height, width: of the image in pixels.
        side: side of a core in pixels.
        halo: pixels around a core.
        same_size: windows at the image's edges are shifted inwards, not cut.
    """
    rows = _along(height, side, halo, same_size)
    columns = _along(width, side, halo, same_size)
    return [
        [Block((top, left, bottom, right), (first, start, last, end)) for left, right, start, end in columns]
        for top, bottom, first, last in rows
    ]


def _along(length: int, side: int, halo: int, same_size: bool) -> list[tuple[int, int, int, int]]:
    """Return first and last pixel of each core and of its window along one axis."""
    window = side + 2 * halo
    if length <= window:
        return [(0, length, 0, length)]
    parts = []
    for first in range(0, length, side):
        last = min(first + side, length)
        start, end = max(0, first - halo), min(length, last + halo)
        if same_size:
            start = min(start, length - window)
            end = start + window
        parts.append((first, last, start, end))
    return parts


def stitched(
    source: Source,
    blocks: list[list[Block]],
    segment: Segment,
    *,
    progress: Callable[[], None] = lambda: None,
    seen: Callable[[int, int, np.ndarray], None] = lambda *_: None,
) -> Iterator[Band]:
    """Segment an image block by block and yield its rows as soon as no later block can change them.

    The first block, in reading order, whose core an instance touches writes all of it, its part in the halo included.
    Later blocks meet it again: an instance that is covered to `COVERED` by earlier ones is dropped, any other gets the
    pixels that are free. So none is written twice, and none is lost that touches a core, as every pixel does one. An
    instance that is larger than the halo may be cut.

    Memory is that of a row of blocks, as wide as the image.

    Args:
        source: the image.
        blocks: what `plan` returned.
        segment: pixels of a window to their label map.
        progress: called after each block.
        seen: called with (top, left) and the pixels of each core, once for each pixel of the image.

    Raises:
        DataError: damaged pixels.
    """
    canvas = _Canvas(source.width)
    for number, row in enumerate(blocks):
        first, last = row[0].window[0], row[0].window[2]
        pixels = source.rows(first, last)
        canvas.extend(last)
        for block in row:
            top, left, bottom, right = block.core
            seen(top, left, pixels[top - first : bottom - first, left:right])
            start, end = block.window[1], block.window[3]
            canvas.write(segment(pixels[:, start:end].copy()), block)  # torch warns of arrays that can't be written
            progress()
        # What touches a later core may reach up to the top of its window.
        yield from canvas.final(min((later[0].window[0] for later in blocks[number + 1 :]), default=row[0].core[2]))


class _Canvas:
    """Rows that are not final yet, under provisional ids, and the instances in them.

    Args:
        width: of the image.
    """

    def __init__(self, width: int) -> None:
        self.top = 0
        self.label_map = np.zeros((0, width), np.uint32)
        self._pending: dict[int, Nucleus] = {}
        self._n_written = 0
        # Final ids by provisional id; 0 is the background.
        self._final = np.zeros(1, np.uint32)
        self._n_final = 0

    def extend(self, bottom: int) -> None:
        """Add empty rows up to `bottom`."""
        missing = bottom - self.top - len(self.label_map)
        if missing > 0:
            self.label_map = np.concatenate([self.label_map, np.zeros((missing, self.label_map.shape[1]), np.uint32)])

    def write(self, label_map: LabelMap, block: Block) -> None:
        """Write the instances of a window that touch its core and are not there yet."""
        first, start, last, end = block.window
        view = self.label_map[first - self.top : last - self.top, start:end]
        top, left, bottom, right = block.core
        core = label_map[top - first : bottom - first, left - start : right - start]
        boxes = ndimage.find_objects(label_map)
        for number in np.unique(core[core > 0]):
            box = boxes[number - 1]
            mask = label_map[box] == number
            free = mask & (view[box] == 0)
            n_free, n = int(free.sum()), int(mask.sum())
            if n_free == 0 or n - n_free >= COVERED * n:
                continue
            self._n_written += 1
            view[box][free] = self._n_written
            self._pending[self._n_written] = measure(free, top=first + box[0].start, left=start + box[1].start)

    def final(self, bottom: int) -> Iterator[Band]:
        """Take the rows above `bottom`, with final ids."""
        height = bottom - self.top
        if height <= 0:
            return
        self._final = np.concatenate([self._final, np.zeros(self._n_written + 1 - len(self._final), np.uint32)])
        begun = sorted(
            (number for number, nucleus in self._pending.items() if nucleus.first[0] < bottom),
            key=lambda number: self._pending[number].first,
        )
        nuclei = []
        for number in begun:
            self._n_final += 1
            self._final[number] = self._n_final
            nuclei.append(self._pending.pop(number).numbered(self._n_final))
        rows = self._final[self.label_map[:height]]
        self.label_map, top = self.label_map[height:].copy(), self.top
        self.top = bottom
        yield Band(top, rows, tuple(nuclei))
