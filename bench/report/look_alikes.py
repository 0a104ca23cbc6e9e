"""Rows that colour and marker don't tell apart, and the names or settings that do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from bench.report.appearance import backbone_marker, strategy_colour
from bench.report.figure_text import legible
from bench.report.section import setting

LENGTH = 30


def telling_texts(rows: pd.DataFrame, settings: Sequence[str], *, with_backbone: bool = False) -> dict[int, str]:
    """Return a short text for each row that others look like.

    It holds the strategy or backbone where another one has the same colour or marker, as names that are not shipped
    may, and the settings in which rows of the same colour and marker differ.

    Args:
        rows: with backbone, strategy and the settings; the index is 0, 1, ….
        settings: columns that count.
        with_backbone: write the backbone above the text where rows have several; names in a small panel stand too
            close to other points to do without it.
    """
    colours, markers = rows["strategy"].map(strategy_colour), rows["backbone"].map(backbone_marker)
    shared = {
        "strategy": _shared(rows["strategy"], strategy_colour),
        "backbone": _shared(rows["backbone"], backbone_marker),
    }
    texts: dict[int, str] = {}
    above = with_backbone and rows["backbone"].nunique() > 1
    for _, twins in rows.groupby([colours, markers], sort=True):
        differing = [name for name in settings if len({setting(row, name) for _, row in twins.iterrows()}) > 1]
        for index, row in twins.iterrows():
            parts = [str(row[name]) for name, names in shared.items() if row[name] in names]
            parts += [f"{name.rpartition('.')[2]}={setting(row, name)}" for name in differing]
            if parts:
                text = legible(", ".join(parts), LENGTH)
                named = above and row["backbone"] not in parts
                texts[int(str(index))] = f"{legible(str(row['backbone']), LENGTH)}\n{text}" if named else text
    return texts


def _shared(names: pd.Series, look: Callable[[str], str]) -> set[str]:
    """Return the names of which several have one look."""
    looks: dict[str, set[str]] = {}
    for name in set(names):
        looks.setdefault(look(name), set()).add(name)
    return {name for group in looks.values() if len(group) > 1 for name in group}
