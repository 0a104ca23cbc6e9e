"""Numbers over the folds of each cell, all cells at once: what is known of one fold becomes one row's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class FoldStats:
    """Which rows of a frame are which cell's folds.

    Attributes:
        n_cells: number of cells.
        groups: for each number of folds, the cells that have so many, and their rows, (cells, folds). Cells of one
            size are reduced together: a thousand cost as much as one, and each as exactly as alone.
    """

    n_cells: int
    groups: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, cells: np.ndarray, chosen: np.ndarray, n_cells: int) -> FoldStats:
        """Group the chosen rows of a frame.

        Args:
            cells: each row's cell, 0 … n_cells - 1.
            chosen: whether a row counts.
            n_cells: number of cells, those without a chosen row included.
        """
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(cells[rows], kind="stable")]
        present, starts, sizes = np.unique(cells[rows], return_index=True, return_counts=True)
        groups = [
            (present[sizes == size], rows[starts[sizes == size, None] + np.arange(size)]) for size in np.unique(sizes)
        ]
        return cls(n_cells, tuple(groups))

    def mean(self, values: pd.Series) -> np.ndarray:
        """Mean over folds, NaN where a fold lacks the value."""
        return self._reduced(values, lambda numbers: numbers.mean(axis=1))

    def sd(self, values: pd.Series) -> np.ndarray:
        """Standard deviation over folds, ddof 1; NaN for one fold, or where a fold lacks the value."""

        def sd(numbers: np.ndarray) -> np.ndarray:
            several = numbers.shape[1] > 1
            return numbers.std(axis=1, ddof=1) if several else np.full(len(numbers), np.nan)

        return self._reduced(values, sd)

    def sum(self, values: pd.Series) -> np.ndarray:
        """Sum over the folds that have the value, NaN where none has; whole numbers stay whole."""

        def total(numbers: np.ndarray) -> np.ndarray:
            return np.where(np.isnan(numbers).all(axis=1), np.nan, np.nansum(numbers, axis=1))

        return _whole(self._reduced(values, total), values)

    def max(self, values: pd.Series) -> np.ndarray:
        """Largest value over folds, NaN where none has one; whole numbers stay whole."""
        return _whole(self._reduced(values, lambda numbers: np.fmax.reduce(numbers, axis=1)), values)

    def names(self, values: pd.Series) -> list[str]:
        """What the folds of a cell say, each once, in order; empty where they say nothing."""
        texts, found = values.tolist(), [""] * self.n_cells
        for cells, rows in self.groups:
            for cell, own in zip(cells.tolist(), rows.tolist(), strict=True):
                found[cell] = " + ".join(sorted({texts[row] for row in own if not pd.isna(texts[row])}))
        return found

    def _reduced(self, values: pd.Series, reduce: Callable[[np.ndarray], Any]) -> np.ndarray:
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        found = np.full(self.n_cells, np.nan)
        for cells, rows in self.groups:
            found[cells] = reduce(numbers[rows])
        return found


def _whole(found: np.ndarray, values: pd.Series) -> np.ndarray:
    whole = values.dtype.kind in "iu" and not np.isnan(found).any()
    return found.astype(np.int64) if whole else found
