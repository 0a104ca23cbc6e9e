"""Scores of every test image, read from the Parquet files beside the records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import RecordError
from bench.results.record import SCORES_FILENAME, folder

INTERVAL_SCORES = ("pq", "aji", "dice")
MOST_RUNS = 2_000
"""So many files are read for intervals: about 2 ms each."""


@dataclass(frozen=True)
class ImageScores:
    """Scores of the images of all rows of a leaderboard.

    Attributes:
        images: cell, organ, stem, fold, weight, and a score in each of `INTERVAL_SCORES`. The weights of a row add
            up to 1 and make its weighted mean the mean over its runs, which is what the leaderboard shows.
        missing: for a row that lacks the scores of some run, the reason.
        left_out: a sentence where nothing was read; empty otherwise.
    """

    images: pd.DataFrame
    missing: dict[str, str]
    left_out: str = ""


def read_image_scores(path: Path, purpose: str = "there are no scores per organ") -> pd.DataFrame:
    """Return the table of a run's test images.

    Args:
        path: its ``scores.parquet``.
        purpose: the consequence of a missing file, for the error.

    Raises:
        RecordError: the file is missing or damaged, or lacks organ, stem, pq or n_true.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            # Metadata of pandas may be damaged in ways that it has no error of its own for.
            table = file.read(use_threads=False).to_pandas(ignore_metadata=True)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path} is missing, so {purpose}; copy it beside its record, or move the record away and run again."
        ) from error
    except (OSError, ValueError, ArrowException) as error:
        raise RecordError(
            f"{path} can't be read ({error}), so {purpose}; copy it again, or move the record beside it away and run "
            "again."
        ) from error
    missing = [name for name in ("organ", "stem", "pq", "n_true") if name not in table]
    if missing:
        raise RecordError(f"{path} lacks {', '.join(missing)}; move the record beside it away and run again.")
    return table


def interval_scores(results: Path, frame: pd.DataFrame) -> ImageScores:
    """Read the scores of all runs that are ok, for intervals; a row that lacks a file has none.

    Args:
        results: the results folder.
        frame: the records, see `bench.report.frame.record_frame`.
    """
    runs = frame[frame["status"] == "ok"]
    if len(runs) > MOST_RUNS:
        return ImageScores(_table([]), {}, f"No confidence intervals: more than {MOST_RUNS} runs. Narrow with --only.")
    sizes = runs.groupby("cell").size()
    missing: dict[str, str] = {}
    parts: list[dict[str, Any]] = []
    for run_id, cell, fold in zip(runs["id"], runs["cell"], runs["fold"], strict=True):
        try:
            columns = _columns(folder(results, run_id) / SCORES_FILENAME)
        except RecordError as error:
            missing.setdefault(cell, str(error))
            continue
        n_images = len(columns["stem"])
        weight = np.full(n_images, 1 / (sizes[cell] * max(n_images, 1)))
        parts.append({**columns, "cell": [cell] * n_images, "fold": [fold] * n_images, "weight": weight})
    images = _table(parts)
    return ImageScores(images[~images["cell"].isin(list(missing))].reset_index(drop=True), missing)


def _columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns that intervals need; a score that the file lacks is NaN. pandas would take thrice as long."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            known = [name for name in ("stem", "organ", *INTERVAL_SCORES) if name in file.schema_arrow.names]
            columns: dict[str, list[Any]] = file.read(columns=known, use_threads=False).to_pydict()
    except FileNotFoundError as error:
        raise RecordError(f"{path} is missing") from error
    except (OSError, ValueError, ArrowException) as error:
        raise RecordError(f"{path} can't be read ({error})") from error
    if lacking := [name for name in ("stem", "organ", "pq") if name not in columns]:
        raise RecordError(f"{path} lacks {', '.join(lacking)}")
    return {name: columns.get(name, [np.nan] * len(columns["stem"])) for name in ("stem", "organ", *INTERVAL_SCORES)}


def _table(parts: list[dict[str, Any]]) -> pd.DataFrame:
    names = ("cell", "organ", "stem", "fold", "weight", *INTERVAL_SCORES)
    return pd.DataFrame(
        {name: np.concatenate([np.asarray(part[name]) for part in parts]) if parts else [] for name in names}
    ).astype(dict.fromkeys(("weight", *INTERVAL_SCORES), float))
