"""Runs made up for tests of galleries: true nuclei with known errors as predictions, kept as real runs keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fabricated import record, run

from bench import metrics
from bench.results.record import folder, write
from bench.training import outputs
from bench.training.data import Image

Predict = Callable[[Image], np.ndarray]


def image(stem: str, *, shape: tuple[int, int] = (48, 64), n: int = 6, seed: int = 0, organ: str = "liver") -> Image:
    """Return an image with `n` round nuclei (or as many as fit) on pink tissue."""
    rng = np.random.default_rng([seed, *stem.encode()])
    pixels = (np.array([228, 190, 215]) + rng.integers(-12, 12, (*shape, 3))).astype(np.uint8)
    label_map = np.zeros(shape, np.int32)
    down, across = np.mgrid[: shape[0], : shape[1]]
    for label in range(1, n + 1):
        y, x, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(4, 6)
        inside = (down - y) ** 2 + (across - x) ** 2 < radius**2
        if not label_map[inside].any():
            label_map[inside] = label
    pixels[label_map > 0] = np.array([110, 70, 140]) + rng.integers(-15, 15, (np.count_nonzero(label_map), 3))
    return Image(stem, organ, stem, pixels, label_map)


def with_errors(image: Image) -> np.ndarray:
    """Return the true nuclei, the second missed, the third split, the last two as one, and one too many."""
    predicted = image.label_map.copy()
    ids = [int(label) for label in np.unique(predicted) if label]
    if len(ids) > 4:
        predicted[predicted == ids[1]] = 0
        rows, columns = np.nonzero(predicted == ids[2])
        right = columns > columns.mean()
        predicted[rows[right], columns[right]] = max(ids) + 1
        predicted[predicted == ids[-1]] = ids[-2]
    free = predicted[-6:, -6:] == 0
    predicted[-6:, -6:][free] = 1_000
    return predicted


def perfect(image: Image) -> np.ndarray:
    """Return the true nuclei."""
    return image.label_map


def nothing(image: Image) -> np.ndarray:
    """Return a map without nuclei."""
    return np.zeros_like(image.label_map)


def add(
    results: Path,
    backbone: str,
    strategy: str,
    folds: Sequence[Sequence[Image]],
    predict: Predict | Mapping[str, Predict],
    *,
    n_first: int | None = 2,
    **changes: Any,
) -> list[str]:
    """Write records, scores, predictions and images of a method; return the ids of its runs.

    Args:
        results: the results folder.
        backbone: of the records.
        strategy: likewise.
        folds: test images of each fold.
        predict: makes a label map of an image; or one such function for each stem.
        n_first: number of first images whose predictions are kept; None for all.
        changes: of the records' settings.
    """
    ids = []
    for fold, images in enumerate(folds, start=1):
        settings = run(backbone, strategy, fold, n_splits=len(folds), **changes)
        predictions = {
            one.stem: (predict[one.stem] if isinstance(predict, Mapping) else predict)(one) for one in images
        }
        scores = {one.stem: metrics.score(one.label_map, predictions[one.stem], errors=True) for one in images}
        rows = [{"stem": one.stem, "organ": one.organ, "fold": fold, **scores[one.stem]} for one in images]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in ("dice", "aji", "pq")}
        made = record(settings, **mean, official=False)
        write(results, made)
        outputs.save_scores(folder(results, made.id), rows)
        pq: dict[str, float] = {stem: own["pq"] for stem, own in scores.items()}
        of_run: Any = SimpleNamespace(id=made.id, dataset_digest=settings["dataset_digest"])
        outputs.save_kept(results, of_run, images, predictions, pq, n_first=n_first)
        ids.append(made.id)
    return ids
