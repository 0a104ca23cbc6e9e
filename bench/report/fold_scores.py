"""Scores of the folds: a point for each fold of each row of the leaderboard, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.report import figure_rows
from bench.report.figure_rows import METHOD, Drawable
from bench.report.figure_text import mark
from bench.report.row_panels import row_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = [*METHOD, "fold", "seed", "pq", "aji", "dice"]
NOTE = "Point: mean over the images of a test fold{seeds}, the first fold on top; line: mean of the points."


def frames(results: Path) -> list[Drawable]:
    """Return the scores of each fold of each row, for each section: `COLUMNS`, scores as fractions.

    Raises:
        BenchError: there are no records.
    """
    return [
        Drawable(runs.title, runs.stem, runs.frame[COLUMNS], runs.notes) for runs in figure_rows.run_frames(results)
    ]


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the figure of each section, under the part of its file name."""
    return figure_rows.figures(frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2) -> Figure:
    """Draw PQ, AJI and Dice (PQ alone in one column) of each fold.

    Args:
        frame: see `frames`; rows in the order in which they appear.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: there is no score.
    """
    figure_rows.check_scores(frame, "of folds")
    seeds = " and a seed" if frame["seed"].nunique() > 1 else ""
    return row_panels(frame, _draw_row, title=title, notes=[NOTE.format(seeds=seeds), *notes], columns=columns)


def _draw_row(axes: Axes, height: int, own: pd.DataFrame, score: str, dense: bool) -> None:
    ordered = own.sort_values(["fold", "seed"])
    values = 100 * ordered[score].to_numpy(float)
    if np.isnan(values).all():
        return
    # Points of equal scores stand below each other rather than on each other.
    heights = height + (np.linspace(-0.28, 0.28, len(values)) if len(values) > 1 else np.zeros(1))
    style = mark(own.iloc[0], size=2.6 if dense else 3.4)
    axes.plot(values, heights, **style, zorder=3)
    mean = float(np.nanmean(values))
    axes.plot([mean, mean], [height - 0.4, height + 0.4], color="black", linewidth=1, zorder=4, label="mean")
