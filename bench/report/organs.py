"""Scores per organ and their table, from the per-image scores beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.columns import Column
from bench.report.frame import IMAGE_SCORES, SECTION_KEYS
from bench.report.score_tables import ScoreTable, read_scores
from bench.report.section import Section, row_name
from bench.report.table import ESSENTIAL, Block

COLUMNS = (*IMAGE_SCORES, "n_true")
"""Columns of a run's table of images that are averaged or counted here."""
FEW = 8
"""So many organs stand side by side on a page."""
INCOMPLETE = "† Folds are missing."


def organ_frame(results: Path, frame: pd.DataFrame, table: ScoreTable | None = None) -> pd.DataFrame:
    """Return the scores of each row of the leaderboard on each organ, over the test images of all folds that are ok.

    Columns: cell, backbone, strategy, the section's keys, organ, n_images, n_true, one unweighted mean per score.
    Images are pooled over folds, because an organ has too few in one fold for a mean of means. Means are over the
    seeds of a row too; an image and its nuclei count once, however many seeds there are.

    Args:
        results: the results folder.
        frame: the records.
        table: the scores of all its runs that are ok, with `COLUMNS`, where they are read already.

    Raises:
        RecordError: the per-image scores of a run that is ok are missing or damaged.
    """
    runs = frame[frame["status"] == "ok"] if len(frame) else frame
    if runs.empty:
        return pd.DataFrame()
    table = table or read_scores(results, runs["id"], COLUMNS)
    table.check(("organ", "stem", "pq", "n_true"), "there are no scores per organ")
    images = table.images
    keys = ["cell", "backbone", "strategy", *SECTION_KEYS]
    # Numbers stand for the keys of a run and for the organ: a million rows are grouped by two small numbers.
    of_run, rows = runs.groupby(keys, sort=False, dropna=False).ngroup().to_numpy(), runs.drop_duplicates(keys)[keys]
    group = pd.DataFrame({"row": of_run[images["run"]], "organ": images["organ"].cat.codes})
    scores = [name for name in IMAGE_SCORES if any(name in names for names in table.columns.values())]
    by = [group["row"], group["organ"]]
    means = images[scores].groupby(by, sort=False).mean()
    fold = runs["fold"].to_numpy()[images["run"]]
    once = ~group.assign(stem=images["stem"].cat.codes, fold=fold).duplicated()
    counted = images.loc[once, "n_true"].groupby([of[once] for of in by], sort=False)
    means.insert(0, "n_images", counted.size())
    means.insert(1, "n_true", counted.sum())
    means = means.reset_index()
    named = rows.iloc[means.pop("row")].reset_index(drop=True)
    means["organ"] = images["organ"].cat.categories.to_numpy(object)[means["organ"]]
    return pd.concat([named, means], axis=1)


def organ_blocks(organs: pd.DataFrame, sections: Sequence[Section]) -> list[Block]:
    """Return a block for each section, mean PQ in percent: what there is more of, organs or rows, stands down.

    Many organs stand down and rows of the leaderboard across; few organs, and more rows than organs, the other way.
    """
    parts = []
    for section in sections:
        scores = organs[organs["cell"].isin(section.rows["cell"])] if len(organs) else organs
        if scores.empty:
            continue
        totals = scores.groupby("organ")[["n_images", "n_true"]].max()
        rows = section.rows[section.rows["cell"].isin(scores.loc[scores["pq"].notna(), "cell"])]
        names = [row_name(row, section.settings) + ("" if row["complete"] else " †") for _, row in rows.iterrows()]
        table = scores.pivot_table(index="organ", columns="cell", values="pq")
        values = table.reindex(index=totals.index, columns=rows["cell"])
        texts = [["–" if pd.isna(value) else f"{100 * value:.1f}" for value in row] for row in values.to_numpy().T]
        notes = ["Mean PQ in percent over an organ's test images of all folds, best row first."]
        if len(totals) <= min(FEW, len(rows) - 1):
            columns = compact = _organs_across(totals, names, texts)
            notes += [INCOMPLETE] * (not rows["complete"].all())
        else:
            columns, compact = _rows_across(totals, names, texts), []
        parts.append(Block(f"PQ per organ. {section.title}", columns, notes, compact=compact))
    return parts


def _organs_across(totals: pd.DataFrame, names: list[str], texts: list[list[str]]) -> list[Column]:
    columns = [Column("method", names, right=False)]
    for place, (organ, total) in enumerate(totals.iterrows()):
        name = str(organ).replace(" ", "\n")
        title = f"{name}\n{total['n_images']:.0f} images\n{total['n_true']:.0f} nuclei"
        columns.append(Column(title, [text[place] for text in texts], place and ESSENTIAL))
    return columns


def _rows_across(totals: pd.DataFrame, names: list[str], texts: list[list[str]]) -> list[Column]:
    columns = [
        Column("organ", [str(name) for name in totals.index], right=False),
        Column("images", [str(n) for n in totals["n_images"]]),
        Column("nuclei", [f"{n:.0f}" for n in totals["n_true"]]),
    ]
    for place, (name, cells) in enumerate(zip(names, texts, strict=True)):
        title = name.replace(" ", "\n")  # names are long, and the numbers below them short
        drop = place if place < 3 else ESSENTIAL + place  # only the best rows are worth less space between
        columns.append(Column(title, cells, drop, note=INCOMPLETE if name.endswith(" †") else ""))
    return columns
