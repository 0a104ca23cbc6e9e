"""Instances of an image of any size: blocks with a halo, joined at their seams, rows handed on as they are final."""

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
"""Two blocks see the same instance if they share at least this much of the smaller one, where both of them look."""


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

    A block decides about the pixels of its core, where it sees at least the halo around each of them. Two pieces that
    meet at a seam become one instance where each is the other's largest overlap, in the pixels that both blocks see,
    and shares `COVERED` of the smaller one. So an instance larger than the halo is neither cut nor doubled, and two
    that only one of the blocks holds apart stay two in that block's core. An instance that would be larger than a
    window is cut at a seam: without a limit, a model that takes all for nucleus would need the memory of the image.

    Memory is that of about two rows of blocks, as wide as the image.

    Args:
        source: the image.
        blocks: what `plan` returned.
        segment: pixels of a window to their label map.
        progress: called after each block.
        seen: called with (top, left) and the pixels of each core, once for each pixel of the image.

    Raises:
        DataError: damaged pixels.
    """
    windows = [block.window for row in blocks for block in row]
    limit = max(bottom - top for top, _, bottom, _ in windows), max(right - left for _, left, _, right in windows)
    canvas = _Canvas(source.width, limit)
    for number, row in enumerate(blocks):
        first, last = row[0].window[0], row[0].window[2]
        pixels = source.rows(first, last)
        canvas.begin_row(row[0].core[2])
        seam = blocks[number + 1][0].window[0] if number + 1 < len(blocks) else last
        for block in row:
            top, left, bottom, right = block.core
            seen(top, left, pixels[top - first : bottom - first, left:right])
            start, end = block.window[1], block.window[3]
            label_map = segment(pixels[:, start:end].copy())  # torch warns of arrays that can't be written
            canvas.write(label_map, block, seam)
            progress()
        yield from canvas.final()


@dataclass(frozen=True)
class _View:
    """Part of what a block saw.

    Attributes:
        top, left: its upper left corner in the image.
        ids: provisional ids of the instances that touch the block's core; 0 elsewhere.
    """

    top: int
    left: int
    ids: Int[np.ndarray, "h w"]


class _Canvas:
    """Rows that are not final yet, under provisional ids, and the instances in them.

    Args:
        width: of the image.
        limit: largest height and width of an instance that is joined at a seam.
    """

    def __init__(self, width: int, limit: tuple[int, int]) -> None:
        self.top = 0
        self.label_map = np.zeros((0, width), np.uint32)
        self._limit = limit
        # By provisional id: the id it was joined to, itself where it was not; its final id. 0 is the background.
        self._joined_to = [0]
        self._final = np.zeros(1, np.uint32)
        self._n_final = 0
        # Bounding boxes (top, left, bottom, right) of the instances that have no final id yet.
        self._boxes: dict[int, tuple[int, int, int, int]] = {}
        # Views that later blocks are compared with: of the row above, of this row, and of the block to the left.
        self._above: list[_View] = []
        self._below: list[_View] = []
        self._before: list[_View] = []

    def begin_row(self, bottom: int) -> None:
        """Begin a row of blocks whose cores end at `bottom`."""
        missing = bottom - self.top - len(self.label_map)
        self.label_map = np.concatenate([self.label_map, np.zeros((missing, self.label_map.shape[1]), np.uint32)])
        self._above, self._below, self._before = self._below, [], []

    def write(self, label_map: LabelMap, block: Block, seam: int) -> None:
        """Write the core of a window, and join its instances to those of earlier blocks.

        Args:
            label_map: of the window.
            block: where it lies.
            seam: first row that the windows of the next row of blocks see.
        """
        first, start, _, _ = block.window
        top, left, bottom, right = block.core
        core = label_map[top - first : bottom - first, left - start : right - start]
        provisional = np.zeros(int(label_map.max(initial=0)) + 1, np.uint32)
        for number, box in enumerate(ndimage.find_objects(core), 1):
            if box is not None:
                rows, columns = box
                provisional[number] = new = len(self._joined_to)
                self._joined_to.append(new)
                self._boxes[new] = top + rows.start, left + columns.start, top + rows.stop, left + columns.stop
        view = _View(first, start, provisional[label_map])
        self.label_map[top - self.top : bottom - self.top, left:right] = provisional[core]
        for earlier in (*self._above, *self._before):
            for pair in _same(earlier, view):
                self._join(*pair)
        self._before = [view]
        self._below.append(_View(max(first, seam), start, view.ids[max(0, seam - first) :].copy()))

    def final(self) -> Iterator[Band]:
        """Take the rows that no later block can change, with final ids."""
        waiting = {self._root(int(number)) for view in self._below for number in np.unique(view.ids) if number}
        bottom = min((self._boxes[number][0] for number in waiting), default=self.top + len(self.label_map))
        height = bottom - self.top
        if height <= 0:
            return
        roots = np.arange(len(self._joined_to), dtype=np.uint32)
        for number in range(min(self._boxes, default=len(roots)), len(roots)):  # earlier ids are final
            roots[number] = self._root(number)
        self.label_map = roots[self.label_map]
        begun = [self._measured(number) for number, box in self._boxes.items() if box[0] < bottom]
        self._final = np.concatenate([self._final, np.zeros(len(roots) - len(self._final), np.uint32)])
        nuclei = []
        for number, nucleus in sorted(begun, key=lambda pair: pair[1].first):
            self._n_final += 1
            self._final[number] = self._n_final
            nuclei.append(nucleus.numbered(self._n_final))
            del self._boxes[number]
        rows = self._final[self.label_map[:height]]
        self.label_map, top = self.label_map[height:].copy(), self.top
        self.top = bottom
        yield Band(top, rows, tuple(nuclei))

    def _measured(self, number: int) -> tuple[int, Nucleus]:
        top, left, bottom, right = self._boxes[number]
        mask = self.label_map[top - self.top : bottom - self.top, left:right] == number
        return number, measure(mask, top=top, left=left)

    def _root(self, number: int) -> int:
        while self._joined_to[number] != number:
            number = self._joined_to[number]
        return number

    def _join(self, first: int, second: int) -> None:
        """Make two instances one, unless that would be larger than a window."""
        first, second = sorted((self._root(first), self._root(second)))
        if first == second:
            return
        (top, left, bottom, right), box = self._boxes[first], self._boxes[second]
        union = min(top, box[0]), min(left, box[1]), max(bottom, box[2]), max(right, box[3])
        if union[2] - union[0] <= self._limit[0] and union[3] - union[1] <= self._limit[1]:
            self._joined_to[second] = first
            self._boxes[first] = union
            del self._boxes[second]


def _same(earlier: _View, later: _View) -> list[tuple[int, int]]:
    """Return the pairs of ids under which two blocks saw the same instance."""
    top, left = max(earlier.top, later.top), max(earlier.left, later.left)
    bottom = min(view.top + view.ids.shape[0] for view in (earlier, later))
    right = min(view.left + view.ids.shape[1] for view in (earlier, later))
    if top >= bottom or left >= right:
        return []
    ours, theirs = (
        view.ids[top - view.top : bottom - view.top, left - view.left : right - view.left] for view in (later, earlier)
    )
    both = (ours > 0) & (theirs > 0)
    # One number for a pair: sorting those is much faster than sorting columns.
    keys, n_shared = np.unique(theirs[both].astype(np.uint64) << 32 | ours[both], return_counts=True)
    pairs = [(int(key) >> 32, int(key) & (2**32 - 1)) for key in keys]
    areas = [dict(zip(*np.unique(ids, return_counts=True), strict=True)) for ids in (theirs, ours)]
    largest: tuple[dict[int, int], dict[int, int]] = {}, {}
    for index in np.argsort(n_shared, kind="stable").tolist():  # ascending, so the largest overlap stays
        for side in (0, 1):
            largest[side][pairs[index][side]] = index
    return [
        (first, second)
        for index, (first, second) in enumerate(pairs)
        if largest[0][first] == largest[1][second] == index
        and n_shared[index] >= COVERED * min(areas[0][first], areas[1][second])
    ]
