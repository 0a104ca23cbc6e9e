"""Choice of post-processing parameters, and scores of predictions per image at the image's own resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import UInt8

from bench import metrics
from registry.contract import LabelMap

if TYPE_CHECKING:
    from registry.contract import Head

SCORES = ("dice", "aji", "aji_plus", "pq", "sq", "dq", "f1", "precision", "recall")


class LabelledImage(Protocol):
    """An image with its true label map (see `bench.training.data.Image`)."""

    @property
    def stem(self) -> str: ...
    @property
    def organ(self) -> str: ...
    @property
    def pixels(self) -> np.ndarray: ...
    @property
    def label_map(self) -> np.ndarray: ...


def choose_parameters(
    raw: Sequence[Any], true: Sequence[LabelMap], head: Head, *, key: str = "pq"
) -> tuple[dict[str, float], dict[str, float]]:
    """Choose post-processing parameters on validation images, in turn, each by the best mean `key`.

    Returns:
        The parameters, and their mean scores.
    """
    chosen = dict(head.defaults)
    best = mean_scores(raw, true, head, chosen)
    for name, candidates in head.search.items():
        for value in candidates:
            if value == chosen[name]:
                continue
            scores = mean_scores(raw, true, head, {**chosen, name: value})
            if scores[key] > best[key]:
                chosen, best = {**chosen, name: value}, scores
    return chosen, best


def mean_scores(
    raw: Iterable[Any], true: Iterable[LabelMap], head: Head, parameters: Mapping[str, float]
) -> dict[str, float]:
    """Mean scores of raw predictions with these post-processing parameters; `raw` may be a generator."""
    pairs = zip(true, raw, strict=True)
    return mean(
        metrics.score(label_map, head.instances(prediction, **parameters), aji_plus=False)
        for label_map, prediction in pairs
    )


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Unweighted mean over images of every score in the rows."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in SCORES if name in rows[0]}


def score_images(
    images: Sequence[LabelledImage],
    predict: Callable[[UInt8[np.ndarray, "h w 3"]], LabelMap],
    *,
    fold: int,
    progress: Callable[[Mapping[str, int]], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], dict[str, LabelMap]]:
    """Predict and score each image of a test fold, once.

    Args:
        images: the test fold.
        predict: pixels to label map.
        fold: number of the fold, for the rows.
        progress: called after each image with its number and the number of images.

    Returns:
        A row per image (stem, organ, fold, scores, counts of nuclei and of errors), and the predicted label maps by
        stem.
    """
    rows, predictions = [], {}
    for number, image in enumerate(images, start=1):
        label_map = predict(image.pixels)
        scores = metrics.score(image.label_map, label_map, errors=True)
        rows.append({"stem": image.stem, "organ": image.organ, "fold": fold, **scores})
        predictions[image.stem] = label_map
        progress({"image": number, "images": len(images)})
    return rows, predictions


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a record's block ``scores``: means over images, counts, and pooled values."""
    pooled = metrics.pool(rows)
    return {
        **mean(rows),
        "n_images": len(rows),
        "n_true": int(sum(row["n_true"] for row in rows)),
        "n_pred": int(sum(row["n_pred"] for row in rows)),
        **pooled,
    }
