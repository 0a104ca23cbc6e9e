"""Statistics over the folds of each row of a leaderboard, for all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

BETWEEN = " + "
"""Between the texts of the folds of one row."""


@dataclass(frozen=True)
class FoldStats:
    """Records of a frame, grouped by the row of the leaderboard whose folds they are.

    Attributes:
        n_rows: number of rows of the leaderboard.
        groups: for each number of folds, the rows that have so many, and the positions of their records, (rows,
            folds). Rows with the same number of folds are reduced together: a thousand take as long as one, and the
            result of each is exactly that of reducing it alone.
    """

    n_rows: int
    groups: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, rows: np.ndarray, chosen: np.ndarray, n_rows: int) -> FoldStats:
        """Group the chosen records of a frame.

        Args:
            rows: the row of each record, 0 … n_rows - 1.
            chosen: whether a record counts.
            n_rows: number of rows, those without a chosen record included.
        """
        records = np.flatnonzero(chosen)
        records = records[np.argsort(rows[records], kind="stable")]
        present, starts, sizes = np.unique(rows[records], return_index=True, return_counts=True)
        groups = [
            (present[sizes == size], records[starts[sizes == size, None] + np.arange(size)])
            for size in np.unique(sizes)
        ]
        return cls(n_rows, tuple(groups))

    def mean(self, values: pd.Series) -> np.ndarray:
        """Mean over folds, NaN where a fold lacks the value."""
        return self._reduced(values, lambda numbers: numbers.mean(axis=1))

    def sd(self, values: pd.Series) -> np.ndarray:
        """Standard deviation over folds, ddof 1; NaN for one fold, or where a fold lacks the value."""

        def sd(numbers: np.ndarray) -> np.ndarray:
            several = numbers.shape[1] > 1
            return numbers.std(axis=1, ddof=1) if several else np.full(len(numbers), np.nan)

        return self._reduced(values, sd)

    def sum(self, values: pd.Series, *, partial: bool = True) -> np.ndarray:
        """Sum over folds; whole numbers stay whole.

        Args:
            values: one for each record.
            partial: sum over the folds that have the value, NaN where none has it; False: NaN where a fold lacks it.
        """

        def total(numbers: np.ndarray) -> np.ndarray:
            if not partial:
                return numbers.sum(axis=1)
            return np.where(np.isnan(numbers).all(axis=1), np.nan, np.nansum(numbers, axis=1))

        return _whole(self._reduced(values, total), values)

    def max(self, values: pd.Series) -> np.ndarray:
        """Largest value over folds, NaN where none has one; whole numbers stay whole."""
        return _whole(self._reduced(values, lambda numbers: np.fmax.reduce(numbers, axis=1)), values)

    def names(self, values: pd.Series) -> list[str]:
        """Texts of the folds of each row, every text once, in order; empty where no fold has one."""
        texts, names = values.tolist(), [""] * self.n_rows
        for rows, records in self.groups:
            for row, own in zip(rows.tolist(), records.tolist(), strict=True):
                names[row] = BETWEEN.join(sorted({texts[record] for record in own if not pd.isna(texts[record])}))
        return names

    def _reduced(self, values: pd.Series, reduce: Callable[[np.ndarray], Any]) -> np.ndarray:
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        results = np.full(self.n_rows, np.nan)
        for rows, records in self.groups:
            results[rows] = reduce(numbers[records])
        return results


def _whole(results: np.ndarray, values: pd.Series) -> np.ndarray:
    whole = values.dtype.kind in "iu" and not np.isnan(results).any()
    return results.astype(np.int64) if whole else results
