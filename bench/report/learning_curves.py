"""Learning curves: loss and validation PQ per epoch, a line for each row of the leaderboard."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.report import figure_rows
from bench.report.appearance import LINES, backbone_marker, strategy_colour
from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.figure_rows import METHOD, Drawable
from bench.report.figure_text import NOTE_SIZE, n_lines, plain, set_notes, set_title, shown_names
from bench.report.histories import history_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

COLUMNS = [*METHOD, "fold", "seed", "epoch", "loss", "pq"]
SHARED = 6
"""So many rows share two panels; of more, each backbone has two of its own."""
HEIGHT = {False: 1.7, True: 1.15}
"""Height of a panel in inches: of the only ones, and of those of one of several backbones."""
WIDE_RANGE = 20
"""A loss that falls by more than this factor has a logarithmic axis."""
LONGEST_NAME = 48
LETTER, KEY = 0.048, 0.45
"""Width of a letter and of a line's key in a legend, in inches."""
MARKS = 6
"""Markers along a line."""
NOTE = (
    "Line: mean over folds{seeds}; band: from the lowest to the highest of them. PQ is that of the validation images."
)
STOPPED = "The mean ends where the first run of a row has stopped or diverged; thin lines are the runs that went on."


@dataclass(frozen=True)
class _Curve:
    """One number of a row per epoch.

    Attributes:
        shared: mean, lowest and highest value of the epochs at which every run of the row has one.
        alone: the part of each run that lies beyond the mean of its row, from the mean's last epoch on.
    """

    shared: pd.DataFrame
    alone: list[pd.DataFrame]


def frames(results: Path, sections: Sequence[Drawable] | None = None) -> list[Drawable]:
    """Return the histories of the runs that are done, for each section: `COLUMNS`, PQ as a fraction.

    A history that can't be read is left out with a warning.

    Args:
        results: the results folder.
        sections: the runs of each section, see `bench.report.figure_rows.run_frames`; None reads their records.

    Raises:
        BenchError: there are no records.
    """
    unreadable: list[str] = []
    sections = figure_rows.run_frames(results, unreadable) if sections is None else sections
    epochs = history_numbers(results, ("loss", "pq"), unreadable)
    for sentence in dict.fromkeys(unreadable):  # a damaged record was read twice
        logger.warning(sentence)
    if epochs.empty:
        return []
    drawables = []
    for runs in sections:
        frame = runs.frame[["id", *METHOD, "fold", "seed"]].merge(epochs, on="id", how="inner")
        if len(frame):
            drawables.append(Drawable(runs.title, runs.stem, frame[COLUMNS], runs.notes))
    return drawables


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the curves of each section, under the part of its file name."""
    return figure_rows.figures(frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2) -> Figure:
    """Draw loss and validation PQ per epoch.

    Args:
        frame: `COLUMNS`, a row for each epoch of each run; PQ as a fraction, null where an epoch was not validated.
            Rows of the leaderboard are in the order in which they appear.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: there is no loss and no PQ.
    """
    if frame.empty or frame[["loss", "pq"]].isna().all(axis=None):
        raise BenchError("no training histories to draw; only trained runs have them.")
    seaborn = load_seaborn()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = _styled(frame.drop_duplicates("method")[METHOD])
    groups = _groups(rows)
    parts = dict(iter(frame.groupby("method", sort=False)))
    n_columns = _legend_columns(rows["method"].tolist(), columns)
    n_legend = sum(math.ceil(len(group) / n_columns) for group in groups)
    seeds = " and seeds" if frame["seed"].nunique() > 1 else ""
    curves = {(method, name): _curve(own, name) for method, own in parts.items() for name in ("loss", "pq")}
    alone = any(len(curve.alone) for curve in curves.values())
    notes = [NOTE.format(seeds=seeds), *[STOPPED] * alone, *notes]
    several = len(groups) > 1
    with report_style():
        height = 0.7 + 0.09 * n_lines(notes, columns=columns) + HEIGHT[several] * len(groups) + 0.12 * n_legend
        figure = Figure(figsize=(figure_width(columns), height), layout="constrained", dpi=200)
        blocks = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
        last = float(frame["epoch"].max())
        for place, (block, group) in enumerate(zip(blocks, groups, strict=True)):
            losses, scores = block.subplots(1, 2)
            for _, row in group.iterrows():
                _draw_line(losses, curves[row["method"], "loss"], "loss", 1, row)
                _draw_line(scores, curves[row["method"], "pq"], "pq", 100, row)
            _set_scale(losses)
            for axes, name in ((losses, "training loss"), (scores, "validation PQ, %")):
                axes.set_ylabel(name)
                axes.set_xlim(0, last + max(0.5, 0.02 * last))
                axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
                if place == len(groups) - 1:
                    axes.set_xlabel("epoch")
                seaborn.despine(ax=axes)
            _draw_legend(block, group, n_columns)
        set_title(figure, title, columns=columns)
        set_notes(figure, notes, columns=columns)
    return figure


def _styled(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the number of the line style of each row: another one for each setting of the same backbone and strategy."""
    places = rows.groupby(["backbone", "strategy"], sort=False).cumcount()
    return rows.assign(style=[place % len(LINES) for place in places])


def _groups(rows: pd.DataFrame) -> list[pd.DataFrame]:
    if len(rows) <= SHARED:
        return [rows]
    return [group for _, group in rows.groupby("backbone", sort=False)]


def _curve(own: pd.DataFrame, name: str) -> _Curve:
    """Return the curve of a row. A mean over the runs that are left was refused: it would jump where a run ends."""
    finite = own[np.isfinite(own[name].to_numpy(float))].sort_values("epoch")
    n_runs = len(own[["fold", "seed"]].drop_duplicates())
    table = finite.groupby("epoch")[name].agg(["mean", "min", "max", "count"])
    shared = table[table["count"] == n_runs]
    end = shared.index.max() if len(shared) else -math.inf
    longer = finite[finite.groupby(["fold", "seed"])["epoch"].transform("max") > end]
    alone = [run for _, run in longer[longer["epoch"] >= end].groupby(["fold", "seed"], sort=True)]
    return _Curve(shared, alone)


def _draw_line(axes: Axes, curve: _Curve, name: str, factor: float, row: pd.Series) -> None:
    """Draw mean, lowest and highest value of the runs of a row, and thin lines where some have stopped."""
    table, style = factor * curve.shared, _line(row)
    epochs, colour = table.index.to_numpy(float), style["color"]
    if (table["max"] > table["min"]).any():
        axes.fill_between(epochs, table["min"], table["max"], color=colour, alpha=0.15, linewidth=0, zorder=2)
    if len(table):
        every = max(1, math.ceil(len(epochs) / MARKS))
        axes.plot(epochs, table["mean"], markevery=every, label=row["method"], zorder=3, **style)
    for run in curve.alone:
        # A dot at the end, so that a run of one epoch is seen, too.
        thin: dict[str, Any] = {"color": colour, "linestyle": style["linestyle"], "linewidth": 0.5, "alpha": 0.7}
        dot: dict[str, Any] = {"marker": ".", "markersize": 2, "markevery": [-1]}
        axes.plot(run["epoch"], factor * run[name], label="_run", zorder=2.5, **thin, **dot)


def _line(row: pd.Series) -> dict[str, Any]:
    return {
        "color": strategy_colour(row["strategy"]),
        "linestyle": LINES[row["style"]],
        "linewidth": 1,
        "marker": backbone_marker(row["backbone"]),
        "markersize": 3,
        "markeredgewidth": 0.2,
        "markeredgecolor": "white",
    }


def _set_scale(axes: Axes) -> None:
    """Make the axis of the loss logarithmic where it falls far, so that late epochs are told apart."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines] or [np.ones(1)])
    if values.min() > 0 and values.max() / values.min() > WIDE_RANGE:
        axes.set_yscale("log")


def _legend_columns(names: Sequence[str], columns: int) -> int:
    """Return how many columns of these names fit side by side, at most two for each column of the page."""
    longest = max(len(name) for name in shown_names(names, LONGEST_NAME))
    return max(1, min(2 * columns, int(figure_width(columns) / (LETTER * longest + KEY))))


def _draw_legend(block: Any, group: pd.DataFrame, n_columns: int) -> None:
    from matplotlib.lines import Line2D

    names = shown_names(group["method"].tolist(), LONGEST_NAME)
    lines = [Line2D([], [], label=name, **_line(row)) for name, (_, row) in zip(names, group.iterrows(), strict=True)]
    legend = block.legend(
        handles=lines, loc="outside upper left", ncols=n_columns, frameon=False, fontsize=NOTE_SIZE, handlelength=2.4
    )
    for text in legend.get_texts():
        plain(text)
