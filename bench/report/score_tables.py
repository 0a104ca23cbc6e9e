"""Scores of the test images of many runs in one table, read from the Parquet files beside the records."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.errors import RecordError
from bench.results.record import SCORES_FILENAME, folder

if TYPE_CHECKING:
    import pyarrow

NAMES = ("organ", "stem")
MISSING = "is missing"
MISSING_REMEDY = "copy it beside its record, or move the record away and run again."
DAMAGED_REMEDY = "copy it again, or move the record beside it away and run again."
MOST_THREADS = 8
"""Reading is Arrow's, which runs beside Python; more threads than that wait for a file system."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the test images of several runs; those of a run stand together, in the order of its file.

    Attributes:
        ids: the runs.
        images: ``run`` (place in `ids`), ``organ`` and ``stem`` (categories in alphabetic order), and the scores and
            counts that were asked for: whole numbers where all files have whole ones, NaN where a file lacks one.
        unusable: for a run whose file is missing or can't be read, the rest of a sentence that begins with its path.
        columns: names of the columns of each file that was read.
        results: the results folder.
    """

    ids: tuple[str, ...]
    images: pd.DataFrame
    unusable: dict[str, str]
    columns: dict[str, frozenset[str]]
    results: Path

    def path(self, run_id: str) -> Path:
        """Return the file of a run."""
        return folder(self.results, run_id) / SCORES_FILENAME

    def check(self, required: Sequence[str], purpose: str) -> None:
        """Refuse a table that lacks the file of a run, or columns in it.

        Args:
            required: the columns.
            purpose: the consequence of a missing file, for the error.

        Raises:
            RecordError: names the first such file.
        """
        for run_id in self.ids:
            if problem := self.problem(run_id, required):
                if run_id not in self.unusable:
                    raise RecordError(f"{problem}; move the record beside it away and run again.")
                missing = self.unusable[run_id] == MISSING
                remedy = MISSING_REMEDY if missing else DAMAGED_REMEDY
                raise RecordError(f"{problem}, so {purpose}; {remedy}")

    def problem(self, run_id: str, required: Sequence[str]) -> str:
        """Return why the file of a run can't be used for what needs these columns; empty where it can."""
        if run_id in self.unusable:
            return f"{self.path(run_id)} {self.unusable[run_id]}"
        lacking = [name for name in required if name not in self.columns[run_id]]
        return f"{self.path(run_id)} lacks {', '.join(lacking)}" if lacking else ""


def read_scores(results: Path, ids: Iterable[str], numbers: Sequence[str]) -> ScoreTable:
    """Read the files of several runs.

    Args:
        results: the results folder.
        ids: of the runs, each once.
        numbers: the columns with scores and counts that are needed; reading fewer is faster.
    """
    # Arrow's own threads are for large files; these are small, and opening one takes longer than reading it.
    n_threads = min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    names, unusable, columns = tuple(ids), dict[str, str](), dict[str, frozenset[str]]()
    wanted = frozenset((*NAMES, *numbers))
    parts: list[pyarrow.Table] = []
    places: list[int] = []
    with ThreadPoolExecutor(n_threads) as pool:
        paths = (folder(results, run_id) / SCORES_FILENAME for run_id in names)
        for place, part in enumerate(pool.map(lambda path: _read(path, wanted), paths)):
            if isinstance(part, str):
                unusable[names[place]] = part
                continue
            columns[names[place]] = frozenset(part.column_names)
            parts.append(part)
            places.append(place)
    return ScoreTable(names, _images(parts, places, numbers), unusable, columns, results)


def _read(path: Path, wanted: Collection[str]) -> pyarrow.Table | str:
    """Return the wanted columns of a file, or why it can't be read. pandas would take thrice as long."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read(columns=[name for name in file.schema_arrow.names if name in wanted], use_threads=False)
        for place, field in enumerate(table.schema):
            if field.name in NAMES and field.type != pyarrow.string():
                table = table.set_column(place, field.name, table[field.name].cast(pyarrow.string()))
            elif field.name not in NAMES and field.type not in (pyarrow.float64(), pyarrow.int64()):
                table = table.set_column(place, field.name, table[field.name].cast(pyarrow.float64()))
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        return f"can't be read ({error})"
    return table


def _images(parts: list[pyarrow.Table], places: list[int], numbers: Sequence[str]) -> pd.DataFrame:
    import pyarrow

    names = [*NAMES, *numbers]
    if not parts:
        return pd.DataFrame({name: [] for name in ("run", *names)}).astype({"run": int})
    table = pyarrow.concat_tables(parts, promote_options="permissive")
    columns: dict[str, object] = {"run": np.repeat(places, [part.num_rows for part in parts])}
    for name in names:
        if name not in table.column_names:
            columns[name] = np.full(len(table), np.nan)
        elif name in NAMES:
            columns[name] = _categories(table[name])
        else:
            columns[name] = table[name].to_numpy()
    return pd.DataFrame(columns)


def _categories(column: pyarrow.ChunkedArray) -> pd.Categorical:
    """Return texts as categories in alphabetic order; a missing text reads ``None``, as pandas writes it."""
    encoded = column.combine_chunks().fill_null("None").dictionary_encode()
    texts = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(texts, kind="stable") if len(texts) else np.zeros(0, int)
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order))
    return pd.Categorical.from_codes(ranks[encoded.indices.to_numpy(zero_copy_only=False)], pd.Index(texts[order]))
