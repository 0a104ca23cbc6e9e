"""Distributions of the scores of single test images: a box for each row of the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.report import figure_rows
from bench.report.appearance import strategy_colour
from bench.report.figure_rows import METHOD, Drawable
from bench.report.row_panels import row_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = [*METHOD, "organ", "stem", "fold", "pq", "aji", "dice"]
FEWEST = 8
"""With fewer images there is no box: a point for each."""
MOST_POINTS = 10
"""So many points are drawn beyond each end of the whiskers: the farthest."""
NOTE = (
    "Box: quartiles and median over the test images of all folds; whiskers: 5th and 95th percentile; diamond: mean; "
    f"points: the {MOST_POINTS} lowest and highest images beyond the whiskers."
)
FEW = f"Rows with fewer than {FEWEST} images have a point for each."


def frames(results: Path) -> list[Drawable]:
    """Return the scores of each row on each test image, for each section: `COLUMNS`, scores as fractions.

    The seeds of a row are averaged image by image, so that each image counts once.

    Raises:
        BenchError: there are no records.
    """
    drawables = []
    for images in figure_rows.image_frames(results):
        keys = [*METHOD, "organ", "stem", "fold"]
        table = images.frame.groupby(keys, sort=False)[["pq", "aji", "dice"]].mean().reset_index()
        drawables.append(Drawable(images.title, images.stem, table[COLUMNS], images.notes))
    return drawables


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the figure of each section, under the part of its file name."""
    return figure_rows.figures(frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2) -> Figure:
    """Draw the distribution of PQ, AJI and Dice (PQ alone in one column) over images.

    Args:
        frame: see `frames`; rows in the order in which they appear.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: there is no score.
    """
    figure_rows.check_scores(frame, "of images")
    sizes = frame.groupby("method")["pq"].count()
    own = [*[NOTE] * bool((sizes >= FEWEST).any()), *[FEW] * bool((sizes < FEWEST).any())]
    return row_panels(frame, _draw_row, title=title, notes=[*own, *notes], columns=columns)


def _draw_row(axes: Axes, height: int, own: pd.DataFrame, score: str, dense: bool) -> None:
    values = np.sort(100 * own[score].dropna().to_numpy(float))
    colour = strategy_colour(own["strategy"].iloc[0])
    if not len(values):
        return
    points = values
    if len(values) >= FEWEST:
        low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
        axes.plot([low, high], [height, height], color=colour, linewidth=0.8, zorder=2, label="whiskers")
        axes.barh(height, third - first, 0.62, left=first, color=colour, alpha=0.45, linewidth=0, zorder=3)
        axes.plot(
            [median, median], [height - 0.31, height + 0.31], color="black", linewidth=1, zorder=4, label="median"
        )
        points = np.concatenate([values[values < low][:MOST_POINTS], values[values > high][-MOST_POINTS:]])
    size = 1.3 if dense else 1.8
    heights = np.full(len(points), float(height))
    axes.plot(points, heights, "o", color=colour, markersize=size, markeredgewidth=0, zorder=2, label="images")
    mean = float(values.mean())
    diamond: dict[str, Any] = {
        "markersize": 2.4 if dense else 3,
        "markerfacecolor": "white",
        "markeredgecolor": "black",
    }
    axes.plot([mean], [height], "D", markeredgewidth=0.5, zorder=5, label="mean", **diamond)
