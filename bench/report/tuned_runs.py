"""Tuning of the runs of a row: its seconds, each tuning counted once, and the encoder rates that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

COSTS = ("tuning_seconds", "tuning_gpu_seconds")
"""Of all trials that a run's rate was chosen from; runs that share them have the same numbers."""


def facts(block: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns of one record: ``tuning_id`` (equal for runs with the same trials), fold, rate, ties."""
    known = block or {}
    return {
        "tuning_id": known.get("id"),
        "tuning_fold": known.get("fold"),
        "tuned_rate": known.get("chosen"),
        "tuning_tied": known.get("tied"),
    }


def columns(runs: pd.DataFrame, cells: Sequence[str] | pd.Index) -> dict[str, Any]:
    """Return columns of a leaderboard: `COSTS`, 0 for rows without trials, and ``tuned_rates``, a text.

    Args:
        runs: records with status ``ok``, with the columns of `facts`.
        cells: ids of the rows.
    """
    rows = pd.Index(cells)
    tuned = runs[runs["tuning_id"].notna()].drop_duplicates(["cell", "tuning_id"])
    sums: dict[str, Any] = {}
    for name in COSTS:
        # A part that is missing makes the sum missing: it would pass for a cheap row.
        by_cell = tuned[name].groupby(tuned["cell"]).agg(lambda own: own.sum(skipna=False)).astype(float)
        sums[name] = np.where(rows.isin(tuned["cell"]), by_cell.reindex(rows), 0.0)
    texts: dict[str, list[str]] = {}
    names = ("cell", "tuning_fold", "tuned_rate", "tuning_tied")
    for cell, fold, rate, tied in zip(*(tuned[name] for name in names), strict=True):
        others = ", where other rates scored the same" if tied and not pd.isna(tied) else ""
        texts.setdefault(cell, []).append(f"{rate:g} (fold {fold:g}{others})")
    return {**sums, "tuned_rates": [", ".join(texts.get(cell, ())) for cell in cells]}
