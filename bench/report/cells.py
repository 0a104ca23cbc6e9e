"""Cells of tables: numbers as short texts, and columns that have a narrow form."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.columns import Column
from bench.units import significant

NONE = "–"
SHORT_TITLES = {
    "PQ 95 % CI": "PQ 95 %\nCI",
    "AJI 95 % CI": "AJI 95 %\nCI",
    "Dice 95 % CI": "Dice 95 %\nCI",
    "trainable": "train-\nable",
    "trainable encoder": "train-\nable\nenc.",
    "trainable total": "train-\nable\ntotal",
    "parameters": "para-\nmeters",
    "chosen on test": "chosen\non test",
    "folds trained on": "folds\ntrained",
}


def with_narrow(column: Column) -> Column:
    """Add the narrow form of a column of numbers: its title in two lines, ± and ‡ without spaces."""
    title = SHORT_TITLES.get(column.title, column.title.replace(" ", "\n"))
    cells = [cell.replace(" ± ", "±").replace(" ‡", "‡") for cell in column.cells]
    return replace(column, narrow=replace(column, title=title, cells=cells))


def percent(fraction: float) -> str:
    return number(fraction * 100, "{:.1f}")


def number(value: float, pattern: str) -> str:
    return NONE if pd.isna(value) else pattern.format(value)


def count(value: float) -> str:
    return NONE if pd.isna(value) else significant(value)
