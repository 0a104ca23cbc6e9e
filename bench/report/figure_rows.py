"""Rows of the leaderboard as figures show them: their names, their order, and the runs behind them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import BenchError
from bench.report.baselines import baseline_frame
from bench.report.frame import SECTION_KEYS, leaderboard_frame, pooled
from bench.report.image_scores import interval_scores
from bench.report.reading import read_records
from bench.report.section import Section, row_name, sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

MOST_ROWS = 60
"""So many rows are legible on a page; the best ones are drawn."""
INCOMPLETE = "†"
METHOD = ["method", "backbone", "strategy"]
RANDOM = "RANDOM WEIGHTS"
RANDOM_NOTE = "Random weights: no pre-training. Such rows show that the harness works, nothing more."


@dataclass(frozen=True)
class Drawable:
    """Content of one figure.

    Attributes:
        title: images and folds, and that weights are random where they are.
        stem: part of the file name.
        frame: the numbers, as the module's ``draw`` takes them.
        notes: sentences below the figure.
    """

    title: str
    stem: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def run_frames(results: Path, unreadable: list[str] | None = None) -> list[Drawable]:
    """Return the runs of each section that are ok, in the order of the leaderboard.

    The frames have the columns of `bench.report.frame.record_frame`, and ``method``: the name of the row of the
    leaderboard, with † where folds are missing. Seeds of one setting have one name.

    Args:
        results: the results folder.
        unreadable: a sentence for each record that can't be read is added here; None logs them.

    Raises:
        BenchError: there are no records.
    """
    records = pooled(read_records(results, unreadable))
    return runs_of(sections(leaderboard_frame(records), baseline_frame()), records)


def runs_of(parts: Iterable[Section], records: pd.DataFrame) -> list[Drawable]:
    """Return what `run_frames` returns, of sections whose records were read already."""
    drawables = [_section_runs(section, records) for section in parts]
    return [drawable for drawable in drawables if len(drawable.frame)]


def image_frames(results: Path) -> list[Drawable]:
    """Return the scores of the test images of each section, in the order of the leaderboard.

    Columns: method, backbone, strategy, cell, organ, stem, fold, pq, aji, dice (fractions). A row of which a file of
    scores is missing or damaged is left out, with a warning and a note.

    Raises:
        BenchError: there are no records.
    """
    drawables = []
    for runs in run_frames(results):
        scores = interval_scores(results, runs.frame)
        rows = runs.frame.drop_duplicates("cell")[[*METHOD, "cell"]]
        notes = [*runs.notes, scores.left_out] if scores.left_out else [*runs.notes]
        for cell, reason in scores.missing.items():
            name = rows.loc[rows["cell"] == cell, "method"].iloc[0]
            logger.warning("%s is not drawn: %s.", name, reason)
        if scores.missing:
            notes.append(f"Not drawn, because a file of scores can't be read: {len(scores.missing)} rows.")
        frame = rows.merge(scores.images.drop(columns="weight"), on="cell", how="inner")
        if len(frame):
            drawables.append(Drawable(runs.title, runs.stem, frame, tuple(notes)))
    return drawables


def figures(drawables: list[Drawable], draw: Callable[..., Figure], columns: int) -> list[tuple[str, Figure]]:
    """Return a figure for each section, under the part of its file name.

    Raises:
        BenchError: there is no section, in the words in which `draw` refuses an empty frame.
    """
    if not drawables:
        draw(pd.DataFrame())
    return [
        (drawable.stem, draw(drawable.frame, title=drawable.title, notes=drawable.notes, columns=columns))
        for drawable in drawables
    ]


def check_scores(frame: pd.DataFrame, of: str) -> None:
    """Refuse a frame without any PQ.

    Args:
        frame: the numbers of a figure.
        of: what the scores are of.

    Raises:
        BenchError: there is none.
    """
    if frame.empty or frame["pq"].isna().all():
        raise BenchError(f"no scores {of} to draw; finish at least one run with `bench run` first.")


def check_one_section(frame: pd.DataFrame) -> None:
    """Refuse rows that may not be compared.

    Raises:
        BenchError: rows of several sections.
    """
    if "dataset" in frame and len(frame[list(SECTION_KEYS)].drop_duplicates()) > 1:
        raise BenchError("rows on different images or folds don't belong in one figure; choose one dataset and split.")


def figure_title(section: Section) -> str:
    """Return the title of a section, which says so if weights are random."""
    return random_title(section.title, section.rows["weights"])


def random_title(title: str, weights: pd.Series) -> str:
    """Return the title of a figure, which says so if some of the weights of its rows are random."""
    return " · ".join(part for part in (title, *[RANDOM] * bool((weights == "random").any())) if part)


def random_notes(weights: pd.Series) -> list[str]:
    """Return the sentence of a figure on random weights, if some of the weights of its rows are."""
    return [RANDOM_NOTE] * bool((weights == "random").any())


def _section_runs(section: Section, records: pd.DataFrame) -> Drawable:
    scored = section.rows[section.rows["n_ok"] > 0]
    rows = scored.head(MOST_ROWS)
    names = [row_name(row, section.settings) for _, row in rows.iterrows()]
    marks = ["" if complete else f" {INCOMPLETE}" for complete in rows["complete"]]
    order = pd.DataFrame(
        {"cell": rows["cell"].to_numpy(), "method": [name + mark for name, mark in zip(names, marks, strict=True)]}
    )
    ok = records[records["status"] == "ok"]
    frame = order.merge(ok, on="cell", how="inner")
    notes = []
    if len(scored) > len(rows):
        notes.append(f"The best {len(rows)} of {len(scored)} rows by PQ.")
    if not rows["complete"].all():
        notes.append(f"{INCOMPLETE} Folds are missing.")
    notes += random_notes(rows["weights"])
    return Drawable(figure_title(section), section.file_stem, frame, tuple(notes))
