"""Ablation: PQ, AJI and Dice of each method over the values of a swept setting, all other settings being equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.appearance import backbone_marker, strategy_colour, strategy_line
from bench.report.axis import cost_axis
from bench.report.baselines import baseline_frame
from bench.report.canvas import report_style
from bench.report.costs import COSTS
from bench.report.figure_rows import check_one_section, random_notes, random_title
from bench.report.figure_text import legible
from bench.report.frame import leaderboard_frame, pooled
from bench.report.image_scores import interval_scores
from bench.report.look_alikes import telling_texts
from bench.report.point_labels import Label, write_labels
from bench.report.reading import read_records
from bench.report.score_panels import (
    DARK,
    Group,
    bounds,
    far_notes,
    far_scores,
    handle,
    interval_notes,
    limit_heights,
    method_groups,
    panel_inches,
    score_names,
    score_panels,
)
from bench.report.section import numeric, sections, setting
from bench.units import SCORE_TITLES, tick
from registry.errors import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMMON = ("embeddings", "head", "image_size", "scale", "validation_fraction", "weights")
"""Settings that every row has; the others start with ``strategy.``, ``train.`` or ``predict.``."""
DECADE = 10
CATEGORY_LENGTH = 14


def figures(results: Path, *, x: str, published: bool = False, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return a figure for each section (same images, same folds) with a part of its file name.

    Args:
        results: the results folder.
        x: a setting as `--set` names it, e.g. ``strategy.rank``.
        published: must be False, because published scores have no value of the setting.
        columns: width in columns of a paper.

    Raises:
        BenchError: no records, a setting that no row has or that has one value, or `published`.
    """
    if published:
        raise BenchError(f"published scores have no {x}; leave --published out, or plot against a cost.")
    records = pooled(read_records(results))
    parts = sections(leaderboard_frame(records), baseline_frame(), interval_scores(results, records))
    drawable = [part for part in parts if x in varying(part.rows)]
    if not drawable:
        raise _nothing_varies(pd.concat([part.rows for part in parts], ignore_index=True), x)
    return [
        (part.file_stem, draw(part.rows, x=x, columns=columns, title=part.title, notes=interval_notes(part)))
        for part in drawable
    ]


def varying(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the settings of which some method has several values, all its other settings being equal."""
    rows = _scored(frame)
    return tuple(name for name in _settings(rows) if _lines(rows, name))


def draw(frame: pd.DataFrame, *, x: str, columns: int = 2, title: str = "", notes: Sequence[str] = ()) -> Figure:
    """Draw a line for each backbone and strategy, with a band of the 95 % intervals where the frame has them.

    The axis is logarithmic where the values span more than a decade. Values that are no numbers are categories.

    Args:
        frame: rows of one section of a leaderboard, see `bench.report.frame.leaderboard_frame`; the rows of
            `bench.report.section.Section` have intervals, too.
        x: the setting, a column of `frame`.
        columns: width in columns of a paper, 1 or 2.
        title: above the figure.
        notes: sentences below it.

    Returns:
        A matplotlib figure.

    Raises:
        BenchError: rows of several sections, or a setting that no row has or that has one value.
    """
    check_one_section(frame)
    rows = _scored(frame)
    lines = _lines(rows, x) if x in _settings(rows) else []
    if not lines:
        raise _nothing_varies(frame, x)
    with report_style():
        drawn = pd.concat(lines)
        classical = frame[(frame["backbone"] == CLASSICAL) & frame["complete"]]
        far = far_scores(drawn, classical, columns)
        near = len(classical) > 0 and any(score not in far for score in score_names(columns))
        groups = [*method_groups(drawn, lines=True), Group("other", _references(drawn, near))]
        notes = [*_captions(frame, drawn, x), *far_notes(classical, far), *notes]
        title = random_title(title, drawn["weights"])
        figure, panels = score_panels(groups, columns=columns, title=title, notes=notes)
        for score, panel in panels.items():
            labels = [name for name in _settings(drawn) if name != x]
            reference = classical[:0] if score in far else classical
            _draw_panel(
                panel, lines, score, x, reference, telling_texts(_firsts(lines), labels, with_backbone=columns == 1)
            )
    return figure


def _firsts(lines: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame([rows.iloc[0] for rows in lines]).reset_index(drop=True)


def _settings(rows: pd.DataFrame) -> list[str]:
    return [str(name) for name in rows if name in COMMON or str(name).startswith(("strategy.", "train.", "predict."))]


def _scored(frame: pd.DataFrame) -> pd.DataFrame:
    scored = frame[[f"{score}_mean" for score in SCORE_TITLES]].notna().any(axis=1)
    return frame[(frame["backbone"] != CLASSICAL) & (frame["n_ok"] > 0) & scored]


def _lines(rows: pd.DataFrame, x: str) -> list[pd.DataFrame]:
    """Return the rows of each line in the order of its values: methods that have several, other settings equal."""
    known = rows[rows[x].map(lambda value: not pd.isna(value))]
    others = [name for name in _settings(known) if name != x]
    keys = [known[name] for name in ("backbone", "strategy")]
    keys += [known[name].map(lambda value: "–" if pd.isna(value) else repr(value)) for name in others]
    groups = [group for _, group in known.groupby(keys, sort=True) if group[x].map(repr).nunique() > 1]
    order = _order(known[x])
    return [group.sort_values(x, key=lambda values: values.map(order), kind="stable") for group in groups]


def _order(values: pd.Series) -> dict[Any, int]:
    """Return the place of each value: numbers by size, all else by name."""
    if numeric(values):
        return {value: place for place, value in enumerate(sorted(set(values)))}
    return {value: place for place, value in enumerate(sorted(set(values), key=str))}


def _nothing_varies(frame: pd.DataFrame, x: str) -> BenchError:
    rows = _scored(frame)
    others = ", ".join(name for name in varying(frame) if name != x)
    advice = (
        f"Settings with several values: {others}."
        if others
        else ("No setting has several values; plan a sweep with `bench run --set strategy.rank=1,4,8`.")
    )
    if x in ("seed", "fold"):
        return BenchError(f"{x} is no axis: scores are means over folds and seeds. {advice}")
    longer = [name for name in _settings(rows) if name.rpartition(".")[2] == x != name]
    if longer:
        return BenchError(
            f"--x: unknown cost or setting {x!r}. Did you mean {' or '.join(map(repr, longer))}? {advice}"
        )
    if x not in _settings(rows):
        return BenchError(f"--x: {unknown('cost or setting', x, [*COSTS, *_settings(rows)])} {advice}")
    values = sorted({setting(row, x) for _, row in rows.iterrows()} - {"–"})
    if len(values) > 1:
        return BenchError(
            f"{x} has several values ({legible(', '.join(values), 60)}), but no method has two of them with all other "
            f"settings equal. {advice}"
        )
    return BenchError(f"{x} has {f'one value ({values[0]})' if values else 'no value'} in all rows. {advice}")


def _draw_panel(
    panel: Axes, lines: Sequence[pd.DataFrame], score: str, x: str, classical: pd.DataFrame, texts: Mapping[int, str]
) -> None:
    drawn = pd.concat(lines)
    place = _set_axis(panel, drawn[x], x)
    mean, low, high = bounds(drawn, score)
    reference = 100 * classical[f"{score}_mean"].dropna().to_numpy(float)
    limit_heights(panel, np.concatenate([mean, low, high, reference]))
    for value in reference:
        panel.axhline(value, color=DARK, linewidth=0.9, linestyle="dashed", zorder=2, label=CLASSICAL)
    for rows in lines:
        _draw_line(panel, rows[rows[f"{score}_mean"].notna()], score, x, place)
    spots = np.column_stack([place(drawn[x]), mean])
    write_labels(panel, _labels(lines, score, x, place, texts), spots, np.empty((0, 2, 2)))


def _draw_line(panel: Axes, rows: pd.DataFrame, score: str, x: str, place: Any) -> None:
    if rows.empty:
        return
    first = rows.iloc[0]
    colour, marker = strategy_colour(first["strategy"]), backbone_marker(first["backbone"])
    places, (mean, low, high) = place(rows[x]), bounds(rows, score)
    style: dict[str, Any] = {"color": colour, "linestyle": strategy_line(first["strategy"]), "zorder": 3}
    whole = rows["complete"].to_numpy(bool)
    joined = np.where(whole, mean, np.nan)  # a mean over fewer folds is no point of the line
    panel.plot(places, joined, label=f"{first['backbone']} {first['strategy']}", **style)
    if not np.isnan(low).all():
        panel.fill_between(places, low, high, where=whole, color=colour, alpha=0.13, linewidth=0, zorder=1.5)
        neighbours = np.concatenate([[False], whole, [False]])
        alone = ~whole | ~(neighbours[:-2] | neighbours[2:])
        panel.vlines(places[alone], low[alone], high[alone], color=colour, alpha=0.7, linewidth=0.7, zorder=2)
    for complete in (True, False):
        own = (rows["complete"] == complete).to_numpy()
        panel.plot(
            places[own],
            mean[own],
            linestyle="none",
            marker=marker,
            markersize=4.2,
            markerfacecolor=colour if complete else "white",
            markeredgecolor="white" if complete else colour,
            markeredgewidth=0.3 if complete else 0.8,
            zorder=4,
        )


def _set_axis(panel: Axes, values: pd.Series, x: str) -> Any:
    """Set the horizontal axis for the values of a setting; return the function that gives their positions."""
    order, inches = _order(values), panel_inches(panel)
    names = list(order)
    if not numeric(values):
        texts = [legible(str(name), CATEGORY_LENGTH) for name in names]
        crowded = max(map(len, texts)) * len(texts) * 0.05 > inches
        panel.set_xticks(range(len(names)), texts, rotation=25 if crowded else 0, ha="right" if crowded else "center")
        panel.set_xlim(-0.4, len(names) - 0.6)
        panel.set_xlabel(x, labelpad=3)
        return lambda given: given.map(order).to_numpy(float)
    numbers = values.astype(float)
    positive = numbers[numbers > 0]
    if numbers.min() >= 0 and len(positive) and positive.max() / positive.min() > DECADE:
        axis = cost_axis(numbers, inches)
        axis.apply_to(panel, x)
        if len(names) * 0.3 < inches:  # the values themselves, where there is room
            panel.set_xticks(axis.place(pd.Series(names, dtype=float)).tolist(), [tick(float(name)) for name in names])
        return lambda given: axis.place(given.astype(float)).to_numpy(float)
    if len(names) * 0.3 < inches:
        panel.set_xticks([float(name) for name in names], [f"{name:g}" for name in names])
    span = float(numbers.max() - numbers.min())
    panel.set_xlim(numbers.min() - 0.08 * span, numbers.max() + 0.08 * span)
    panel.set_xlabel(x, labelpad=3)
    return lambda given: given.to_numpy(float)


def _labels(lines: Sequence[pd.DataFrame], score: str, x: str, place: Any, texts: Mapping[int, str]) -> list[Label]:
    """Return names at the ends of lines that colour and marker don't tell apart."""
    labels = []
    for line, text in texts.items():
        rows = lines[line].dropna(subset=[f"{score}_mean"])
        if len(rows):
            labels.append(Label(place(rows[x])[-1], 100 * float(rows[f"{score}_mean"].iloc[-1]), text, needed=True))
    return labels


def _references(rows: pd.DataFrame, classical: bool) -> list[Any]:
    handles = []
    if classical:
        handles.append(handle("classical pipeline", linestyle="dashed", color=DARK))
    if not rows["complete"].all():
        handles.append(handle("folds missing, not joined", marker="o", markerfacecolor="white", color="0.35"))
    return handles


def _captions(frame: pd.DataFrame, drawn: pd.DataFrame, x: str) -> list[str]:
    seeds = " and seeds" if (drawn["n_seeds"] > 1).any() else ""
    has = any(f"{score}_low" in drawn and drawn[f"{score}_low"].notna().any() for score in SCORE_TITLES)
    bands = "bands: 95 % confidence intervals" if has else "no confidence intervals"
    lines = [f"Means over folds{seeds}; {bands}. Along a line, all settings but {x} are equal."]
    left_out = len(_scored(frame)) - len(drawn)
    if left_out:
        lines.append(f"Not drawn, because they have one value of {x} or none: {left_out} rows.")
    return [*lines, *random_notes(drawn["weights"])]
