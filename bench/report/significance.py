"""Significance matrix: difference of every two rows of the leaderboard, and which differences are significant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.report import compared_rows, figure_rows
from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.comparison import LEVEL
from bench.report.figure_text import label_rows, n_lines, set_notes, set_title
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "RdBu"
"""Red and blue are told apart by everybody; green is in no part of it."""
LABELS = {1: 1.75, 2: 2.6}
"""Width of the names of the rows, in inches."""
LARGEST, SMALLEST = 0.3, 0.095
"""Height of a row, in inches."""
NUMBERS_FROM = 0.27
"""Least width of a cell, in inches, into which its number is written."""
NOTE = (
    "Mean {score} of the row minus that of the column, in points, over {n} images. {mark}: the two differ (Wilcoxon "
    "signed-rank test on the images, Holm over all pairs, p < {level:g}). Rows are sorted by mean rank, and columns "
    "numbered as the rows are."
)


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the matrix of each section, under the part of its file name.

    Raises:
        BenchError: there are no records, or no two rows that can be compared.
    """
    return figure_rows.figures(compared_rows.frames(results), draw, columns)


def draw(
    frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2, score: str = "pq"
) -> Figure:
    """Draw the difference of every two rows, the best on top.

    Args:
        frame: the comparison of all rows of a section, see `bench.report.overall.csv_frame`.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.
        score: pq, aji or dice.

    Raises:
        BenchError: the frame compares no rows in this score.
    """
    names, difference, p = matrices(frame, score)
    load_seaborn()
    from matplotlib.figure import Figure

    rows = pd.DataFrame([compared_rows.named_row(name) for name in names])
    width = figure_width(columns)
    cell = min(LARGEST, (width - LABELS[columns]) / len(names))
    pitch = max(cell, SMALLEST)
    numbers = cell >= NUMBERS_FROM
    n_images = int(frame.loc[(frame["score"] == score) & (frame["kind"] == "rank"), "n_images"].iloc[0])
    own = NOTE.format(score=SCORE_TITLES[score], n=n_images, mark="Bold with a star" if numbers else "Dot", level=LEVEL)
    with report_style():
        height = 1.15 + 0.09 * n_lines([own, *notes], columns=columns) + pitch * len(names)
        figure = Figure(figsize=(width, height), layout="constrained", dpi=200)
        axes = figure.add_subplot()
        limit = max(5 * math.ceil(float(np.nanmax(np.abs(difference))) / 5), 5)
        mesh = axes.pcolormesh(np.ma.masked_invalid(difference), cmap=COLOURS, vmin=-limit, vmax=limit)
        mesh.set(edgecolors="white", linewidth=0.3)
        axes.set_xlim(0, max(len(names), (width - LABELS[columns]) / LARGEST))
        axes.set_ylim(len(names), 0)
        _mark(axes, difference, p, numbers, cell)
        _frame_axes(axes, len(names), cell)
        label_rows(axes, rows, columns=columns, size=5.5 if pitch > 0.11 else 5, numbered=True, offset=0.5)
        bar = figure.colorbar(mesh, ax=axes, location="bottom", shrink=0.4, aspect=30, pad=0.01)
        bar.set_label(f"difference in {SCORE_TITLES[score]}, points", fontsize=6)
        bar.ax.tick_params(labelsize=6)
        bar.outline.set_visible(False)
        set_title(figure, title, columns=columns)
        set_notes(figure, [own, *notes], columns=columns)
    return figure


def matrices(frame: pd.DataFrame, score: str = "pq") -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names by mean rank, and of every two the difference in points and the adjusted p-value.

    Args:
        frame: see `draw`.
        score: pq, aji or dice.

    Returns:
        names; (rows, rows) row minus column, NaN on the diagonal; (rows, rows) p-values, NaN on the diagonal.

    Raises:
        BenchError: the frame compares no rows in this score.
    """
    own = frame[frame["score"] == score] if "score" in frame else frame[:0]
    ranked = own[own["kind"] == "rank"].sort_values(["mean_rank", "a"]) if len(own) else own
    pairs = own[own["kind"] == "pair"] if len(own) else own
    if pairs.empty:
        raise BenchError(f"no two rows are compared in {score!r}, so there is no matrix to draw; see `bench compare`.")
    names = [str(name) for name in ranked["a"]]
    places = {name: place for place, name in enumerate(names)}
    difference, p = (np.full((len(names), len(names)), np.nan) for _ in range(2))
    for a, b, mean, adjusted in zip(pairs["a"], pairs["b"], pairs["mean"], pairs["p_holm"], strict=True):
        i, j = places[a], places[b]
        difference[i, j], difference[j, i] = 100 * mean, 0.0 - 100 * mean
        p[i, j] = p[j, i] = adjusted
    return names, difference, p


def _mark(axes: Axes, difference: np.ndarray, p: np.ndarray, numbers: bool, cell: float) -> None:
    if not numbers:
        dots = np.argwhere(p < LEVEL) + 0.5
        size = min(2.4, 22 * cell)
        axes.plot(dots[:, 1], dots[:, 0], "o", color="black", markersize=size, mew=0)
        return
    limit = float(np.nanmax(np.abs(difference))) or 1.0
    for (row, column), value in np.ndenumerate(difference):
        if np.isnan(value):
            continue
        significant = p[row, column] < LEVEL
        dark = abs(value) > 0.65 * limit
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 4.8, "in_layout": False}
        style |= {"fontweight": "bold" if significant else "normal", "color": "white" if dark else "black"}
        number = f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"
        axes.text(column + 0.5, row + 0.5, number + ("*" if significant else ""), **style)


def _frame_axes(axes: Axes, n: int, cell: float) -> None:
    from matplotlib.patches import Rectangle

    for place in range(n):
        axes.add_patch(Rectangle((place, place), 1, 1, facecolor="0.85", edgecolor="white", linewidth=0.3))
    step = next(step for step in (1, 2, 5, 10) if step * cell >= 0.1 or step == 10)
    shown = [place for place in range(n) if step == 1 or (place + 1) % step == 0]
    axes.set_xticks([place + 0.5 for place in shown], [str(place + 1) for place in shown], fontsize=5)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, pad=1)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
