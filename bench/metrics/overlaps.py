"""The table of overlapping pairs of two label maps: what every score in `bench.metrics` is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

# Below this many bits of (true id, predicted id), counting into a dense table beats sorting (8 MiB at most).
_DENSE_BITS = 20


class Overlaps(NamedTuple):
    """Areas in pixels, and the overlapping pairs sorted by true and then by predicted id.

    Attributes:
        true_area: of each true nucleus, in the order of ids.
        pred_area: of each predicted nucleus, in the order of ids.
        true: of each pair, the index into `true_area`.
        pred: of each pair, the index into `pred_area`.
        inter: of each pair, the intersection.
    """

    true_area: Int[np.ndarray, " n_true"]
    pred_area: Int[np.ndarray, " n_pred"]
    true: Int[np.ndarray, " pairs"]
    pred: Int[np.ndarray, " pairs"]
    inter: Int[np.ndarray, " pairs"]


def overlaps(true: Int[np.ndarray, "h w"], pred: Int[np.ndarray, "h w"]) -> Overlaps:
    """Compare two label maps in one pass over their pixels.

    Raises:
        ValueError: the maps are not two-dimensional integer arrays of one shape, or hold negative ids.
    """
    true, pred = _checked(true, pred)
    t, p, size = _counted(*_runs(true.ravel(), pred.ravel()))

    first = starts(t)
    true_area = np.add.reduceat(size, first) if len(first) else size
    true_index = np.repeat(np.arange(len(first)), np.diff(first, append=len(t)))
    pred_ids, pred_index = np.unique(p, return_inverse=True)
    pred_area = np.bincount(pred_index, weights=size, minlength=len(pred_ids)).astype(np.int64)
    # Background leads both orders, where there is any beside a nucleus.
    t_skip, p_skip = int(len(t) > 0 and t[0] == 0), int(len(p) > 0 and pred_ids[0] == 0)
    pair = (t > 0) & (p > 0)
    return Overlaps(
        true_area[t_skip:], pred_area[p_skip:], true_index[pair] - t_skip, pred_index[pair] - p_skip, size[pair]
    )


def starts(ordered: Int[np.ndarray, " n"]) -> Int[np.ndarray, " groups"]:
    """First index of each group of equal values."""
    if not len(ordered):
        return np.zeros(0, np.intp)
    inner = np.flatnonzero(ordered[1:] != ordered[:-1])
    first = np.zeros(len(inner) + 1, np.intp)
    np.add(inner, 1, out=first[1:])
    return first


def _checked(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, pred = np.asarray(true), np.asarray(pred)
    for name, array in (("true", true), ("predicted", pred)):
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"the {name} map is {array.dtype}; a label map holds integers. "
                "Label a mask first (skimage.measure.label), or cast ids that are whole numbers."
            )
        if array.ndim != 2:
            raise ValueError(f"the {name} map has shape {array.shape}; a label map is (h, w).")
        if array.dtype.kind == "i" and array.min(initial=0) < 0:
            raise ValueError(f"the {name} map holds the id {array.min()}; ids are 0 (background) or positive.")
    if true.shape != pred.shape:
        raise ValueError(
            f"the true map is {true.shape} and the predicted one {pred.shape}; bring the prediction to the "
            "true map's size first (nearest neighbour)."
        )
    return true, pred


def _runs(true: Int[np.ndarray, " n"], pred: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True id, predicted id and length of every run of equal pairs that is not all background."""
    change = true[1:] != true[:-1]
    change |= pred[1:] != pred[:-1]
    first = np.zeros(np.count_nonzero(change) + 1, np.intp)
    np.add(np.flatnonzero(change), 1, out=first[1:])
    first = first[: true.size]  # a map without pixels has no run
    length = np.diff(first, append=true.size)
    # take() with indices is several times faster here than a boolean mask.
    t, p = true.take(first), pred.take(first)
    nucleus = np.flatnonzero((t > 0) | (p > 0))
    return t.take(nucleus), p.take(nucleus), length.take(nucleus)


def _counted(t: np.ndarray, p: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the lengths of runs of the same pair; pairs come out sorted by true and then by predicted id."""
    t_bits, p_bits, length_bits = (int(x.max(initial=0)).bit_length() for x in (t, p, length))
    if t_bits + p_bits + length_bits > 63:  # number large ids densely, in their order; 0 stays 0
        t, p = (np.unique(np.append(ids, ids[:1] * 0), return_inverse=True)[1][:-1] for ids in (t, p))
        t_bits, p_bits = (int(ids.max(initial=0)).bit_length() for ids in (t, p))

    key = (t.astype(np.int64) << p_bits) | p.astype(np.int64)
    if t_bits + p_bits <= _DENSE_BITS:
        dense = np.bincount(key, weights=length)
        key = np.flatnonzero(dense > 0)
        size = dense[key].astype(np.int64)
    else:
        # The length rides in the low bits: one in-place sort instead of an argsort and a gather.
        key = (key << length_bits) | length
        key.sort()
        length = key & ((1 << length_bits) - 1)
        key >>= length_bits
        first = starts(key)
        key, size = key[first], np.add.reduceat(length, first) if len(first) else length
    return key >> p_bits, key & ((1 << p_bits) - 1), size
