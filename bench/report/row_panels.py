"""Panels that share the rows of the leaderboard: one for PQ, AJI and Dice each, or PQ alone in one column of a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.figure_rows import METHOD
from bench.report.figure_text import label_rows, n_lines, set_notes, set_title
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DrawRow = Callable[["Axes", int, pd.DataFrame, str, bool], None]
"""Draws a row: panel, height, the row's part of the frame, score, whether there are many rows."""
MANY = 20
PITCH = {False: 0.18, True: 0.14}
"""Height of a row in inches, without and with many of them."""


def row_panels(frame: pd.DataFrame, draw_row: DrawRow, *, title: str, notes: Sequence[str], columns: int) -> Figure:
    """Return a figure in which each row of the leaderboard has its height, and each score its panel.

    Args:
        frame: method, backbone, strategy and scores as fractions; rows in the order in which they appear.
        draw_row: draws a row into a panel whose horizontal axis is in percent.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.
    """
    seaborn = load_seaborn()
    from matplotlib.figure import Figure

    rows = frame.drop_duplicates("method")[METHOD]
    parts = dict(iter(frame.groupby("method", sort=False)))
    dense = len(rows) > MANY
    scores = [name for name in SCORE_TITLES if frame[name].notna().any() and (columns > 1 or name == "pq")]
    with report_style():
        height = 0.75 + 0.09 * n_lines(notes, columns=columns) + PITCH[dense] * len(rows)
        figure = Figure(figsize=(figure_width(columns), height), layout="constrained", dpi=200)
        panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
        for place, (axes, score) in enumerate(zip(panels, scores, strict=True)):
            for row, method in enumerate(rows["method"]):
                draw_row(axes, row, parts[method], score, dense)
            axes.set_xlabel(f"{SCORE_TITLES[score]}, %")
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.margins(x=0.04)
            low, high = axes.get_xlim()
            axes.set_xlim(max(low, -2), min(high, 102))
            seaborn.despine(ax=axes, left=place > 0)
            axes.tick_params(axis="y", length=0)
        label_rows(panels[0], rows, columns=columns, size=5.5 if dense or columns == 1 else 6)
        set_title(figure, title, columns=columns)
        set_notes(figure, notes, columns=columns)
    return figure
