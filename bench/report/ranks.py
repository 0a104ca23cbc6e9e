"""Intervals of the rows of a section and of their ranks, with the sentences that explain them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.report.image_scores import INTERVAL_SCORES, ImageScores
from bench.report.intervals import MOST_ROWS, RESAMPLES, Resampled

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
OF_RANKS = (
    "#: ranks that the paired differences allow; rows that can't be told apart (95 %, each pair on its own) share "
    "them. Bold: decisively better than all other ranked rows. `bench compare` adjusts its tests for the number of "
    "pairs (Holm), so that it may find fewer differences."
)
"""Sentences on the columns of a table; a figure has none of them."""


def with_intervals(
    rows: pd.DataFrame, published: pd.DataFrame, images: ImageScores | None
) -> tuple[pd.DataFrame, dict[str, bool], tuple[str, ...]]:
    """Add the intervals of a section's rows: ``<score>_low``, ``<score>_high``, ``rank_low``, ``rank_high``.

    ``rank_low`` is 1 + the number of rows that are decisively better, so that rows that can't be told apart from the
    best share rank 1; ``rank_high`` is the rank if every row that can't be told apart were better. A row without
    image scores is compared by its mean alone, and a published score with the interval of a row's mean.

    Args:
        rows: best first; ``rank`` is NaN for rows that have none.
        published: published rows; those with a ``rank`` share the ranks.
        images: scores of the images; None: there are none.

    Returns:
        The rows with the columns, whether the best ranked row of each score is decisively better than every other
        one, and sentences on all this.
    """
    rows = rows.assign(**{f"{score}_{end}": np.nan for score in INTERVAL_SCORES for end in ("low", "high")})
    rows = rows.assign(rank_low=rows["rank"], rank_high=rows["rank"])
    undecided = dict.fromkeys(INTERVAL_SCORES, False)
    resampled = None if images is None else Resampled.of(images.images, rows["cell"].tolist())
    if images is None or resampled is None:
        return rows, undecided, () if images is None else (_reason(rows, images),)
    for score in INTERVAL_SCORES:
        rows = rows.set_index("cell", drop=False)
        rows.update(resampled.intervals(score))
        rows = rows.reset_index(drop=True)
    notes = [_method(resampled)]
    lacking = rows[rows["cell"].isin(list(images.missing))]
    if len(lacking):
        first = images.missing[lacking["cell"].iloc[0]]
        notes.append(f"Without intervals, and compared by their means alone: {len(lacking)} rows ({first}).")
    ranked = rows[rows["rank"].notna()]
    if len(ranked) > MOST_ROWS:
        return rows, undecided, (*notes, f"More than {MOST_ROWS} rows: ranks are those of the means.")
    rows.loc[ranked.index, ["rank_low", "rank_high"]] = _rank_intervals(ranked, published, resampled)
    decided = {score: _decided(ranked, published, resampled, score) for score in INTERVAL_SCORES}
    return rows, decided, (*notes, OF_RANKS, *decisive_order(rows.loc[ranked.index]))


def _rank_intervals(ranked: pd.DataFrame, published: pd.DataFrame, resampled: Resampled) -> np.ndarray:
    """Return the lowest and highest rank by PQ of each ranked row, (rows, 2)."""
    better = _comparisons(ranked, resampled, "pq")
    shared = published.loc[published["rank"].notna(), "pq"].to_numpy() / 100
    low = ranked["pq_low"].fillna(ranked["pq_mean"]).to_numpy()[:, None]
    high = ranked["pq_high"].fillna(ranked["pq_mean"]).to_numpy()[:, None]
    n = len(ranked) + len(shared)
    return np.stack(
        [
            1 + (better < 0).sum(axis=1) + (shared > high).sum(axis=1),
            n - (better > 0).sum(axis=1) - (shared < low).sum(axis=1),
        ],
        axis=1,
    )


def _comparisons(ranked: pd.DataFrame, resampled: Resampled, score: str, *, first_only: bool = False) -> np.ndarray:
    """Return +1 where a row is decisively better than another, -1 where worse; by means where one has no images."""
    means = ranked[f"{score}_mean"].to_numpy()
    better = np.sign(np.nan_to_num(means[:, None] - means[None, :])).astype(int)
    sampled = np.flatnonzero(ranked[f"{score}_low"].notna())
    if len(sampled):
        cells = ranked["cell"].iloc[sampled].tolist()
        better[np.ix_(sampled, sampled)] = resampled.better(score, cells, first_only=first_only)
    return better


def _decided(ranked: pd.DataFrame, published: pd.DataFrame, resampled: Resampled, score: str) -> bool:
    ordered = ranked.sort_values(f"{score}_mean", ascending=False, kind="stable")
    if ordered.empty or pd.isna(low := ordered[f"{score}_low"].iloc[0]) or ordered[f"{score}_low"].isna().any():
        return False
    shared = published.loc[published["rank"].notna(), score] / 100
    if len(ordered) + len(shared) < 2:  # nothing to be better than
        return False
    return bool((_comparisons(ordered, resampled, score, first_only=True)[0, 1:] > 0).all() and (shared < low).all())


def _method(resampled: Resampled) -> str:
    if resampled.by_organ:
        units = f"the {len(resampled.counts)} organs, each with all its images"
    else:
        units = "the images one by one, as there are few organs"
    return f"95 % CI: bootstrap, {RESAMPLES:,} resamples of {units}."


def _reason(rows: pd.DataFrame, images: ImageScores) -> str:
    reasons = [images.missing[cell] for cell in rows["cell"] if cell in images.missing]
    return images.left_out or f"No confidence intervals: {reasons[0] if reasons else 'fewer than two images'}."


def decisive_order(ranked: pd.DataFrame) -> list[str]:
    """Return a sentence on the rows that share the first rank; none where nothing can be said.

    Args:
        ranked: rows with a rank, best first, as `with_intervals` returns them.
    """
    first = ranked[ranked["rank_low"] == 1]
    if len(ranked) < 2 or first.empty or not first["pq_low"].notna().all():
        return []
    if len(first) == 1:
        best = "The first is decisively better on PQ than every other row."
        return [best] if first["rank_high"].iloc[0] == 1 else []
    number = NUMBERS[len(first) - 2] if len(first) - 2 < len(NUMBERS) else str(len(first))
    if first.index.tolist() == ranked.index[: len(first)].tolist():
        return [f"No decisive order among the first {number}."]
    return [f"No decisive order among the {number} rows that share rank 1."]
