"""Parts of a leaderboard that a user asks for: records, columns and the order of rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.columns import Column
from bench.errors import BenchError
from bench.report.frame import RUN_KEYS, SCORES
from bench.report.section import Section
from bench.units import SCORE_TITLES, setting_text
from registry.errors import unknown

SOURCES = {
    "#": ("rank",),
    "method": ("backbone", "strategy"),
    "backbone": ("backbone",),
    "strategy": ("strategy",),
    "weights": ("weights",),
    "seeds": ("n_seeds",),
    **{title: (f"{name}_mean",) for name, title in SCORE_TITLES.items()},
    **{f"{title} 95 % CI": (f"{name}_low", f"{name}_high") for name, title in SCORE_TITLES.items()},
    "folds": ("n_ok", "n_expected"),
    "latency ms": ("latency_ms",),
    "latency IQR": ("latency_spread",),
    "peak GiB": ("peak_bytes",),
    "trainable encoder": ("parameters_trainable_encoder",),
    "trainable total": ("parameters_trainable",),
    "parameters": ("parameters_total",),
    "GFLOP": ("flops",),
    "GPU h": ("gpu_seconds",),
    "pooled PQ": ("pooled_pq_mean",),
    "PQ by nuclei": ("weighted_pq_mean",),
}
"""Columns of a section's rows that a column of the table shows, by its title; rows are sorted by the first."""
COSTS = {"latency": "latency ms", "memory": "peak GiB", "gpu-hours": "GPU h"}
"""Titles of the costs that `bench plot --x` calls otherwise."""
EXAMPLES = ("#", "method", *SCORE_TITLES.values(), "PQ 95 % CI", "folds", "latency ms", "peak GiB", "parameters")
"""Titles that an error lists: all would fill the terminal."""
NAMES = ("method", "backbone", "strategy")
"""Keys of the columns that name a row."""
FRACTION = re.compile(rf"({'|'.join(SCORES)})_(mean|sd|low|high)")
"""Names of scores in the CSV file, which tables show in percent."""


def only(frame: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Return the records with the settings that ``KEY=A,B`` texts name; several may stand in one text.

    Raises:
        BenchError: a key or a value that no record has; with the nearest ones.
    """
    keys = [str(name) for name in frame if (name in RUN_KEYS and name != "fold") or "." in str(name)]
    for key, values in _conditions(texts).items():
        if key not in keys:
            raise BenchError(f"--only: {unknown('setting', key, keys)}")
        shown = frame[key].map(lambda value: "" if pd.isna(value) else setting_text(value))
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
        column = sources(name, section)[0]
        best_first = column.endswith(("_mean", "_low", "_high")) and FRACTION.fullmatch(column) is not None
        rows = section.rows.sort_values(column, ascending=not best_first, kind="stable", na_position="last")
        parts.append(replace(section, rows=rows.reset_index(drop=True)))
    return parts


def chosen(columns: Sequence[Column], names: Sequence[str], section: Section) -> list[Column]:
    """Return the columns with these titles, or with these names in the CSV file, in the order of the names.

    Scores are in percent under either name. Where rows are incomplete and the column of folds is not chosen, the first
    column that names the rows carries their mark.

    Raises:
        BenchError: there is no such column.
    """
    by_title = {_plain(column.title): replace(column, drop=0) for column in columns}
    result = []
    for name in names:
        title = COSTS.get(name.lower(), name)
        if (column := by_title.get(_plain(title))) is None:
            (key,) = sources(name, section)
            column = Column(
                name, _cells(key, section.rows[key]), right=pd.api.types.is_numeric_dtype(section.rows[key])
            )
            column = replace(column, key=key)
        result.append(column)
    if "folds" in {column.key for column in result} or section.rows["complete"].all():
        return result
    place = next((i for i, column in enumerate(result) if column.key in NAMES), 0)
    marks = ["" if complete else " †" for complete in section.rows["complete"]]
    marked = [cell + mark for cell, mark in zip(result[place].cells, marks, strict=True)]
    result[place] = replace(result[place], cells=marked, narrow=None)
    return result


def _cells(name: str, values: pd.Series) -> list[str]:
    if FRACTION.fullmatch(name):
        return ["–" if pd.isna(value) else f"{100 * value:.1f}" for value in values]
    return ["–" if pd.isna(v) else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]


def alike(columns: Sequence[Column], section: Section) -> list[str]:
    """Return a note on the settings that tell apart rows of one name, and are not among the columns chosen."""
    shown = {column.key for column in columns}
    if "method" in shown or not shown & set(NAMES):
        return []
    lacking = [name for name in section.settings if name not in shown]
    lacking += [name for name in ("backbone", "strategy") if name not in shown]
    keys = [name for name in ("backbone", "strategy", *section.settings) if name in shown]
    rows = section.rows[keys].astype(str)
    if not lacking or not rows.duplicated().any():
        return []
    return [f"Rows of one name differ in {', '.join(lacking)}: --columns shows that too."]


def sources(name: str, section: Section) -> tuple[str, ...]:
    """Return the columns of a section's rows that a name stands for: one in the CSV file, a title, or a part of one.

    Raises:
        BenchError: there is no such column; with the nearest ones.
    """
    known = [str(column) for column in section.rows if column not in ("reasons", "cell")]
    if name in known:
        return (name,)
    titles = {_plain(title): columns for title, columns in SOURCES.items()}
    if columns := titles.get(_plain(COSTS.get(name.lower(), name))):
        return columns
    settings = [column for column in known if column.partition(".")[2] == name]
    if len(settings) == 1:
        return (settings[0],)
    raise BenchError(_unknown(name, [*SOURCES, *known]))


def _unknown(name: str, allowed: Sequence[str]) -> str:
    """Return the sentence for an unknown column, with the nearest three names and some examples."""
    by_plain: dict[str, str] = {}
    for other in allowed:
        by_plain.setdefault(other.lower(), other)
    close = difflib.get_close_matches(name.lower(), by_plain, n=3, cutoff=0.5)
    near = list(dict.fromkeys([*(other for other in by_plain if other.startswith(name.lower())), *close]))
    guess = f" Did you mean {' or '.join(repr(by_plain[other]) for other in near[:3])}?" if near else ""
    return (
        f"unknown column {name!r}.{guess} Known: {', '.join(EXAMPLES)}, and any other title of the table or name in "
        "the first line of `bench table --format csv`."
    )


def _plain(title: str) -> str:
    """Return a title without spaces, line breaks and capitals, as titles are compared."""
    return "".join(title.split()).lower()
