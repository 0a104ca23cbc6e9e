"""Scores per organ, from the per-image scores beside the records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.errors import RecordError
from bench.report.frame import IMAGE_SCORES, SECTION_KEYS
from bench.results.record import SCORES_FILENAME, folder


def organ_frame(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each row of the leaderboard on each organ, over the test images of all folds that are ok.

    Columns: cell, backbone, strategy, the section's keys, organ, n_images, n_true, one unweighted mean per score.
    Images are pooled over folds, because an organ has too few in one fold for a mean of means.

    Raises:
        RecordError: the per-image scores of a run that is ok are missing or damaged.
    """
    parts = []
    for _, run in frame[frame["status"] == "ok"].iterrows() if len(frame) else ():
        names = ("cell", "backbone", "strategy", *SECTION_KEYS)
        images = _image_scores(folder(results, run["id"]) / SCORES_FILENAME)
        parts.append(images.assign(**{name: run[name] for name in names}))
    if not parts:
        return pd.DataFrame()
    images = pd.concat(parts, ignore_index=True)
    keys = ["cell", "backbone", "strategy", *SECTION_KEYS, "organ"]
    grouped = images.groupby(keys, sort=False)
    table = grouped[[name for name in IMAGE_SCORES if name in images]].mean()
    table.insert(0, "n_images", grouped.size())
    table.insert(1, "n_true", grouped["n_true"].sum())
    return table.reset_index()


def _image_scores(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path} is missing, so there are no scores per organ; copy it beside its record, or "
            "move the record away and run again."
        ) from error
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} can't be read ({error}), so there are no scores per organ; copy it again, or move the record "
            "beside it away and run again."
        ) from error
    missing = [name for name in ("organ", "pq", "n_true") if name not in table]
    if missing:
        raise RecordError(f"{path} lacks {', '.join(missing)}; move the record beside it away and run again.")
    return table
