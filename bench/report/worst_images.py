"""Images on which the rows of a leaderboard score worst, and what went wrong there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.columns import Column
from bench.report.score_tables import NAMES, ScoreTable, read_scores
from bench.report.section import Section
from bench.report.table import Block
from bench.units import SCORE_TITLES

ERRORS = ("missed", "spurious", "merged", "split")
NUMBERS = ("pq", "aji", "dice", "n_true", "n_pred", *(f"n_{name}" for name in ERRORS))
IMAGE = ["organ", "stem", "fold"]


def image_frame(results: Path, frame: pd.DataFrame, table: ScoreTable | None = None) -> pd.DataFrame:
    """Return the scores of each row on each test image, the worst PQ first; seeds of one row are averaged.

    Columns: cell, backbone, strategy, path (data folder's name, organ and stem), organ, stem, fold, pq, aji, dice,
    n_true, n_pred, and the errors missed, spurious, merged and split (see `bench.metrics.object_errors`), which are
    NaN where a run, of one seed at least, is of a version that did not count them.

    Args:
        results: the results folder.
        frame: the records.
        table: the scores of all its runs that are ok, with `NUMBERS`, where they are read already.

    Raises:
        RecordError: the scores of a run that is ok are missing or damaged.
    """
    runs = frame[frame["status"] == "ok"]
    if runs.empty:
        return pd.DataFrame()
    table = table or read_scores(results, runs["id"], NUMBERS)
    table.check(("organ", "stem", "pq", "n_true"), "there are no scores of images")
    images = table.images
    roots = runs["dataset_folder"].where(runs["dataset_folder"].notna(), runs["dataset"])
    names = ["cell", "backbone", "strategy", "fold", "root"]
    runs = runs.assign(root=roots)[names].reset_index(drop=True)
    # Numbers stand for the keys of a run, the organ and the stem: texts would take a minute for a million rows.
    of_run = runs.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    codes = pd.DataFrame({"run": of_run[images["run"]], **{name: images[name].cat.codes for name in NAMES}})
    means = _means(pd.concat([codes, images[list(NUMBERS)]], axis=1), ["run", *NAMES])
    own = runs.drop_duplicates().iloc[means["run"]].reset_index(drop=True)
    organ, stem = (images[name].cat.categories.to_numpy(object)[means[name]] for name in NAMES)
    keys = own[["cell", "backbone", "strategy"]].assign(path=own["root"] + "/" + organ + "/" + stem)
    keys = keys.assign(organ=organ, stem=stem, fold=own["fold"])
    every = pd.concat([keys, means[list(NUMBERS)].rename(columns={f"n_{name}": name for name in ERRORS})], axis=1)
    return every.sort_values(["pq", "stem", "cell"], kind="stable").reset_index(drop=True)


def _means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the mean of each number over rows of equal keys; NaN where one of them lacks it."""
    grouped = table.groupby(keys, sort=False, dropna=False)
    return grouped.mean().where(grouped.count().eq(grouped.size(), axis=0)).reset_index()


def worst_rows(images: pd.DataFrame, sections: Sequence[Section], worst: int) -> pd.DataFrame:
    """Return all rows on the images that `image_blocks` shows: the worst image first, its worst row first.

    Args:
        images: see `image_frame`.
        sections: as they are shown.
        worst: number of images of each section.
    """
    parts = []
    for section in sections:
        own = images[images["cell"].isin(section.rows["cell"])]
        if len(own):
            parts.append(_means_of_images(own).head(worst)[IMAGE].merge(own, on=IMAGE)[list(images)])
    return pd.concat(parts, ignore_index=True) if parts else images[:0]


def _means_of_images(own: pd.DataFrame) -> pd.DataFrame:
    """Return the means over the rows of a section for each image, the worst PQ first."""
    every = _means(own.drop(columns=["cell", "backbone", "strategy", "path"]), IMAGE)
    return every.sort_values(["pq", "stem"], kind="stable")


def image_blocks(images: pd.DataFrame, sections: Sequence[Section], worst: int) -> list[Block]:
    """Return a block for each section: its worst images, by mean PQ over the rows shown."""
    parts = []
    for section in sections:
        own = images[images["cell"].isin(section.rows["cell"])]
        if own.empty:
            continue
        every = _means_of_images(own)
        table = every.head(worst)
        columns = [Column("stem", [str(value) for value in table["stem"]], right=False)]
        columns.append(Column("organ", [str(value) for value in table["organ"]], 5, right=False))
        columns.append(Column("fold", [str(value) for value in table["fold"]], 6))
        for name, drop in (("pq", 0), ("aji", 3), ("dice", 4)):
            columns.append(Column(SCORE_TITLES[name], _texts(100 * table[name], 1), drop))
        for name in ("n_true", *ERRORS):
            whole = not (table[name] % 1).any()
            title, drop = ("nuclei", 2) if name == "n_true" else (name, 1)
            columns.append(Column(title, _texts(table[name], 0 if whole else 1), drop))
        n_rows = own["cell"].nunique()
        rows = f"means over {n_rows} rows (--only shows one)" if n_rows > 1 else "one row"
        notes = [
            f"The {len(table)} worst of {len(every)} images by PQ; {rows}.",
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
