"""Bootstrap: resamples of images or organs, the same ones wherever an interval or a share of resamples is shown.

The leaderboard's 95 % confidence intervals and the order of its rows come from here, and so do the intervals of
differences of `bench compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from bench.report.image_scores import INTERVAL_SCORES

RESAMPLES = 10_000
SEED = 19
FEWEST_ORGANS = 6
"""With fewer organs, images are resampled one by one: two organs would have three different resamples."""
MOST_ROWS = 150
"""So many rows are compared pair by pair."""
TAIL = 0.025


def clusters(organs: Sequence[str] | np.ndarray, fewest: int = FEWEST_ORGANS) -> tuple[np.ndarray, bool]:
    """Return what is drawn with replacement: the number of each image's organ, or of the image itself.

    Images of one organ resemble each other; drawing them singly would make an interval too short.

    Args:
        organs: of each image.
        fewest: with fewer organs, images are drawn singly.

    Returns:
        A number for each image, 0 …; and whether organs are drawn. Organs are numbered in the order of their names.
    """
    names, places = np.unique(np.asarray(organs, dtype=str), return_inverse=True)
    by_organ = len(names) >= fewest
    return (places if by_organ else np.arange(len(places))), by_organ


@lru_cache(maxsize=2)  # a page draws of the same number of organs for every row and pair
def draws(n: int) -> np.ndarray:
    """Return how often each of `n` clusters is in each of `RESAMPLES` resamples of `n`, (n, resamples); read-only."""
    counts: np.ndarray = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES).T.astype(float)
    counts.setflags(write=False)
    return counts


@dataclass(frozen=True)
class Resampled:
    """Means of rows in resamples of their images; all rows share the resamples, so that their differences are paired.

    Attributes:
        cells: the rows.
        weights: of each image in each row's mean, (rows, images); 0 where a row lacks the image.
        sums: weight times score, (rows, images), for each score.
        groups: the cluster of each image: its organ, or the image itself.
        counts: how often each cluster is in each resample, (clusters, resamples).
        by_organ: organs are the clusters.
    """

    cells: tuple[str, ...]
    weights: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]
    groups: np.ndarray
    counts: np.ndarray
    by_organ: bool

    @classmethod
    def of(cls, images: pd.DataFrame, cells: list[str]) -> Resampled | None:
        """Draw the resamples of a section; the same images give the same ones.

        Args:
            images: see `bench.report.image_scores.ImageScores`.
            cells: the rows of the section.

        Returns:
            None where no row has the scores of two images.
        """
        images = images[images["cell"].isin(cells)]
        of_organ, organs = _codes(images["organ"])
        of_stem, stems = _codes(images["stem"])
        known, of_image = np.unique(of_organ * max(len(stems), 1) + of_stem, return_inverse=True)
        if len(known) < 2:
            return None
        of_cell, named = _codes(images["cell"])
        in_images = set(named[np.unique(of_cell)])
        present = tuple(cell for cell in cells if cell in in_images)
        places = pd.Index(present).get_indexer(pd.Index(named))[of_cell] * len(known) + of_image
        weights, sums = {}, {}
        for score in INTERVAL_SCORES:
            values = images[score].to_numpy()
            weight = np.where(np.isnan(values), 0, images["weight"].to_numpy())
            shape = len(present), len(known)
            weights[score], sums[score] = (
                np.bincount(places, numbers, shape[0] * shape[1]).reshape(shape)
                for numbers in (weight, weight * np.nan_to_num(values))
            )
        groups, by_organ = clusters(organs[known // max(len(stems), 1)])
        return cls(present, weights, sums, groups, draws(int(groups.max()) + 1), by_organ)

    def means(self, score: str, rows: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of rows in each resample, (rows, resamples); NaN where a resample has none of its images."""
        weights, sums = self.weights[score][rows], self.sums[score][rows]
        if images is not None:
            weights, sums = weights * images, sums * images
        member = np.eye(len(self.counts))[self.groups]
        with np.errstate(invalid="ignore", divide="ignore"):
            result: np.ndarray = (sums @ member @ self.counts) / (weights @ member @ self.counts)
        return result

    def intervals(self, score: str) -> pd.DataFrame:
        """Return the columns ``<score>_low`` and ``<score>_high``: percentiles of the resampled means, by cell."""
        rows = np.arange(len(self.cells))
        low, high = np.full((2, len(rows)), np.nan)
        enough = (self.weights[score] > 0).sum(axis=1) > 1
        if enough.any():
            means = self.means(score, rows[enough])
            # The same numbers from the one that leaves NaN out, but row by row, which a thousand rows feel.
            percentile = np.nanpercentile if np.isnan(means).any() else np.percentile
            low[enough], high[enough] = percentile(means, [100 * TAIL, 100 * (1 - TAIL)], axis=1)
        return pd.DataFrame({f"{score}_low": low, f"{score}_high": high}, index=pd.Index(self.cells, name="cell"))

    def better(self, score: str, cells: list[str], *, first_only: bool = False) -> np.ndarray:
        """Return +1 where a row is decisively better than another, -1 where worse, 0 where it can't be told.

        Decisive: on the images that both have, the difference keeps its sign in 97.5 % of the resamples, which is a
        95 % interval of the difference that leaves out 0. Each pair is taken on its own, without a correction for
        their number.

        Args:
            score: one of `INTERVAL_SCORES`.
            cells: rows that have scores, (n).
            first_only: compare the first with the others only, and leave 0 elsewhere.

        Returns:
            Whole numbers, (n, n).
        """
        rows = pd.Index(self.cells).get_indexer(pd.Index(cells))
        means, has = self.means(score, rows), self.weights[score][rows] > 0
        result = np.zeros((len(rows), len(rows)), int)
        for row in range(min(1, len(rows)) if first_only else len(rows)):
            same = (has == has[row]).all(axis=1)
            same[: row + 1] = False
            result[row, same] = _sign(means[row] - means[same])
            for other in np.flatnonzero(~(has == has[row]).all(axis=1)).tolist():
                common = has[row] & has[other]
                if other > row and common.sum() > 1:
                    first, second = self.means(score, rows[[row, other]], common)
                    result[row, other] = _sign((first - second)[None])[0]
        return result - result.T


def _codes(texts: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return each text's place among the different ones, and these in alphabetic order."""
    if not isinstance(texts.dtype, pd.CategoricalDtype):
        texts = texts.astype(str).astype("category")
    names = texts.cat.categories.to_numpy(object)
    order = np.argsort(names, kind="stable") if len(names) else np.zeros(0, int)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[texts.cat.codes.to_numpy()], names[order]


def _sign(differences: np.ndarray) -> np.ndarray:
    """Return the sign that each row of differences (rows, resamples) keeps in 97.5 % of the resamples; 0: none."""
    # Rounding of a matrix product must not decide between rows whose scores are equal.
    above, below = (differences > 1e-12).mean(axis=1), (differences < -1e-12).mean(axis=1)
    sign: np.ndarray = (above >= 1 - TAIL).astype(int) - (below >= 1 - TAIL).astype(int)
    return sign
