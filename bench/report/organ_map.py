"""Heat map of PQ: rows of the leaderboard down, organs across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.report import figure_rows
from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.figure_rows import METHOD, Drawable
from bench.report.figure_text import label_rows, n_lines, plain, set_notes, set_title, shown_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

COLOURS = "viridis"
MOST_ORGANS = 120
CELL = {1: 0.11, 2: 0.135}
"""Height of a row, in inches."""
LETTERS = {1: 5, 2: 5.5}
FEWEST_CELLS = 4
"""So many cells are as wide as the map, so that a single organ is no broad band."""
NUMBERS_FROM = 0.125
"""Least width of a cell, in inches, into which its number is written."""
LABELS = {1: 1.5, 2: 2.0}
"""Width of the names of the rows, in inches."""
NARROWEST = {1: 0.088, 2: 0.12}
"""Least width of a cell, in inches: the name of an organ is as high as its letters."""
NOTE = "Mean PQ in percent over the test images of an organ, of all folds; in brackets the number of images."


def frames(results: Path) -> list[Drawable]:
    """Return mean PQ of each row on each organ, for each section.

    Columns: method, backbone, strategy, organ, n_images, pq (fraction).

    Raises:
        BenchError: there are no records.
    """
    drawables = []
    for images in figure_rows.image_frames(results):
        grouped = images.frame.groupby([*METHOD, "organ"], sort=False)
        table = grouped["pq"].mean().to_frame()
        table["n_images"] = grouped["stem"].nunique()  # seeds of one row have the same images
        drawables.append(Drawable(images.title, images.stem, table.reset_index(), images.notes))
    return drawables


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the map of each section, under the part of its file name."""
    return figure_rows.figures(frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2) -> Figure:
    """Draw PQ of each row on each organ; what a row has no score of is hatched.

    Args:
        frame: see `frames`; rows in the order in which they appear, organs are sorted.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: there is no score.
    """
    figure_rows.check_scores(frame, "per organ")
    load_seaborn()
    from matplotlib.figure import Figure

    rows = frame.drop_duplicates("method")[METHOD]
    organs, left_out = _organs(frame)
    values = 100 * frame.pivot_table(index="method", columns="organ", values="pq", dropna=False)
    values = values.reindex(index=rows["method"], columns=organs.index)
    width = figure_width(columns)
    per_band = min(len(organs), int((width - LABELS[columns]) / NARROWEST[columns]))
    n_bands = math.ceil(len(organs) / per_band)
    per_band = max(math.ceil(len(organs) / n_bands), FEWEST_CELLS)
    cell = (width - LABELS[columns]) / per_band
    notes = [NOTE, *["Hatched: no score."] * bool(values.isna().any(axis=None)), *left_out, *notes]
    names = shown_names([f"{name} ({n})" for name, n in organs.items()], 30)
    heights = 0.055 * max(map(len, names)) + CELL[columns] * len(rows)
    with report_style():
        size = (width, 1.0 + 0.09 * n_lines(notes, columns=columns) + n_bands * heights)
        figure = Figure(figsize=size, layout="constrained", dpi=200)
        panels = figure.subplots(n_bands, 1, squeeze=False)[:, 0]
        low, high = _limits(values)
        for band, axes in enumerate(panels):
            own = slice(band * per_band, (band + 1) * per_band)
            mesh = _band(axes, values.iloc[:, own].to_numpy(float), (low, high), per_band)
            axes.set_xticks(range(len(names[own])), names[own], rotation=90, fontsize=5)
            label_rows(axes, rows, columns=columns, size=LETTERS[columns])
            if cell >= NUMBERS_FROM:
                _write_numbers(axes, mesh, values.iloc[:, own].to_numpy(float))
            for label in axes.get_xticklabels():
                plain(label)
        bar = figure.colorbar(mesh, ax=panels.tolist(), location="bottom", shrink=0.4, aspect=30, pad=0.01)
        bar.set_label("PQ, %", fontsize=6)
        bar.ax.tick_params(labelsize=6)
        bar.outline.set_visible(False)
        set_title(figure, title, columns=columns)
        set_notes(figure, notes, columns=columns)
    return figure


def _organs(frame: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Return the number of images of each organ, sorted by name, and a sentence on those that are left out."""
    organs = frame.groupby(frame["organ"].astype(str))["n_images"].max().astype(int)
    if len(organs) <= MOST_ORGANS:
        return organs.sort_index(), []
    chosen = organs.sort_index().sort_values(ascending=False, kind="stable").head(MOST_ORGANS)
    return chosen.sort_index(), [f"The {MOST_ORGANS} organs with most images, of {len(organs)}."]


def _limits(values: pd.DataFrame) -> tuple[float, float]:
    numbers = values.to_numpy(float)
    low, high = 5 * math.floor(np.nanmin(numbers) / 5), 5 * math.ceil(np.nanmax(numbers) / 5)
    return low, max(high, low + 5)


def _band(axes: Axes, values: np.ndarray, limits: tuple[float, float], n_cells: int) -> QuadMesh:
    """Draw some organs; `n_cells` is the width of the panel, so that the cells of all bands are alike."""
    from matplotlib.patches import Rectangle

    n_rows, n_organs = values.shape
    for row, organ in np.argwhere(np.isnan(values)):
        style: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.55", "linewidth": 0, "hatch": "//////"}
        axes.add_patch(Rectangle((organ - 0.5, row - 0.5), 1, 1, **style))
    mesh = axes.pcolormesh(
        np.arange(n_organs + 1) - 0.5,
        np.arange(n_rows + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=COLOURS,
        vmin=limits[0],
        vmax=limits[1],
        edgecolors="white",
        linewidth=0.3,
    )
    axes.set_xlim(-0.5, n_cells - 0.5)
    axes.set_ylim(n_rows - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def _write_numbers(axes: Axes, mesh: QuadMesh, values: np.ndarray) -> None:
    colours = mesh.to_rgba(np.nan_to_num(values))
    dark = colours[..., :3] @ (0.299, 0.587, 0.114) < 0.5  # brightness, as Rec. 601 weighs it
    for (row, organ), value in np.ndenumerate(values):
        if not np.isnan(value):
            # Out of the layout: each is within its cell, and the layout measures every text that it minds.
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 4.8, "in_layout": False}
            axes.text(organ, row, f"{value:.0f}", color="white" if dark[row, organ] else "black", **style)
