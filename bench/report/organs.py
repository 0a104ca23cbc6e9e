"""Scores per organ, from the per-image scores beside the records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.report.frame import IMAGE_SCORES, SECTION_KEYS
from bench.report.image_scores import read_image_scores
from bench.results.record import SCORES_FILENAME, folder


def organ_frame(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each row of the leaderboard on each organ, over the test images of all folds that are ok.

    Columns: cell, backbone, strategy, the section's keys, organ, n_images, n_true, one unweighted mean per score.
    Images are pooled over folds, because an organ has too few in one fold for a mean of means. Means are over the
    seeds of a row too; an image and its nuclei count once, however many seeds there are.

    Raises:
        RecordError: the per-image scores of a run that is ok are missing or damaged.
    """
    parts = []
    for _, run in frame[frame["status"] == "ok"].iterrows() if len(frame) else ():
        names = ("cell", "backbone", "strategy", *SECTION_KEYS, "fold")
        images = read_image_scores(folder(results, run["id"]) / SCORES_FILENAME)
        parts.append(images.assign(**{name: run[name] for name in names}))
    if not parts:
        return pd.DataFrame()
    images = pd.concat(parts, ignore_index=True)
    keys = ["cell", "backbone", "strategy", *SECTION_KEYS, "organ"]
    grouped = images.groupby(keys, sort=False)
    table = grouped[[name for name in IMAGE_SCORES if name in images]].mean()
    once = images.drop_duplicates([*keys, "stem", "fold"]).groupby(keys, sort=False)
    table.insert(0, "n_images", once.size())
    table.insert(1, "n_true", once["n_true"].sum())
    return table.reset_index()
