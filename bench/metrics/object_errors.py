"""Object-level errors of a predicted label map: missed, spurious, merged and split nuclei, from the table of overlaps.

Definitions; "inside" means that more than half of an object's pixels lie in the other one:
    - matched: a true nucleus and a prediction with IoU above 0.5, as in PQ.
    - merged: a prediction with two or more true nuclei inside it. The nuclei inside it are merged, too.
    - split: a true nucleus with two or more predictions inside it. The predictions inside it are split, too.
    - missed: a true nucleus that is neither matched nor merged nor split.
    - spurious: a prediction that is neither matched nor merged nor part of a split nucleus.

The four errors, counted by true nuclei (missed, split) and by predictions (spurious, merged), are those of Caicedo et
al. (Cytometry A 95:952, 2019), whose code takes overlaps of IoU above 0.1 as parts of a merge or a split. Here it is
the majority of an object's area, as in the over- and under-segmentation of Hoover et al. (IEEE TPAMI 18:673, 1996) and
the detections of Matula et al. (PLOS ONE 10:e0144959, 2015): with IoU, a nucleus whose prediction reaches into its
neighbour would count as merged, and a prediction over more than ten nuclei would not. A majority is decided in integers
and can't be had twice, and swapping the two maps swaps missed with spurious and merged with split.

Merged and split include objects that match: of two nuclei that touch, the larger often has IoU above 0.5 with the
prediction that covers both. So the counts of a table of scores need not add up with its ``tp``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bench.metrics.overlaps import Overlaps, overlaps

Category = Literal["matched", "missed", "spurious", "merged", "split"]
ERROR_COUNTS = ("n_missed", "n_spurious", "n_merged", "n_split")


class Roles(NamedTuple):
    """Part that each object plays in a match, a merge or a split; the order is that of `Overlaps`.

    Attributes:
        true_matched: the true nucleus is in a matched pair.
        true_merged: it lies inside a prediction with another nucleus.
        true_split: two or more predictions lie inside it.
        pred_matched: the prediction is in a matched pair.
        pred_merged: two or more true nuclei lie inside it.
        pred_split: it lies inside a true nucleus with another prediction.
    """

    true_matched: Bool[np.ndarray, " n_true"]
    true_merged: Bool[np.ndarray, " n_true"]
    true_split: Bool[np.ndarray, " n_true"]
    pred_matched: Bool[np.ndarray, " n_pred"]
    pred_merged: Bool[np.ndarray, " n_pred"]
    pred_split: Bool[np.ndarray, " n_pred"]


def error_counts(table: Overlaps) -> dict[str, int]:
    """Return ``n_missed`` and ``n_split`` in true nuclei, ``n_spurious`` and ``n_merged`` in predictions."""
    roles = _roles(table)
    explained_true = roles.true_matched | roles.true_merged | roles.true_split
    explained_pred = roles.pred_matched | roles.pred_merged | roles.pred_split
    return {
        "n_missed": len(explained_true) - int(np.count_nonzero(explained_true)),
        "n_spurious": len(explained_pred) - int(np.count_nonzero(explained_pred)),
        "n_merged": int(np.count_nonzero(roles.pred_merged)),
        "n_split": int(np.count_nonzero(roles.true_split)),
    }


def categories(
    true: Int[np.ndarray, "h w"], pred: Int[np.ndarray, "h w"]
) -> tuple[dict[int, Category], dict[int, Category]]:
    """Return the category of each true and of each predicted label, by its id; merged goes before split, then matched.

    Args:
        true: label map of the annotation.
        pred: label map of the prediction, of the same shape.

    Raises:
        ValueError: the maps are not two-dimensional integer arrays of one shape, or hold negative ids.
    """
    roles = _roles(overlaps(true, pred))
    return (
        _named(true, "missed", (roles.true_merged, roles.true_split, roles.true_matched)),
        _named(pred, "spurious", (roles.pred_merged, roles.pred_split, roles.pred_matched)),
    )


def _roles(table: Overlaps) -> Roles:
    true, pred, inter = table.true, table.pred, table.inter
    n_true, n_pred = len(table.true_area), len(table.pred_area)
    twice, true_area, pred_area = 2 * inter, table.true_area[true], table.pred_area[pred]
    matched = twice > true_area + pred_area - inter
    true_inside, pred_inside = twice > true_area, twice > pred_area
    pred_merged = np.bincount(pred[true_inside], minlength=n_pred) > 1
    true_split = np.bincount(true[pred_inside], minlength=n_true) > 1
    return Roles(
        _marked(true[matched], n_true),
        _marked(true[true_inside & pred_merged[pred]], n_true),
        true_split,
        _marked(pred[matched], n_pred),
        pred_merged,
        _marked(pred[pred_inside & true_split[true]], n_pred),
    )


def _marked(places: Int[np.ndarray, " k"], size: int) -> Bool[np.ndarray, " size"]:
    marked = np.zeros(size, bool)
    marked[places] = True
    return marked


def _named(label_map: np.ndarray, otherwise: Category, marks: tuple[np.ndarray, ...]) -> dict[int, Category]:
    """Name the ids of a label map by the first mark that holds, in the order merged, split, matched."""
    ids = [int(label) for label in np.unique(label_map) if label]
    names: tuple[Category, ...] = ("merged", "split", "matched")
    return {
        label: next((name for name, marked in zip(names, marks, strict=True) if marked[place]), otherwise)
        for place, label in enumerate(ids)
    }
