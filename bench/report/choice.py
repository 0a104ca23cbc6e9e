"""Parts of a leaderboard that a user asks for: records, columns and the order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.columns import Column
from bench.errors import BenchError
from bench.report.frame import RUN_KEYS, SCORES
from bench.report.section import Section
from registry.errors import unknown

SOURCES = {
    "#": "rank",
    "PQ": "pq_mean",
    "AJI": "aji_mean",
    "Dice": "dice_mean",
    "trainable encoder": "parameters_trainable_encoder",
    "trainable total": "parameters_trainable",
    "parameters": "parameters_total",
    "latency ms": "latency_ms",
    "latency IQR": "latency_spread",
    "peak GiB": "peak_bytes",
    "GFLOP": "flops",
    "GPU h": "gpu_seconds",
    "pooled PQ": "pooled_pq_mean",
    "PQ by nuclei": "weighted_pq_mean",
}
"""Column of a section's rows that a column of the table shows."""


def only(frame: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Return the records with the settings that ``KEY=A,B`` texts name; several may stand in one text.

    Raises:
        BenchError: a key or a value that no record has; with the nearest ones.
    """
    keys = [str(name) for name in frame if (name in RUN_KEYS and name != "fold") or "." in str(name)]
    for key, values in _conditions(texts).items():
        if key not in keys:
            raise BenchError(f"--only: {unknown('setting', key, keys)}")
        shown = frame[key].map(
            lambda value: "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
        )
        for value in values:
            if value not in set(shown):
                raise BenchError(f"--only {key}: {unknown('value', value, sorted(set(shown) - {''}))}")
        frame = frame[shown.isin(values)]
    if frame.empty:
        raise BenchError(f"--only {' '.join(texts)}: no record has all of these; leave one out.")
    return frame.reset_index(drop=True)


def _conditions(texts: Sequence[str]) -> dict[str, list[str]]:
    conditions: dict[str, list[str]] = {}
    for text in texts:
        key = ""
        for part in text.split(","):
            name, equals, value = part.partition("=")
            key = name.strip() if equals else key
            if not key:
                raise BenchError(f"--only {text!r}: write KEY=A,B, e.g. backbone=mobile_sam,strategy=full.")
            conditions.setdefault(key, []).append((value if equals else part).strip())
    return conditions


def ordered(sections: Sequence[Section], name: str) -> list[Section]:
    """Return sections whose rows are sorted by a column: scores from the best, all else from the smallest.

    Args:
        sections: as they are ranked.
        name: title of a column, or its name in the CSV file.

    Raises:
        BenchError: there is no such column.
    """
    parts = []
    for section in sections:
        column = source(name, section)
        rows = section.rows.sort_values(
            column, ascending=column.removesuffix("_mean") not in SCORES, kind="stable", na_position="last"
        )
        parts.append(replace(section, rows=rows.reset_index(drop=True)))
    return parts


def chosen(columns: Sequence[Column], names: Sequence[str], section: Section) -> list[Column]:
    """Return the columns with these titles, or with these names in the CSV file, in the order of the names.

    Raises:
        BenchError: there is no such column.
    """
    by_title = {column.title.lower(): replace(column, drop=0) for column in columns}
    result = []
    for name in names:
        if (column := by_title.get(name.lower())) is None:
            values = section.rows[source(name, section)]
            cells = ["–" if pd.isna(v) else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
            column = Column(name, cells, right=pd.api.types.is_numeric_dtype(values))
        result.append(column)
    return result


def source(name: str, section: Section) -> str:
    """Return the column of a section's rows that a name stands for.

    Raises:
        BenchError: there is no such column; with the nearest ones.
    """
    titles = {title.lower(): column for title, column in SOURCES.items()}
    known = [str(column) for column in section.rows if column not in ("reasons", "cell")]
    if name in known:
        return name
    if name.lower() in titles:
        return titles[name.lower()]
    raise BenchError(unknown("column", name, [*SOURCES, *known]))
