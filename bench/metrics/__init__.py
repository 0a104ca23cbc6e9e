"""Dice, AJI, AJI+ and PQ of two label maps, and their object-level errors: NumPy, from one table of overlaps.

Conventions:
    - A label map is an integer array, 0 is background, every other value is one nucleus. Gaps between ids are
      allowed; fragments that share an id are one nucleus. Connected components are never computed here.
    - Dice: 2·|A∩B| / (|A|+|B|) on foreground.
    - AJI (Kumar et al., IEEE TMI 36:1550, 2017): each true nucleus takes the prediction of best IoU. A
      prediction may be taken again, and then enters the union again. Nuclei and predictions in no pair enter
      the denominator once. Exact ties of IoU go to the larger intersection, then to the lower id.
    - AJI+ (Graham et al., Medical Image Analysis 58:101563, 2019): the same ratio over the one-to-one
      assignment of largest summed IoU, without a threshold.
    - PQ (Kirillov et al., CVPR 2019): a pair matches iff 2·intersection > union, decided in integers, because
      exact halves do occur. SQ is 0 without a match. No epsilons.
    - Both maps empty: every ratio is 1.0. Exactly one empty: every ratio is 0.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int

from bench.metrics.assignment import best_assignment
from bench.metrics.object_errors import error_counts
from bench.metrics.overlaps import Overlaps, overlaps, starts

_RATIOS = ("dice", "aji", "pq", "sq", "dq", "f1", "precision", "recall")


def score(
    true: Int[np.ndarray, "h w"], pred: Int[np.ndarray, "h w"], aji_plus: bool = True, errors: bool = False
) -> dict[str, float]:
    """Score a predicted label map against the true one; the order of the two matters for AJI.

    Args:
        true: label map of the annotation, of any integer type.
        pred: label map of the prediction, of the same shape.
        aji_plus: also compute AJI+, the one score that needs an assignment; its key is absent otherwise.
        errors: also count ``n_missed, n_spurious, n_merged, n_split`` as integers (see
            `bench.metrics.object_errors`); they are absent otherwise.

    Returns:
        ``dice, aji, aji_plus, pq, sq, dq, f1, precision, recall`` in [0, 1], where f1, precision and recall
        count the pairs that PQ matches (so f1 equals dq); ``n_true, n_pred, tp`` in nuclei; ``iou_sum``, the
        summed IoU of the matched pairs, from which `pool` makes the pooled PQ.

    Raises:
        ValueError: the maps are not two-dimensional integer arrays of one shape, or hold negative ids.
    """
    table = overlaps(true, pred)
    n_true, n_pred = len(table.true_area), len(table.pred_area)
    counts = {"n_true": float(n_true), "n_pred": float(n_pred), "tp": 0.0, "iou_sum": 0.0}
    if errors:
        counts |= error_counts(table)
    if not n_true or not n_pred:
        names = (*_RATIOS, "aji_plus") if aji_plus else _RATIOS
        return dict.fromkeys(names, float(n_true == n_pred)) | counts

    union = table.true_area[table.true] + table.pred_area[table.pred] - table.inter
    iou = table.inter / union
    matched = 2 * table.inter > union
    tp, iou_sum = int(matched.sum()), float(iou[matched].sum())
    dq, sq = 2 * tp / (n_true + n_pred), iou_sum / tp if tp else 0.0
    result = {
        "dice": float(2 * table.inter.sum() / (table.true_area.sum() + table.pred_area.sum())),
        "aji": _aji(table, union, _best_prediction(table, iou)),
        "pq": dq * sq,
        "sq": sq,
        "dq": dq,
        "f1": dq,
        "precision": tp / n_pred,
        "recall": tp / n_true,
    }
    if aji_plus:
        result["aji_plus"] = _aji(table, union, _one_to_one(table, union))
    return result | counts | {"tp": float(tp), "iou_sum": iou_sum}


def pool(rows: Iterable[Mapping[str, float]]) -> dict[str, float | None]:
    """Pooled scores, shown beside the headline, which is the unweighted mean over images.

    AJI is not pooled: one giant prediction would own the denominator.

    Args:
        rows: what `score` gave for each image.

    Returns:
        ``pooled_pq, pooled_sq, pooled_dq`` of all nuclei taken together; ``weighted_NAME``, the mean weighted
        by the number of true nuclei, for each ratio that every row has (None where no image has a nucleus);
        ``n_images``; ``n_empty_true``, the images without a true nucleus, and ``n_empty_both``, those of them
        without a predicted one too, which count as 1.0 (training scripts of published rows count them 0).

    Raises:
        ValueError: there are no rows.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("no scores to pool; give the result of score() for at least one image.")
    n_true, n_pred, tp, iou_sum = (
        np.array([row[key] for row in rows]) for key in ("n_true", "n_pred", "tp", "iou_sum")
    )
    nuclei = float(n_true.sum() + n_pred.sum())
    dq = 2 * float(tp.sum()) / nuclei if nuclei else 1.0
    sq = float(iou_sum.sum() / tp.sum()) if tp.any() else float(not nuclei)
    weighted: dict[str, float | None] = {}
    for name in (*_RATIOS, "aji_plus"):
        if all(name in row for row in rows):
            total = float(sum(row[name] * row["n_true"] for row in rows))
            weighted[f"weighted_{name}"] = total / float(n_true.sum()) if n_true.any() else None
    return {
        "pooled_pq": dq * sq,
        "pooled_sq": sq,
        "pooled_dq": dq,
        "n_images": float(len(rows)),
        "n_empty_true": float(np.sum(n_true == 0)),
        "n_empty_both": float(np.sum((n_true == 0) & (n_pred == 0))),
        **weighted,
    }


def _best_prediction(table: Overlaps, iou: Float[np.ndarray, " pairs"]) -> Int[np.ndarray, " chosen"]:
    """For each true nucleus that overlaps something, the pair of best IoU."""
    first = starts(table.true)
    if not len(first):
        return first
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(iou)))
    # Division rounds correctly, so equal fractions are equal floats: ties are exact.
    best = np.flatnonzero(iou == np.maximum.reduceat(iou, first)[group])
    if len(best) > len(first):
        best = best[np.lexsort((-table.inter[best], group[best]))]  # stable: then the lower id
        best = best[starts(group[best])]
    return best


def _one_to_one(table: Overlaps, union: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " chosen"]:
    """The pairs of the assignment with the largest summed IoU."""
    # The offset settles ties of IoU in favour of the larger intersection; the original code has the same one.
    return best_assignment(table.true, table.pred, table.inter / (union + 1e-6))


def _aji(table: Overlaps, union: Int[np.ndarray, " pairs"], chosen: Int[np.ndarray, " chosen"]) -> float:
    """Σ intersections over Σ unions of the chosen pairs, plus the areas of all that is in no pair."""
    true_alone, pred_alone = np.ones(len(table.true_area), bool), np.ones(len(table.pred_area), bool)
    true_alone[table.true[chosen]] = False
    pred_alone[table.pred[chosen]] = False
    alone = table.true_area[true_alone].sum() + table.pred_area[pred_alone].sum()
    return float(table.inter[chosen].sum() / (union[chosen].sum() + alone))
