"""Images on which the rows of a leaderboard score worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.columns import Column
from bench.report.image_scores import read_image_scores
from bench.report.section import Section
from bench.report.table import Block
from bench.results.record import SCORES_FILENAME, folder

ERRORS = ("missed", "spurious", "merged", "split")
COLUMNS = ("organ", "stem", "fold", "pq", "aji", "dice", "n_true", "n_pred", *(f"n_{name}" for name in ERRORS))


def image_frame(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each row on each test image, the worst PQ first; seeds of one row are averaged.

    Columns: cell, backbone, strategy, organ, stem, fold, pq, aji, dice, n_true, n_pred, and the errors missed,
    spurious, merged and split (see `bench.metrics.object_errors`), which are NaN for runs of versions that did not
    count them.

    Raises:
        RecordError: the scores of a run that is ok are missing or damaged.
    """
    parts = []
    for _, run in frame[frame["status"] == "ok"].iterrows():
        table = read_image_scores(folder(results, run["id"]) / SCORES_FILENAME, "there are no scores of images")
        names = ("cell", "backbone", "strategy", "fold")
        parts.append(table.reindex(columns=list(COLUMNS)).assign(**{name: run[name] for name in names}))
    if not parts:
        return pd.DataFrame()
    keys = ["cell", "backbone", "strategy", "organ", "stem", "fold"]
    table = pd.concat(parts, ignore_index=True).groupby(keys, sort=False, dropna=False).mean().reset_index()
    table = table.rename(columns={f"n_{name}": name for name in ERRORS})
    return table.sort_values(["pq", "stem", "cell"], kind="stable").reset_index(drop=True)


def image_blocks(images: pd.DataFrame, sections: Sequence[Section], worst: int) -> list[Block]:
    """Return a block for each section: its worst images, by mean PQ over the rows shown."""
    parts = []
    for section in sections:
        own = images[images["cell"].isin(section.rows["cell"])]
        if own.empty:
            continue
        grouped = own.groupby(["organ", "stem", "fold"], dropna=False)
        table = grouped[["pq", "aji", "dice", "n_true", "n_pred", *ERRORS]].mean().reset_index()
        table = table.sort_values(["pq", "stem"], kind="stable").head(worst)
        columns = [Column(name, [str(value) for value in table[name]], right=False) for name in ("stem", "organ")]
        columns.append(Column("fold", [str(value) for value in table["fold"]], 5))
        for name, title, drop in (("pq", "PQ", 0), ("aji", "AJI", 3), ("dice", "Dice", 4)):
            columns.append(Column(title, _texts(100 * table[name], 1), drop))
        for name in ("n_true", *ERRORS):
            whole = not (table[name] % 1).any()
            title, drop = ("nuclei", 2) if name == "n_true" else (name, 1)
            columns.append(Column(title, _texts(table[name], 0 if whole else 1), drop))
        n_rows = own["cell"].nunique()
        rows = f"means over {n_rows} rows (--only shows one)" if n_rows > 1 else "one row"
        notes = [
            f"The {len(table)} worst of {grouped.ngroups} images by PQ; {rows}.",
            "merged: predictions that hold most of two or more nuclei; split: nuclei that hold most of two or more "
            "predictions; missed, spurious: nuclei and predictions in none of these and without a match (IoU above "
            "0.5).",
        ]
        if table[list(ERRORS)].isna().to_numpy().any():
            notes.append("–: not counted by the version that did the runs.")
        parts.append(Block(f"Worst images. {section.title}", columns, notes))
    return parts


def _texts(values: pd.Series, decimals: int) -> list[str]:
    return ["–" if pd.isna(value) else f"{value:.{decimals}f}" for value in values]
