"""Choice of post-processing parameters, and scores of predictions per image at the image's own resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def choose_parameters(
    raw: Iterable[Any],
    images: Sequence[LabelledImage],
    head: Head,
    *,
    key: str = "pq",
    side_processes: int = 0,
    processes: int = 0,
) -> tuple[dict[str, float], dict[str, float]]:
    """Choose post-processing parameters on validation images, in turn, each by the best mean `key`.

    Args:
        raw: raw predictions of the images; they may be made one after the other, and are kept.
        images: the images with their true label maps.
        head: gives the parameters, their defaults and their candidates.
        key: the score.
        side_processes: processes for the first scores, while predictions are made; see
            `bench.training.side_processes.each`.
        processes: those for all other scores.

    Returns:
        The parameters, and their mean scores.
    """
    kept: list[Any] = []
    chosen = dict(head.defaults)
    (best,) = candidate_scores(_keeping(raw, kept), images, head, [chosen], processes=side_processes)
    for name, values in head.search.items():
        others = [value for value in values if value != chosen[name]]
        candidates = [{**chosen, name: value} for value in others]
        means = candidate_scores(kept, images, head, candidates, processes=processes)
        for candidate, scores in zip(candidates, means, strict=True):
            if scores[key] > best[key]:
                chosen, best = candidate, scores
    return chosen, best


def _keeping(items: Iterable[Any], kept: list[Any]) -> Iterator[Any]:
    for item in items:
        kept.append(item)
        yield item


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
