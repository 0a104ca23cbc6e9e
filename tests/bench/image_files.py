"""A small picture in several modes, and its files read in bands."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bench.predict import sources

RGB = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = np.dstack([RGB, np.full(GREY.shape, 7, np.uint8)])


def read(path: Path, *, bands: int = 1) -> tuple[np.ndarray, tuple[str, ...]]:
    with sources.opened(path) as source:
        edges = np.linspace(0, source.height, bands + 1).astype(int)
        parts = [source.rows(top, bottom) for top, bottom in pairwise(edges)]
        return np.concatenate(parts), source.notes


def tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, values, **options)
    return path
