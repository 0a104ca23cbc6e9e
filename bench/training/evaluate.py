"""Scores of predictions per image at the image's own resolution, for candidates of post-processing and for the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import UInt8

from bench import metrics
from bench.training.side_processes import each
from registry import heads
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


def candidate_scores(
    raw: Iterable[Any],
    images: Sequence[LabelledImage],
    head: Head,
    candidates: Sequence[Mapping[str, float]],
    *,
    processes: int = 0,
) -> list[dict[str, float]]:
    """Return the mean scores over images of each choice of post-processing parameters, without AJI+.

    Image by image, so that what candidates share is computed once and held for one image at a time.

    Args:
        raw: raw predictions; they may be made one after the other.
        images: the images with their true label maps.
        head: turns them into label maps.
        candidates: parameters.
        processes: see `bench.training.side_processes.each`.
    """

    def score(item: tuple[int, Any]) -> list[dict[str, float]]:
        index, prediction = item
        instances = heads.prepared(head, prediction)
        return [metrics.score(images[index].label_map, instances(**choice), aji_plus=False) for choice in candidates]

    if not candidates:
        return []
    names = [image.stem for image in images]
    rows = each(score, enumerate(raw), names=names, processes=processes)
    return [mean(of_candidate) for of_candidate in zip(*rows, strict=True)]


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Unweighted mean over images of every score in the rows."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in SCORES if name in rows[0]}


def score_images(
    images: Sequence[LabelledImage],
    predict: Callable[[UInt8[np.ndarray, "h w 3"]], Any],
    instances: Callable[[Any], LabelMap],
    *,
    fold: int,
    progress: Callable[[Mapping[str, int]], None] = lambda _: None,
    processes: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, LabelMap]]:
    """Predict and score each image of a test fold, once.

    Args:
        images: the test fold.
        predict: pixels to what `instances` takes, in this process.
        instances: that to a label map; it and the scores are computed in processes where they pay.
        fold: number of the fold, for the rows.
        progress: called after each image with its number and the number of images.
        processes: see `bench.training.side_processes.each`.

    Returns:
        A row per image (stem, organ, fold, scores, counts of nuclei and of errors), and the predicted label maps by
        stem.
    """

    def score(item: tuple[int, Any]) -> tuple[LabelMap, dict[str, float]]:
        index, raw = item
        label_map = instances(raw)
        return label_map, metrics.score(images[index].label_map, label_map, errors=True)

    results = each(
        score,
        ((index, predict(image.pixels)) for index, image in enumerate(images)),
        names=[image.stem for image in images],
        processes=processes,
        follow=lambda number: progress({"image": number, "images": len(images)}),
    )
    rows = [
        {"stem": image.stem, "organ": image.organ, "fold": fold, **scores}
        for image, (_, scores) in zip(images, results, strict=True)
    ]
    return rows, {image.stem: label_map for image, (label_map, _) in zip(images, results, strict=True)}


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
