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

COLUMNS = ("organ", "stem", "fold", "pq", "aji", "dice", "n_true", "n_pred", "tp")


def image_frame(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each row on each test image, the worst PQ first; seeds of one row are averaged.

    Columns: cell, backbone, strategy, organ, stem, fold, pq, aji, dice, n_true, n_pred, missed, spurious. Missed are
    true nuclei without a match (IoU above 0.5), spurious are predicted ones without.

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
    table = table.assign(missed=table["n_true"] - table["tp"], spurious=table["n_pred"] - table["tp"])
    return table.drop(columns="tp").sort_values(["pq", "stem", "cell"], kind="stable").reset_index(drop=True)


def image_blocks(images: pd.DataFrame, sections: Sequence[Section], worst: int) -> list[Block]:
    """Return a block for each section: its worst images, by mean PQ over the rows shown."""
    parts = []
    for section in sections:
        own = images[images["cell"].isin(section.rows["cell"])]
        if own.empty:
            continue
        grouped = own.groupby(["organ", "stem", "fold"], dropna=False)
        table = grouped[["pq", "aji", "dice", "n_true", "n_pred", "missed", "spurious"]].mean().reset_index()
        table = table.sort_values(["pq", "stem"], kind="stable").head(worst)
        columns = [Column(name, [str(value) for value in table[name]], right=False) for name in ("stem", "organ")]
        columns.append(Column("fold", [str(value) for value in table["fold"]], 3))
        for name, title in (("pq", "PQ"), ("aji", "AJI"), ("dice", "Dice")):
            columns.append(Column(title, [_text(100 * value) for value in table[name]]))
        for name, title in (("n_true", "nuclei"), ("missed", "missed"), ("spurious", "spurious")):
            columns.append(Column(title, [_text(value) for value in table[name]], 1))
        n_rows = own["cell"].nunique()
        rows = f"means over {n_rows} rows (--only shows one)" if n_rows > 1 else "one row"
        notes = [
            f"The {len(table)} worst of {grouped.ngroups} images by PQ; {rows}.",
            "missed: true nuclei without a match (IoU above 0.5); spurious: predicted ones without. Merged and split "
            "nuclei are not in the recorded scores.",
        ]
        parts.append(Block(f"Worst images. {section.title}", columns, notes))
    return parts


def _text(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"
