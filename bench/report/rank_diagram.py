"""Critical-difference diagram: mean ranks of rows, with a bar over those that can't be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.report import compared_rows, figure_rows
from bench.report.appearance import strategy_colour
from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.comparison import LEVEL, p_text
from bench.report.figure_text import NAME_LENGTH, mark, n_lines, plain, set_notes, set_title, shown_names
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PITCH = {False: 0.17, True: 0.125}
"""Height of a name in inches: for few and for many rows."""
MANY = 16
BAR = 0.45
"""Distance of two bars, in heights of a name."""
SAME_RANK = 1e-9
"""Mean ranks this close are one place of the axis."""
HEAD = 0.42
"""Height of the title and the axis of a panel, in inches."""
NOTE = (
    "Mean rank over {n} images, 1 is the best on every image. A bar joins neighbours of which no two differ (Wilcoxon "
    "signed-rank test on the images, Holm over all pairs, {level:g}). Rows that do not differ have no bar where "
    "one between them does."
)


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the diagrams of each section, under the part of its file name.

    Raises:
        BenchError: there are no records, or no two rows that can be compared.
    """
    return figure_rows.figures(compared_rows.frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] = (), columns: int = 2) -> Figure:
    """Draw the mean ranks of all rows in every score, best on the left, as Demšar 2006 does.

    A bar joins rows that follow each other and of which no two differ by Wilcoxon's test with Holm's correction: there
    is no single critical difference, as Nemenyi's test has. Rows that don't differ, with one between them that does,
    have no bar, because it would cover that one too.

    Args:
        frame: the comparison of all rows of a section, see `bench.report.overall.csv_frame`. A panel for each score,
            in the order in which they appear.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: the frame compares no rows.
    """
    ranked = frame[frame["kind"] == "rank"] if "kind" in frame else frame[:0]
    if not (frame["kind"] == "pair").any() if len(ranked) else True:
        raise BenchError("no two rows are compared, so there are no ranks to draw; see `bench compare`.")
    load_seaborn()
    from matplotlib.figure import Figure

    scores = ranked["score"].unique().tolist()
    dense = ranked["a"].nunique() > MANY
    own = [NOTE.format(n=int(ranked["n_images"].max()), level=LEVEL), *notes]
    with report_style():
        figure = Figure(figsize=(figure_width(columns), 4), layout="constrained", dpi=200)
        grid = figure.add_gridspec(len(scores), 1)
        panels = [figure.add_subplot(grid[place]) for place in range(len(scores))]
        heights = [
            HEAD + PITCH[dense] * _panel(axes, frame[frame["score"] == score], score, columns, dense)
            for axes, score in zip(panels, scores, strict=True)
        ]
        grid.set_height_ratios(heights)
        figure.set_size_inches(figure_width(columns), sum(heights) + 0.3 + 0.09 * n_lines(own, columns=columns))
        set_title(figure, title, columns=columns)
        set_notes(figure, own, columns=columns)
    return figure


def _panel(axes: Axes, own: pd.DataFrame, score: str, columns: int, dense: bool) -> float:
    """Draw one score, and return the height of the diagram in heights of a name."""
    from scikit_posthocs import critical_difference_diagram

    ranked = own[own["kind"] == "rank"].sort_values(["mean_rank", "a"])
    names = ranked["a"].tolist()
    # Rows are numbered: sets of names have another order in every process, and the file would not be the same twice.
    ranks = pd.Series(ranked["mean_rank"].to_numpy(float))
    rows = [compared_rows.named_row(str(name)) for name in names]
    axes.grid(visible=False)
    size = 5.0 if dense or columns == 1 else 6.0
    drawn = critical_difference_diagram(
        ranks,
        _p_values(own[own["kind"] == "pair"], names, ranks.to_numpy()),
        ax=axes,
        alpha=LEVEL,
        label_fmt_left="{label}",
        label_fmt_right="{label}",
        label_props={"fontsize": size, "va": "center"},
        color_palette={place: strategy_colour(row["strategy"]) for place, row in enumerate(rows)},
        elbow_props={"linewidth": 0.7},
        marker_props={"s": 0},
        crossbar_props={"color": "black", "linewidth": 2, "solid_capstyle": "butt"},
        text_h_margin=0.02 * max(float(np.ptp(ranks)), 0.1),
    )
    shown = shown_names([str(name) for name in names], NAME_LENGTH[columns])
    for label in drawn["labels"]:
        number = int(label.get_text())
        text = f"{shown[number]} ({ranks[number]:.2f})"
        label.set_text(f"{text} " if label.get_ha() == "right" else f" {text}")  # apart from the line
        plain(label).set_color("black")
    for place, row in enumerate(rows):
        axes.plot([ranks[place]], [0], **mark(row, size=3.2), zorder=5, clip_on=False, label="_row")
    for artist in (*axes.lines, *axes.collections):  # names and ticks are all that reaches beyond the axes
        artist.set_in_layout(False)
    axes.tick_params(labelsize=size + 0.5, pad=1)
    axes.set_title(_title(own, score), fontsize=6.5, loc="left", pad=4)
    return _closed_up(axes, drawn)


def _closed_up(axes: Axes, drawn: dict[str, list[Any]]) -> float:
    """Draw the bars closer to each other than the names are, and return the height of all."""
    bars = [line for lines in drawn["crossbars"] for line in lines]
    n_levels = max((-round(float(line.get_ydata()[0])) for line in bars), default=0)
    saved = n_levels * (1 - BAR)
    for line in bars:
        line.set_ydata(np.asarray(line.get_ydata()) * BAR)
    for elbow in drawn["elbows"]:
        heights = np.asarray(elbow.get_ydata(), float)
        elbow.set_ydata(np.where(heights < 0, heights + saved, 0))
    for label in drawn["labels"]:
        label.set_y(label.get_position()[1] + saved)
    lowest = min(label.get_position()[1] for label in drawn["labels"])
    axes.set_ylim(lowest - 0.6, 0)
    return float(0.6 - lowest)


def _p_values(pairs: pd.DataFrame, names: Sequence[str], ranks: np.ndarray) -> pd.DataFrame:
    """Return for every two rows, by number, the least adjusted p-value among all rows from the first to the second.

    A bar covers all rows between its ends, rows of equal rank included, so none of these pairs may differ.

    Args:
        pairs: the tests of every two rows; a row without a p-value doesn't differ.
        names: of the rows, best first.
        ranks: their mean ranks, (rows,).
    """
    places = {name: place for place, name in enumerate(names)}
    table = np.ones((len(names), len(names)))
    for a, b, p in zip(pairs["a"], pairs["b"], pairs["p_holm"], strict=True):
        table[places[a], places[b]] = table[places[b], places[a]] = 1.0 if np.isnan(p) else p
    least = np.ones_like(table)
    for i, j in combinations(range(len(names)), 2):
        covered = (ranks > ranks[i] - SAME_RANK) & (ranks < ranks[j] + SAME_RANK)
        least[i, j] = least[j, i] = table[np.ix_(covered, covered)].min()
    return pd.DataFrame(least)


def _title(own: pd.DataFrame, score: str) -> str:
    p = own.loc[own["kind"] == "friedman", "p"].dropna()
    return f"Mean rank in {SCORE_TITLES[score]}" + (f"; Friedman {p_text(float(p.iloc[0]))}" if len(p) else "")
