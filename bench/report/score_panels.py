"""Figure with a panel for each score, side by side on two columns of a paper, with its legends and notes below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.report.appearance import backbone_marker, strategy_colour, strategy_line
from bench.report.canvas import SMALL, figure_width, load_seaborn
from bench.report.figure_text import legible, set_notes, set_title
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from bench.report.section import Section

FEWEST_HEIGHT = 0.5
"""Part of a panel's height that methods keep; a classical line that would leave them less is in the caption."""
NAME_LENGTH = 30
"""Characters of a name in a legend."""
DARK, PALE = "0.2", "0.72"
# Inches. Three panels leave 1.9 inches each, so ticks and names must be few.
_LEFT, _RIGHT, _BETWEEN, _HEIGHT = 0.36, 0.2, 0.44, {1: 2.2, 2: 1.9}
_TITLE_LINE, _NOTE_LINE, _LEGEND_LINE, _AXIS = 0.115, 0.095, 0.13, 0.42
_GROUP = 0.62
"""Width of a legend's title, at its left."""


@dataclass(frozen=True)
class Group:
    """Entries of a legend under one title; `key` is the width of their keys in letters, 0 where there are none."""

    title: str
    handles: Sequence[Line2D]
    key: float = 1.8


def score_names(columns: int) -> tuple[str, ...]:
    """Return the scores of a figure: PQ alone on one column, where three panels would be too small to read."""
    return ("pq",) if columns == 1 else tuple(SCORE_TITLES)


def score_panels(
    groups: Sequence[Group], *, columns: int, title: str, notes: Sequence[str]
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with its texts, and an empty panel for each score.

    Sizes are inches of the printed page: legends and notes make the figure higher, never its letters smaller.

    Raises:
        BenchError: another number of columns than 1 and 2.
    """
    width = figure_width(columns)
    load_seaborn()
    from matplotlib.figure import Figure

    scores, groups = score_names(columns), [group for group in groups if group.handles]
    figure = Figure(figsize=(width, 4), dpi=150)
    set_title(figure, title, columns=columns)
    set_notes(figure, notes, columns=columns)
    top = 0.28 + _TITLE_LINE * _n_lines(figure.get_suptitle())
    foot = 0.06 + _NOTE_LINE * _n_lines(figure.get_supxlabel())
    places = [_entries_per_line(group, width) for group in groups]
    n_lines = sum(-(-len(group.handles) // n) for group, n in zip(groups, places, strict=True))
    below = foot + _LEGEND_LINE * n_lines + 0.04 * len(groups) + _AXIS
    height = top + _HEIGHT[columns] + below
    figure.set_size_inches(width, height)
    for text in figure.texts:  # in inches: a fraction of a high figure would be a wide gap
        text.set_y(1 - 0.06 / height if text.get_text() == figure.get_suptitle() else 0.05 / height)
    _write_legends(figure, groups, places, start=(below - _AXIS) / height)
    figure.subplots_adjust(
        left=_LEFT / width, right=1 - _RIGHT / width, top=1 - top / height, bottom=below / height, wspace=0
    )
    panel_width = (width - _LEFT - _RIGHT - _BETWEEN * (len(scores) - 1)) / len(scores)
    figure.subplots_adjust(wspace=_BETWEEN / panel_width)
    panels = dict(zip(scores, figure.subplots(1, len(scores), squeeze=False)[0], strict=True))
    for score, panel in panels.items():
        panel.set_title(f"{SCORE_TITLES[score]}, %", loc="left", pad=4)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def panel_inches(panel: Axes) -> float:
    """Return the width of a panel in inches."""
    figure = panel.get_figure()
    assert figure is not None
    return float(panel.get_position().width * figure.get_figwidth())  # type: ignore[union-attr]


def limit_heights(panel: Axes, values: Sequence[float] | np.ndarray) -> None:
    """Set the vertical limits of a panel to percentages, with room for markers; 0 to 100 where there are none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 100.0)
    margin = max(0.07 * (high - low), 0.5)
    panel.set_ylim(max(low - margin, -4), min(high + margin, 104))


def bounds(rows: pd.DataFrame, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, lower and upper end of the 95 % intervals of a score in percent; ends are NaN without interval.

    Means and ends are kept in [0, 100], and an end never passes its mean.
    """
    mean = 100 * rows[f"{score}_mean"].to_numpy(float)
    ends = []
    for end, choose in (("low", np.fmin), ("high", np.fmax)):
        name = f"{score}_{end}"
        given = 100 * rows[name].to_numpy(float) if name in rows else np.full(len(rows), np.nan)
        ends.append(np.where(np.isnan(given), np.nan, np.clip(choose(given, mean), 0, 100)))
    return mean, ends[0], ends[1]


def far_scores(drawn: pd.DataFrame, classical: pd.DataFrame, columns: int) -> list[str]:
    """Return the scores in which room for the classical line would take more than half of a panel from the methods."""
    far = []
    for score in score_names(columns):
        reference = 100 * classical[f"{score}_mean"].dropna().to_numpy(float)
        values = np.concatenate(bounds(drawn, score))
        values = values[np.isfinite(values)]
        if len(reference) and len(values):
            low, high = min(values.min(), reference.min()), max(values.max(), reference.max())
            if values.max() - values.min() < FEWEST_HEIGHT * (high - low):
                far.append(score)
    return far


def far_notes(classical: pd.DataFrame, far: Sequence[str]) -> list[str]:
    """Return the sentence with the scores of the classical pipeline that are in no panel."""
    values = [
        f"{SCORE_TITLES[score]} {100 * value:.1f} %" for score in far for value in classical[f"{score}_mean"].dropna()
    ]
    return [f"Classical pipeline, outside the panel: {', '.join(values)}."] if values else []


def interval_notes(section: Section) -> list[str]:
    """Return the sentence on how the intervals of a section were made, or why there are none."""
    return list(section.uncertainty[:1])


def handle(label: str, **style: Any) -> Line2D:
    """Return an entry of a legend: a marker, or a line where `style` has one."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 4.5, "linewidth": 1, **style})


def method_groups(rows: pd.DataFrame, *, lines: bool = False) -> list[Group]:
    """Return the legends of the strategies (colour; and line, if `lines`) and of the backbones (marker)."""
    colours = [
        handle(
            legible(name, NAME_LENGTH),
            color=strategy_colour(name),
            **({"linestyle": strategy_line(name)} if lines else {"marker": "o", "markeredgewidth": 0}),
        )
        for name in sorted(set(rows["strategy"]))
    ]
    markers = [
        handle(legible(name, NAME_LENGTH), marker=backbone_marker(name), color="0.35", markeredgewidth=0)
        for name in sorted(set(rows["backbone"]))
    ]
    return [Group("strategy", colours), Group("backbone", markers)]


def _n_lines(text: str) -> int:
    return len(text.splitlines())


def _entries_per_line(group: Group, width: float) -> int:
    from matplotlib.textpath import TextPath

    longest = max(
        TextPath((0, 0), str(entry.get_label()), size=SMALL).get_extents().width / 72 for entry in group.handles
    )
    return max(1, int((width - _GROUP - 0.1) / (longest + SMALL / 72 * (group.key + 1.9))))


def _write_legends(figure: Figure, groups: Sequence[Group], places: Sequence[int], *, start: float) -> None:
    """Write the legends below each other, each with its title at its left; `start` is the top, of the height."""
    width, height = figure.get_size_inches()
    for group, n_columns in zip(groups, places, strict=True):
        text = figure.text(0.06 / width, start + 0.012 / height, group.title, va="top", fontsize=SMALL)
        text.set_fontweight("bold")
        figure.legend(
            handles=group.handles,
            loc="upper left",
            bbox_to_anchor=(_GROUP / width, start),
            ncols=n_columns,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            labelspacing=0.28,
            handlelength=group.key,
            handletextpad=0.4 if group.key else 0,
            columnspacing=1.2,
            fontsize=SMALL,
        )
        start -= (_LEGEND_LINE * -(-len(group.handles) // n_columns) + 0.04) / height
