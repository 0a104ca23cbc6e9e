"""Accuracy against cost: PQ, AJI and Dice of every row with their 95 % confidence intervals, and the Pareto front.

In a notebook::

    from bench.report import frame, plot, reading

    records = frame.pooled(reading.read_records(Path("results")))
    plot.draw(frame.leaderboard_frame(records), x="latency")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report import may_have_seen
from bench.report.axis import cost_axis
from bench.report.baselines import baseline_frame
from bench.report.canvas import report_style
from bench.report.cost_panel import BUSY_MARK, busy_marker, draw_panel, front, published_points
from bench.report.costs import COSTS, cost_values, device_notes, unknown_load_notes
from bench.report.figure_rows import check_one_section, random_notes, random_title
from bench.report.frame import busy, leaderboard_frame, pooled
from bench.report.image_scores import interval_scores
from bench.report.look_alikes import telling_texts
from bench.report.reading import read_records
from bench.report.score_panels import (
    DARK,
    Group,
    handle,
    interval_notes,
    method_groups,
    panel_inches,
    score_names,
    score_panels,
)
from bench.report.section import Section, differing_settings, row_name, sections
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MEANINGS = {
    "latency": "Latency of one image: encoder, decoder and post-processing.",
    "memory": "Memory: of training, where a row trains.",
    "gpu-hours": "GPU-hours: training and predictions, mean over the runs of a row; runs on a CPU have none.",
}
"""Sentence on each cost that is measured."""
MOST_LABELS = 40
"""With more points that look alike, their settings would fill the panel; an ablation shows them."""
SANE = (1e-12, 1e15)
"""Costs outside are damage, and an axis for them would have no room for the others."""


def figures(
    results: Path, *, x: str = "parameters", published: bool = False, columns: int = 2, baselines: Path | None = None
) -> list[tuple[str, Figure]]:
    """Return a figure for each section (same images, same folds) with a part of its file name.

    Args:
        results: the results folder.
        x: one of `COSTS`.
        published: also draw published scores where the images are not the release's, for orientation.
        columns: width in columns of a paper.
        baselines: published scores; None takes the shipped ones.

    Raises:
        BenchError: no records, an unknown cost, or no row with scores and this cost.
    """
    _check_cost(x)
    records = pooled(read_records(results))
    parts = sections(leaderboard_frame(records), baseline_frame(baselines), interval_scores(results, records))
    parts = [part for part in parts if len(_points(part.rows, _known_cost(part.rows, x)))]
    if not parts:
        reason = " GPU-hours are measured where runs use a GPU; on a CPU there are none." if x == "gpu-hours" else ""
        raise BenchError(
            f"no record has both scores and {x}; finish at least one run with `bench run`, or choose another --x: "
            f"{', '.join(COSTS)}.{reason}"
        )
    return [(part.file_stem, _section_figure(part, x, published, columns)) for part in parts]


def _section_figure(section: Section, x: str, published: bool, columns: int) -> Figure:
    shown = section.published if section.published_here or published else section.published[:0]
    notes = interval_notes(section)
    if len(shown):
        why = "the same images; folds, choice of checkpoint and scoring are other or not known"
        where = why if section.published_here else "on other images: for orientation only"
        notes.append(f"Grey diamonds: published on {section.published_on}, {where}; not ranked with the runs.")
    return draw(section.rows, x=x, columns=columns, published=shown, title=section.title, notes=notes)


def draw(
    frame: pd.DataFrame,
    *,
    x: str = "parameters",
    columns: int = 2,
    published: pd.DataFrame | None = None,
    title: str = "",
    notes: Sequence[str] = (),
) -> Figure:
    """Draw PQ, AJI and Dice (on one column: PQ) against a cost.

    Colour is the strategy, marker the backbone. Bars are 95 % intervals where the frame has them. The front runs
    over complete rows whose cost was not measured on a busy machine, and beside others not over rows whose
    pre-training may have seen the images. A cost of 0 stands left of a break in the
    logarithmic axis.

    Args:
        frame: rows of one section of a leaderboard, see `bench.report.frame.leaderboard_frame`; the rows of
            `bench.report.section.Section` have intervals, too.
        x: one of `COSTS`.
        columns: width in columns of a paper, 1 or 2.
        published: rows of `bench.report.baselines.baseline_frame` that get a point beside the panels.
        title: above the figure.
        notes: sentences below it, after those on the bars and on what is not drawn.

    Returns:
        A matplotlib figure.

    Raises:
        BenchError: an unknown cost, rows of several sections, or none with scores and this cost.
    """
    _check_cost(x)
    check_one_section(frame)
    known = _known_cost(frame, x)
    points = _points(frame, known)
    if points.empty:
        raise BenchError(f"no row has both scores and {x}; choose another cost: {', '.join(COSTS)}.")
    with report_style():  # before all else, because it chooses the backend when Matplotlib is first imported
        classical = frame[(frame["backbone"] == CLASSICAL) & frame["complete"]]
        others = published_points(published)
        settings = differing_settings(frame[frame["backbone"] != CLASSICAL])
        labels, more = _labels(points, settings, columns)
        notes = [_bars(points), *_captions(frame, points, x, known, settings), *more, *notes]
        title = random_title(title, points["weights"])
        keys = [handle(f"{key}  {name}") for key, name in others["text"].items()]
        groups = [
            *method_groups(points),
            Group("other", _references(points, len(classical) > 0, columns)),
            Group("published", keys, key=0),
        ]
        figure, panels = score_panels(groups, columns=columns, title=title, notes=notes)
        for score, panel in panels.items():
            axis = cost_axis(points["x"], panel_inches(panel))
            axis.apply_to(panel, COSTS[known].label)
            draw_panel(panel, points, score, axis, others, classical, labels)
    return figure


def _check_cost(x: str) -> None:
    if x not in COSTS:
        raise BenchError(f"unknown cost {x!r}; known: {', '.join(COSTS)}.")


def _known_cost(frame: pd.DataFrame, x: str) -> str:
    """Return `x`, or ``total`` where no trained row tells the encoder's parameters apart."""
    trained = frame[frame["trains"].astype(bool)]
    apart = trained["parameters_trainable_encoder"].notna().any()
    return "total" if x == "parameters" and len(trained) and not apart else x


def _points(frame: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return rows with scores and this cost; ``x`` is the cost in the axis's unit. The classical row is a line."""
    cost = cost_values(frame, x)
    rows = frame.assign(
        x=cost, busy=busy(frame) if x == "latency" else False, may_have_seen=may_have_seen.marked(frame)
    )
    scored = rows[[f"{score}_mean" for score in SCORE_TITLES]].notna().any(axis=1) & (rows["n_ok"] > 0)
    drawable = (cost == 0) | cost.between(*SANE)
    return rows[(rows["backbone"] != CLASSICAL) & scored & drawable].reset_index(drop=True)


def _labels(points: pd.DataFrame, settings: Sequence[str], columns: int) -> tuple[dict[int, str], list[str]]:
    """Return what tells rows that look alike apart, by row, and a sentence where there are too many."""
    labels = telling_texts(points, settings, with_backbone=columns == 1)
    if len(labels) <= MOST_LABELS:
        return labels, []
    return {}, ["More points look alike than can be named; `bench plot --x SETTING` draws a line over a setting."]


def _references(points: pd.DataFrame, classical: bool, columns: int) -> list[Line2D]:
    """Return the entries of what is drawn besides the points."""
    handles = []
    if any(len(front(points[points[f"{score}_mean"].notna()], score)) for score in score_names(columns)):
        handles.append(handle("Pareto front", linestyle="solid", color=DARK))
    if classical:
        handles.append(handle("classical pipeline", linestyle="dashed", color=DARK))
    if not points["complete"].all():
        handles.append(handle("folds missing", marker="o", markerfacecolor="white", color="0.35"))
    if points["busy"].any():
        handles.append(handle("busy machine", marker=busy_marker(), color=DARK, markeredgewidth=0))
    return handles


def _bars(points: pd.DataFrame) -> str:
    names = [f"{score}_{end}" for score in SCORE_TITLES for end in ("low", "high")]
    has = [name in points and points[name].notna().any() for name in names]
    seeds = " and seeds" if (points["n_seeds"] > 1).any() else ""
    bars = "bars: 95 % confidence intervals." if any(has) else "no confidence intervals."
    return f"Means over folds{seeds}; {bars}"


def _captions(frame: pd.DataFrame, points: pd.DataFrame, x: str, known: str, settings: Sequence[str]) -> list[str]:
    """Return sentences on the cost, and on rows that are not drawn."""
    lines = []
    rows = frame[(frame["backbone"] != CLASSICAL) & ~frame["cell"].isin(list(points["cell"]))]
    if len(rows):
        names = [row_name(row, tuple(settings)) for _, row in rows.head(8).iterrows()]
        more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
        lines.append(f"Not drawn, without scores or {x}: {', '.join(names)}{more}.")
    if x != known:
        lines.append("These records don't tell the trainable parameters of encoder and decoder apart.")
    if known in MEANINGS:
        lines += [MEANINGS[known], *device_notes(points, known)]
    if known == "memory" and "rss" in set(points["memory_kind"]):
        lines.append("Memory is the whole process's.")
    if known == "latency":
        lines += unknown_load_notes(points)
    if points["busy"].any():
        lines.append(
            f"{BUSY_MARK}, pale: measured on a busy machine, and no part of the front; `bench measure` takes it again."
        )
    return [*lines, *may_have_seen.front_notes(points), *random_notes(points["weights"])]
