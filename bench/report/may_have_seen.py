"""Rows whose pre-training may have seen the images on which they are scored."""

from __future__ import annotations

import pandas as pd

from bench.report.strata import listed
from registry import backbones

MARK = "§"
_REASON = "the pre-training may have seen images of this dataset (nobody has shown that it did not)"


def marked(rows: pd.DataFrame) -> list[bool]:
    """Return for each row whether its backbone's card says that its official weights may have seen the dataset."""
    known = set(backbones.names())
    return [
        weights == "official" and backbone in known and dataset in backbones.card(backbone).may_have_seen
        for backbone, weights, dataset in zip(rows["backbone"], rows["weights"], rows["dataset"], strict=True)
    ]


def unranked(rows: pd.DataFrame, ranked: pd.Series, *, is_shared: bool) -> pd.Series:
    """Return which of the rows in `ranked` lose their rank; none where no other row or published score has one."""
    chosen = ranked & rows["may_have_seen"]
    return chosen if is_shared or bool((ranked & ~chosen).any()) else chosen & False


def notes(rows: pd.DataFrame) -> list[str]:
    """Return a sentence on the marked rows; none where there are none."""
    own = rows[rows["may_have_seen"]]
    if own.empty:
        return []
    order = "ranked among themselves only" if own["rank"].notna().any() else "not ranked beside other rows"
    return [f"{MARK} {_titles(own)} with official weights: {_REASON}, so these rows are {order}."]


def front_notes(points: pd.DataFrame) -> list[str]:
    """Return a sentence on the marked rows of a chart with a Pareto front; none where there are none."""
    own = points[points["may_have_seen"]]
    if own.empty:
        return []
    return [
        f"{MARK} {_titles(own)} with official weights: {_REASON}, so these rows are no part of the front beside others."
    ]


def method_note(name: str, runs: pd.DataFrame, consequence: str) -> str:
    """Return a sentence on a method of a comparison; empty where none of its runs is marked.

    Args:
        name: of the method.
        runs: its records.
        consequence: what follows, the end of the sentence.
    """
    own = runs[marked(runs)]
    return f"{MARK} {name}: {_REASON} ({_titles(own)}), {consequence}." if len(own) else ""


def _titles(rows: pd.DataFrame) -> str:
    return listed(sorted({backbones.card(name).title for name in rows["backbone"]}))
