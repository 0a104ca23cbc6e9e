"""What a run leaves beside its record: per-image scores as Parquet and a few predicted label maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int, UInt8

from bench.results.record import SCORES_FILENAME


class Image(Protocol):
    """An image with its name (see `bench.training.data.Image`)."""

    @property
    def stem(self) -> str: ...
    @property
    def pixels(self) -> UInt8[np.ndarray, "h w 3"]: ...
    @property
    def label_map(self) -> Int[np.ndarray, "h w"]: ...


def save_scores(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one row per test image to ``scores.parquet``, atomically."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SCORES_FILENAME
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pd.DataFrame(list(rows)).to_parquet(temporary, index=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def save_predictions(folder: Path, images: Sequence[Image], predictions: Mapping[str, Int[np.ndarray, "h w"]]) -> None:
    """Write ``predictions/<stem>.png`` (16-bit label map) and ``<stem>.overlay.png`` (truth green, found yellow)."""
    from PIL import Image as Pillow
    from skimage.segmentation import find_boundaries, relabel_sequential

    target = folder / "predictions"
    target.mkdir(parents=True, exist_ok=True)
    for image in images:
        predicted = relabel_sequential(predictions[image.stem])[0]
        Pillow.fromarray(predicted.astype(np.uint16)).save(target / f"{image.stem}.png")
        overlay = image.pixels.copy()
        overlay[find_boundaries(image.label_map, mode="inner")] = (0, 200, 0)
        overlay[find_boundaries(predicted, mode="inner")] = (255, 235, 0)
        Pillow.fromarray(overlay).save(target / f"{image.stem}.overlay.png")
