"""Scores of every test image, read from the Parquet files beside the records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import RecordError
from bench.report.score_tables import DAMAGED_REMEDY, MISSING, MISSING_REMEDY, ScoreTable, read_scores

INTERVAL_SCORES = ("pq", "aji", "dice")
MOST_RUNS = 20_000
"""So many files are read for intervals: about 1 ms each."""


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
        raise RecordError(f"{path} {MISSING}, so {purpose}; {MISSING_REMEDY}") from error
    except (OSError, ValueError, ArrowException) as error:
        raise RecordError(f"{path} can't be read ({error}), so {purpose}; {DAMAGED_REMEDY}") from error
    missing = [name for name in ("organ", "stem", "pq", "n_true") if name not in table]
    if missing:
        raise RecordError(f"{path} lacks {', '.join(missing)}; move the record beside it away and run again.")
    return table


def interval_scores(results: Path, frame: pd.DataFrame, table: ScoreTable | None = None) -> ImageScores:
    """Return the scores of all runs that are ok, for intervals; a row that lacks a file has none.

    Args:
        results: the results folder.
        frame: the records, see `bench.report.frame.record_frame`.
        table: the scores of all its runs that are ok, where they are read already.
    """
    runs = frame[frame["status"] == "ok"]
    if len(runs) > MOST_RUNS:
        return ImageScores(_empty(), {}, f"No confidence intervals: more than {MOST_RUNS} runs. Narrow with --only.")
    table = table or read_scores(results, runs["id"], INTERVAL_SCORES)
    runs = runs.set_index("id").loc[list(table.ids)] if len(runs) else runs
    cells, missing = runs["cell"].to_numpy(object), dict[str, str]()
    for run_id, cell in zip(table.ids, cells, strict=True):
        if problem := table.problem(run_id, ("stem", "organ", "pq")):
            missing.setdefault(cell, problem)
    images = table.images
    if images.empty:
        return ImageScores(_empty(), missing)
    places, names = pd.factorize(cells)
    # The weights of a row add up to 1: each of its runs counts alike, and so does each image of a run.
    n_images = np.bincount(images["run"], minlength=len(runs))
    weights = 1 / (np.bincount(places)[places] * np.maximum(n_images, 1))
    usable = ~np.isin(names, list(missing))[places]
    kept = images[usable[images["run"]]]
    of_run = kept["run"].to_numpy()
    columns = {
        "cell": pd.Categorical.from_codes(places[of_run], pd.Index(names)),
        "organ": kept["organ"].array,
        "stem": kept["stem"].array,
        "fold": runs["fold"].to_numpy()[of_run],
        "weight": weights[of_run],
        **{name: kept[name].to_numpy(float) for name in INTERVAL_SCORES},
    }
    return ImageScores(pd.DataFrame(columns), missing)


def _empty() -> pd.DataFrame:
    names = ("cell", "organ", "stem", "fold", "weight", *INTERVAL_SCORES)
    return pd.DataFrame({name: [] for name in names}).astype(dict.fromkeys(("weight", *INTERVAL_SCORES), float))
