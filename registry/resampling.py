"""Resampling of maps and label maps between grids that need not begin or end at the same pixel.

Positions are those of an axis on which pixel i covers [i, i + 1), so that its centre is i + 0.5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from torch import Tensor


class Span(NamedTuple):
    """Equal parts of an axis, which become the pixels of a new one.

    Attributes:
        start: where the first part begins.
        step: length of a part.
        size: number of parts.
    """

    start: float
    step: float
    size: int

    @property
    def centres(self) -> Float[np.ndarray, " size"]:
        """Centres of the parts."""
        return self.start + (np.arange(self.size) + 0.5) * self.step


def whole(length: int, count: int) -> Span:
    """Return a whole axis of `length` pixels in `count` parts."""
    return Span(0.0, length / count, count)


def resample(maps: Float[Tensor, "*c h w"], rows: Span, columns: Span) -> Float[Tensor, "*c rows columns"]:
    """Resample bilinearly, antialiased along an axis whose parts are longer than a pixel.

    For whole axes it is `torch.nn.functional.interpolate` with ``align_corners=False``, and with ``antialias=True``
    where it shrinks. That function takes no part of an axis that begins or ends within a pixel; `grid_sample` takes it,
    but is not antialiased.

    Args:
        maps: float32.
        rows, columns: of the result, on the axes of the maps; pixels beyond the maps' edges repeat those at the edge.
    """
    return _along(_along(maps, rows, -2), columns, -1)


def _along(maps: Tensor, span: Span, axis: int) -> Tensor:
    import torch

    indices, weights = _taps(span, maps.shape[axis])
    shape = (-1, 1) if axis == -2 else (-1,)
    result: Tensor | None = None
    for index, weight in zip(indices, weights, strict=True):
        part = maps.index_select(axis, torch.from_numpy(index).to(maps.device))
        part = part.mul_(torch.from_numpy(weight).to(maps.device).view(shape))
        result = part if result is None else result.add_(part)
    assert result is not None
    return result


def _taps(span: Span, length: int) -> tuple[Int[np.ndarray, "taps count"], Float[np.ndarray, "taps count"]]:
    """Return the pixels that make each part, and their weights: a triangle as wide as two pixels or two parts."""
    support = max(1.0, span.step)
    centres = np.clip(span.centres, 0.5, length - 0.5)
    first = np.floor(centres - support + 0.5).astype(np.int64)
    indices = first + np.arange(int(np.ceil(2 * support)) + 1)[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(indices + 0.5 - centres) / support)
    weights[(indices < 0) | (indices >= length)] = 0.0
    used = weights.any(1)
    weights = weights[used] / weights.sum(0)
    return np.clip(indices[used], 0, length - 1), weights.astype(np.float32)


def pixels_of_tile(start: int, *, size: int, length: int, scaled: int, cells: int) -> tuple[int, Span]:
    """Return which pixels of an image have their centres in a tile, along one axis, and where they lie in its logits.

    Args:
        start: first pixel of the tile, in input pixels.
        size: side of the tile, in input pixels.
        length: side of the image in its own pixels, or in those of another grid over it.
        scaled: side of the image in input pixels.
        cells: side of the logits of the tile.

    Returns:
        The first of these pixels, and all of them as a span in the pixels of the logits.
    """
    step = scaled / length  # input pixels per pixel of the image
    first, last = (min(length, math.ceil(edge / step - 0.5)) for edge in (start, start + size))
    cell = cells / size
    return first, Span((first * step - start) * cell, step * cell, last - first)


def weights_in_tile(span: Span, *, cells: int, size: int) -> Float[np.ndarray, " count"]:
    """Return the weights in the blend of tiles of pixels that `pixels_of_tile` returned, along one axis.

    A tile has more weight away from its edges, where it has more context; nowhere 0, so corners are covered too.
    """
    positions = span.centres * (size / cells)
    return (np.minimum(positions, size - positions) + 0.5).clip(max=size // 4).astype(np.float32)


def sample_labels(label_map: Int[np.ndarray, "h w"], rows: Span, columns: Span) -> Int[np.ndarray, "rows columns"]:
    """Return the label at the centre of each part, without a shift of the labels against what `resample` makes.

    A centre may lie on the edge between pixels: always, where the side of a part is an even number of pixels. Taking
    the pixel to the right and below then moves all labels by half a pixel. So the label that most of the two or four
    pixels around that point have is taken; of labels that are as frequent, the larger: a nucleus rather than the
    background, and the same one however the label map is turned.

    Args:
        label_map: int32; 0 beyond its edges.
        rows, columns: of the result, on the axes of the label map.
    """
    around = [
        _looked_up(label_map, r, c).astype(np.int64) for r in _beside(rows.centres) for c in _beside(columns.centres)
    ]
    if len(around) == 1:
        return around[0].astype(label_map.dtype)
    best = np.full(around[0].shape, -1, np.int64)
    for labels in around:
        frequency = sum((labels == others).astype(np.int64) for others in around)
        best = np.maximum(best, (frequency << 32) + labels)
    return (best & 0xFFFFFFFF).astype(label_map.dtype)


def _beside(positions: Float[np.ndarray, " n"]) -> list[Int[np.ndarray, " n"]]:
    """Return the pixels that hold the positions; twice, left and right of them, where one lies on an edge."""
    nearest = np.rint(positions)
    on_edge = np.abs(positions - nearest) < 1e-6  # in pixels; the positions are sums and products of floats
    inside = np.floor(positions).astype(np.int64)
    if not on_edge.any():
        return [inside]
    edge = nearest.astype(np.int64)
    return [np.where(on_edge, edge - 1, inside), np.where(on_edge, edge, inside)]


def _looked_up(label_map: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    height, width = label_map.shape
    is_row, is_column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    if is_row.all() and is_column.all():
        return label_map[np.ix_(rows, columns)]
    result = np.zeros((len(rows), len(columns)), label_map.dtype)
    result[np.ix_(is_row, is_column)] = label_map[np.ix_(rows[is_row], columns[is_column])]
    return result
