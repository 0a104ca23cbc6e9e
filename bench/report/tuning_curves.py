"""Tuning curves: PQ on the inner validation images against the encoder rates that were tried, and the chosen rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.columns import Column
from bench.errors import BenchError
from bench.report import figure_rows
from bench.report.canvas import figure_width, load_seaborn, report_style
from bench.report.figure_rows import METHOD, Drawable
from bench.report.figure_text import NOTE_SIZE, mark, n_lines, plain, set_notes, set_title, shown_names
from bench.report.table import Block
from bench.results.record import RunRecord, read_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

CANDIDATE = ["encoder_lr", "status", "pq", "aji", "dice", "seconds", "reason"]
COLUMNS = [*METHOD, "tuning_id", "fold", "epochs", *CANDIDATE, "chosen"]
LONGEST_NAME = 60
LINE_HEIGHT = 0.13
"""Height of a line of the legend in inches."""
MOST_TICKS = 9
NOTE = (
    "Each point is a short training on one fold with that peak rate of the encoder; a ring: the rate that was chosen. "
    "Rates that diverged have no point."
)
NONE = "–"


def frames(results: Path, sections: Sequence[Drawable] | None = None) -> list[Drawable]:
    """Return the trials of the tuned runs of each section, see `of_records`.

    Args:
        results: the results folder.
        sections: the runs of each section, see `bench.report.figure_rows.run_frames`; None reads their records.

    Raises:
        BenchError: there are no records.
    """
    unreadable: list[str] = []
    sections = figure_rows.run_frames(results, unreadable) if sections is None else sections
    trials = of_records(sections, read_all(results, unreadable, history=False))
    for sentence in dict.fromkeys(unreadable):  # a damaged record was read twice
        logger.warning(sentence)
    return trials


def of_records(sections: Iterable[Drawable], records: Iterable[RunRecord]) -> list[Drawable]:
    """Return the trials of each section that has any: `COLUMNS`, a row for each rate of each tuning.

    Scores are fractions.

    Args:
        sections: runs with their ``id`` and the columns `METHOD`.
        records: theirs, among others.
    """
    blocks = {record.id: record.tuning for record in records if (record.tuning or {}).get("candidates")}
    drawables = []
    for runs in sections:
        rows: dict[tuple[str, str], list[dict[str, object]]] = {}
        for run_id, *method in runs.frame[["id", *METHOD]].itertuples(index=False):
            block = blocks.get(run_id)
            if block is None:
                continue
            common = {**dict(zip(METHOD, method, strict=True)), "tuning_id": block["id"]}
            common |= {"fold": block["fold"], "epochs": block["epochs"]}
            rows[method[0], block["id"]] = [
                {**common, **candidate, "chosen": candidate["encoder_lr"] == block["chosen"]}
                for candidate in block["candidates"]
            ]
        if rows:
            frame = pd.DataFrame([row for own in rows.values() for row in own], columns=COLUMNS)
            drawables.append(Drawable(runs.title, runs.stem, frame, runs.notes))
    return drawables


def table(frame: pd.DataFrame) -> Block:
    """Return the trials as a table, a row for each rate; see `of_records`."""
    rows = [row for _, row in frame.iterrows()]

    def numbers(title: str, name: str, factor: float, digits: int) -> Column:
        values = [NONE if pd.isna(row[name]) else f"{factor * row[name]:.{digits}f}" for row in rows]
        return Column(title, values)

    columns = [
        Column("method", [row["method"] for row in rows], right=False),
        Column("fold", [str(row["fold"]) for row in rows]),
        Column("epochs", [str(row["epochs"]) for row in rows]),
        Column("encoder rate", [f"{row['encoder_lr']:g}" for row in rows]),
        *(numbers(title, name, 100, 1) for title, name in (("PQ", "pq"), ("AJI", "aji"), ("Dice", "dice"))),
        numbers("seconds", "seconds", 1, 0),
        Column(
            "", ["chosen" if row["chosen"] else row["status"] * (row["status"] != "ok") for row in rows], right=False
        ),
    ]
    notes = ["Scores on the inner validation images of the fold, in percent; no trial reads the fold's test images."]
    return Block("", columns, notes)


def figures(results: Path, *, columns: int = 2) -> list[tuple[str, Figure]]:
    """Return the curves of each section, under the part of its file name."""
    return figure_rows.figures(frames(results), draw, columns)


def draw(frame: pd.DataFrame, *, title: str = "", notes: Sequence[str] | None = (), columns: int = 2) -> Figure:
    """Draw PQ on the validation images against the tried rates, a line for each tuning.

    Args:
        frame: see `of_records`.
        title: above the figure.
        notes: sentences below it, after `NOTE`; None has no note at all.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: there are no trials.
    """
    if frame.empty or frame["pq"].isna().all():
        raise BenchError("no tuning to draw; `bench run --tune N` tries encoder rates.")
    seaborn = load_seaborn()
    from matplotlib.figure import Figure

    notes = [] if notes is None else [NOTE, *notes]
    tunings = [own for _, own in frame.groupby(["method", "tuning_id"], sort=False)]
    several = frame.groupby("method")["tuning_id"].nunique().gt(1).any()
    names = [str(own["method"].iloc[0]) + f", fold {own['fold'].iloc[0]}" * bool(several) for own in tunings]
    lines_of_legend = math.ceil(len(names) / columns)
    with report_style():
        height = 2.2 + 0.09 * n_lines(notes, columns=columns) + LINE_HEIGHT * lines_of_legend
        figure = Figure(figsize=(figure_width(columns), height), layout="constrained", dpi=200)
        (block,) = figure.subfigures(1, 1, squeeze=False)[:, 0]  # its legend stays below the figure's title
        axes = block.subplots()
        for own, name in zip(tunings, shown_names(names, LONGEST_NAME), strict=True):
            _draw_tuning(axes, own, name)
        _set_rates(axes, sorted(frame["encoder_lr"].unique()))
        axes.set_xlabel("peak rate of the encoder")
        axes.set_ylabel("validation PQ, %")
        seaborn.despine(ax=axes)
        legend = block.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=NOTE_SIZE)
        for text in legend.get_texts():
            plain(text)
        set_title(figure, title, columns=columns)
        set_notes(figure, notes, columns=columns)
    return figure


def _draw_tuning(axes: Axes, own: pd.DataFrame, name: str) -> None:
    """Draw the rates of one tuning that did not diverge, and a ring around the chosen one."""
    scored, style = own[own["pq"].notna()].sort_values("encoder_lr"), mark(own.iloc[0], size=3.5)
    rates, scores = scored["encoder_lr"].to_numpy(float), 100 * scored["pq"].to_numpy(float)
    axes.plot(rates, scores, **{**style, "linestyle": "-", "linewidth": 1}, label=name, zorder=3)
    chosen = scored["chosen"].to_numpy(bool)
    ring: dict[str, Any] = {
        "marker": "o",
        "markersize": 8,
        "markerfacecolor": "none",
        "markeredgewidth": 0.9,
        "linestyle": "none",
    }
    axes.plot(rates[chosen], scores[chosen], markeredgecolor=style["color"], label="_ring", zorder=4, **ring)


def _set_rates(axes: Axes, rates: Sequence[float]) -> None:
    """Make the axis logarithmic, with a tick at each tried rate, or at every second, third, … where they are many."""
    from matplotlib.ticker import NullLocator

    shown = rates[:: math.ceil(len(rates) / MOST_TICKS)]
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{rate:g}" for rate in shown])
