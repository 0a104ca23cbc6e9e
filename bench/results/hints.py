"""Hint for a run whose PQ is zero: what its record knows of the reason, and settings that may help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.results.record import RunRecord
from bench.units import plural

SMALLEST = 0.0005
"""Below this a PQ is shown as 0.000."""


def is_zero(pq: float | None) -> bool:
    """Return whether a PQ is shown as zero."""
    return pq is not None and pq < SMALLEST


def hint(record: RunRecord) -> str:
    """Return sentences on a PQ of zero, measured facts first; empty where it is not zero or nothing is known of it."""
    scores = record.scores or {}
    known = scores.get("zero_pq")
    if record.status != "ok" or not known:
        return ""
    images = plural(int(known["n_images"]), "test image")
    found = (
        f"{plural(int(known['n_pred']), 'predicted object')} in {images}, but too few match a true nucleus"
        if known["n_pred"]
        else f"no nucleus was found in {images}"
    )
    chosen = scores.get("post_processing") or {}
    prompted = "n_prompted" in known
    reasons = _prompted(known, chosen, record.run) if prompted else _trained(known, chosen, record)
    return " ".join([f"PQ 0.000: {found}.", *reasons])


def _prompted(known: Mapping[str, Any], chosen: Mapping[str, float], run: Mapping[str, Any]) -> list[str]:
    loosest = f"predicted IoU {known['loosest_iou']:g} and stability {known['loosest_stability']:g}"
    sentences = [
        f"Of {int(known['n_prompted']):,} prompted masks, {int(known['n_kept']):,} reach {loosest}, the lowest "
        f"thresholds that are tried, and {int(known['n_passed']):,} the chosen iou {chosen['iou']:g} and stability "
        f"{chosen['stability']:g}; the largest predicted IoU is {known['largest_iou']:.2f}."
    ]
    if run.get("weights") == "random":
        return [*sentences, "The weights are random, so predicted IoUs mean nothing. May help: weights=official."]
    return [*sentences, "May help: a head of your own with lower `iou` in its `search`, or a strategy that trains."]


def _trained(known: Mapping[str, Any], chosen: Mapping[str, float], record: RunRecord) -> list[str]:
    sentences = []
    if "largest_foreground" in known and "foreground" in chosen:
        sentences.append(
            f"The largest foreground probability is {known['largest_foreground']:.2f}; a nucleus needs pixels above "
            f"{chosen['foreground']:g}."
        )
    steps = (record.cost or {}).get("train_steps")
    if steps is not None:
        images = plural(int(known["n_training_images"]), "image")
        epochs = (record.run.get("train") or {}).get("epochs")
        sentences.append(
            f"It was trained for {plural(int(steps), 'step')} on {images}. May help: more steps (train.epochs, now "
            f"{epochs}), more training images, or another train.lr."
        )
    return sentences
