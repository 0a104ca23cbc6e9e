"""Plots: accuracy against cost, one figure per section, as PNG and SVG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.axis import CostAxis, cost_axis
from bench.report.canvas import load_seaborn, report_style, save
from bench.report.section import Section, row_name, row_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {"pq": "PQ", "aji": "AJI", "dice": "Dice"}
COSTS = {
    "parameters": ("parameters_trainable_encoder", 1.0, "trainable parameters of the encoder"),
    "total": ("parameters_trainable", 1.0, "trainable parameters in all"),
    "latency": ("latency_ms", 1.0, "latency, ms (encoder + decoder + post-processing)"),
    "memory": ("peak_bytes", 2.0**-30, "peak memory, GiB (of training, where a row trains)"),
}
# Filled shapes only (a plus would pass for an error bar).
MARKERS = ("o", "s", "D", "^", "v", "X", "*", "p", "<", ">", "h", "d")
GREY, DARK, PALE = "0.45", "0.2", "0.72"


@dataclass(frozen=True)
class Appearance:
    """Colour of each strategy and marker of each backbone, the same in all figures of one call."""

    colours: dict[str, Any]
    markers: dict[str, str]


def pareto(sections: Sequence[Section], path_stem: Path, *, x: str = "parameters") -> list[Path]:
    """Draw PQ, AJI and Dice against one cost, with the Pareto front and reference lines.

    Colour is the strategy, marker the backbone; error bars are the sd over folds. The front runs over
    complete rows. A row that trains nothing stands at a 0 left of a break in the logarithmic axis.

    Args:
        sections: one figure each.
        path_stem: start of the file names; dataset, digest and folds are added.
        x: ``parameters`` (trainable ones of the encoder), ``total`` (all trainable ones), ``latency`` or ``memory``.

    Returns:
        The files written, PNG before SVG.

    Raises:
        BenchError: an unknown cost, or no row with scores and this cost.
    """
    if x not in COSTS:
        raise BenchError(f"unknown cost {x!r}; known: {', '.join(COSTS)}.")
    drawable = [section for section in sections if len(_points(section, x))]
    if not drawable:
        raise BenchError(f"no record has both scores and {x}; finish at least one run with `bench run` first.")
    appearance, paths = _appearance(sections), []
    for section in drawable:
        figure = draw(section, x=x, appearance=appearance)
        name = f"{path_stem.name}_{section.file_stem}"
        paths += [save(figure, path_stem.with_name(f"{name}.{suffix}")) for suffix in ("png", "svg")]
    return paths


def draw(section: Section, *, x: str = "parameters", appearance: Appearance | None = None) -> Figure:
    """Return the figure of one section: three panels with the same cost axis, and the legends below."""
    seaborn = load_seaborn()
    from matplotlib.figure import Figure

    appearance = appearance or _appearance([section])
    points = _points(section, x)
    axis, label = cost_axis(points["x"]), COSTS[_known_cost(section, x)][2]
    with report_style():
        figure = Figure(figsize=(14, 6.2), dpi=150)
        panels = figure.subplots(1, 3)
        figure.subplots_adjust(left=0.03, right=0.885, top=0.89, bottom=0.275, wspace=0.68)
        for panel, (score, title) in zip(panels, SCORES.items(), strict=True):
            _draw_points(panel, points, score, axis, appearance)
            _label_duplicates(panel, section, points, score, axis)
            _draw_front(panel, points, score, axis)
            _draw_references(panel, section, score)
            axis.apply_to(panel, label)
            panel.set_title(f"{title}, %", loc="left", fontsize=9)
            seaborn.despine(ax=panel)
        _draw_legends(figure, section, points, appearance)
        weights = " · RANDOM WEIGHTS" if (points["weights"] == "random").any() else ""
        figure.suptitle(f"{section.title}{weights}", x=0.03, ha="left", fontsize=10, weight="bold")
        caption = "\n".join(_captions(section, points, x))
        figure.text(0.03, 0.015, caption, fontsize=7, color=GREY, va="bottom")
    return figure


def front(points: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the complete rows that no row of the same or a lower cost beats on mean `score`, by rising cost ``x``."""
    ordered = points[points["complete"]].sort_values(["x", f"{score}_mean"], ascending=[True, False])
    best = ordered[f"{score}_mean"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered[f"{score}_mean"] > best]


def _known_cost(section: Section, x: str) -> str:
    """Return `x`, or ``total`` where the section's records don't tell the encoder's parameters apart."""
    return "total" if x == "parameters" and not section.encoder_apart else x


def _points(section: Section, x: str) -> pd.DataFrame:
    """Return rows with scores and this cost; ``x`` is the cost in the axis's unit. The classical row is a line."""
    column, factor, _ = COSTS[_known_cost(section, x)]
    rows = section.rows.assign(x=section.rows[column] * factor)
    return rows[(rows["backbone"] != CLASSICAL) & rows["x"].notna() & (rows["n_ok"] > 0)]


def _appearance(sections: Sequence[Section]) -> Appearance:
    rows = pd.concat([section.rows for section in sections])
    models = rows[rows["backbone"] != CLASSICAL]
    strategies, backbones = sorted(set(models["strategy"])), sorted(set(models["backbone"]))
    palette = load_seaborn().color_palette("colorblind" if len(strategies) <= 10 else "husl", len(strategies))
    markers = [MARKERS[place % len(MARKERS)] for place in range(len(backbones))]
    return Appearance(dict(zip(strategies, palette, strict=True)), dict(zip(backbones, markers, strict=True)))


def _draw_points(panel: Axes, points: pd.DataFrame, score: str, axis: CostAxis, appearance: Appearance) -> None:
    for (_, row), place in zip(points.iterrows(), axis.place(points["x"]), strict=True):
        colour, hollow = appearance.colours[row["strategy"]], not row["complete"]
        sd = row[f"{score}_sd"]
        panel.errorbar(
            place,
            100 * row[f"{score}_mean"],
            yerr=None if pd.isna(sd) else 100 * sd,
            fmt=appearance.markers[row["backbone"]],
            markersize=6.5,
            color=colour,
            elinewidth=0.9,
            markerfacecolor="white" if hollow else colour,
            markeredgecolor=colour if hollow else "white",
            markeredgewidth=1.2 if hollow else 0.5,
            zorder=4,
            label=row["cell"],
        )


def _label_duplicates(panel: Axes, section: Section, points: pd.DataFrame, score: str, axis: CostAxis) -> None:
    """Write the settings beside points that share backbone and strategy, and so colour and marker."""
    duplicates = points[points.duplicated(["backbone", "strategy"], keep=False)]
    for (_, row), place in zip(duplicates.iterrows(), axis.place(duplicates["x"]), strict=True):
        text = ", ".join(row_settings(row, section.settings))
        spot = (place, 100 * row[f"{score}_mean"])
        # Towards the middle: the right margin belongs to the names of the reference lines.
        side, shift = ("left", 5) if place < math.sqrt(axis.left * axis.right) else ("right", -5)
        style: dict[str, Any] = {"fontsize": 5.5, "ha": side, "zorder": 5}
        panel.annotate(text, spot, xytext=(shift, -8), textcoords="offset points", **style)


def _draw_front(panel: Axes, points: pd.DataFrame, score: str, axis: CostAxis) -> None:
    best = front(points, score)
    if best.empty:
        return
    places, heights = axis.place(best["x"]).tolist(), (100 * best[f"{score}_mean"]).tolist()
    line: dict[str, Any] = {"color": DARK, "linewidth": 1, "zorder": 3, "label": "Pareto front"}
    panel.step([*places, axis.right], [*heights, heights[-1]], where="post", **line)


def _shown_published(section: Section) -> pd.DataFrame:
    """Return the published rows that get a line: comparable ones, and none beside made-up images."""
    return section.published[section.published["comparable"] & section.real_tissue]


def _draw_references(panel: Axes, section: Section, score: str) -> None:
    """Draw comparable published rows as thin lines, the classical row dashed; label both at the right."""
    published = _shown_published(section)
    published = published[published[score].notna()]
    classical = section.rows[(section.rows["backbone"] == CLASSICAL) & section.rows["complete"]]
    lines = [(float(row[score]), str(row["model"])) for _, row in published.iterrows()]
    lines += [(100 * float(value), CLASSICAL) for value in classical[f"{score}_mean"].dropna()]
    lines.sort()
    for value, name in lines:
        line: dict[str, Any] = {"color": PALE, "linewidth": 0.7}
        if name == CLASSICAL:
            line = {"color": DARK, "linewidth": 1.1, "linestyle": "dashed"}
        panel.axhline(value, zorder=2, label=name, **line)
    panel.margins(y=0.06)
    panel.autoscale_view(scalex=False)
    low, high = panel.get_ylim()
    across = panel.get_yaxis_transform()
    heights = spread([value for value, _ in lines], gap=(high - low) / 34, top=high)
    for (value, name), height in zip(lines, heights, strict=True):
        colour = "black" if name == CLASSICAL else GREY
        panel.plot([1, 1.03], [value, height], color=PALE, linewidth=0.6, transform=across, clip_on=False)
        text = f"{name} {value:.1f}"
        panel.text(1.04, height, text, transform=across, fontsize=6.5, va="center", color=colour)
    panel.set_ylim(low, high)


def spread(values: Sequence[float], *, gap: float, top: float) -> list[float]:
    """Return sorted values moved apart until neighbours differ by `gap`; none ends above `top`."""
    up, down = list(values), list(values)
    for place in range(1, len(values)):
        up[place] = max(up[place], up[place - 1] + gap)
    for place in range(len(values) - 2, -1, -1):
        down[place] = min(down[place], down[place + 1] - gap)
    middle = [(above + below) / 2 for above, below in zip(up, down, strict=True)]
    for place in range(len(values) - 1, -1, -1):
        middle[place] = min(middle[place], top)
        top = middle[place] - gap
    return middle


def _draw_legends(figure: Figure, section: Section, points: pd.DataFrame, appearance: Appearance) -> None:
    from matplotlib.lines import Line2D

    def mark(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6.5, **style})

    strategies, backbones = sorted(set(points["strategy"])), sorted(set(points["backbone"]))
    colours = [mark(name, marker="o", color=appearance.colours[name]) for name in strategies]
    markers = [mark(name, marker=appearance.markers[name], color="0.35") for name in backbones]
    others = [mark("Pareto front", linestyle="solid", color=DARK)]
    if section.classical_pq is not None:
        others.append(mark("classical pipeline", linestyle="dashed", color=DARK))
    if len(_shown_published(section)):
        others.append(mark("published", linestyle="solid", color=PALE))
    if not points["complete"].all():
        others.append(mark("folds missing", marker="o", markerfacecolor="white", color="0.35"))
    groups = ((colours, "strategy", 0.03), (markers, "backbone", 0.29), (others, "reference", 0.59))
    for handles, title, left in groups:
        figure.legend(
            handles=handles,
            title=title,
            loc="upper left",
            bbox_to_anchor=(left, 0.2),
            frameon=False,
            ncols=2,
            alignment="left",
            title_fontproperties={"weight": "bold", "size": 8},
            fontsize=7.5,
        )


def _captions(section: Section, points: pd.DataFrame, x: str) -> list[str]:
    lines = ["Mean over folds; error bars: sd over folds."]
    if len(_shown_published(section)):
        same = "same folds and images" if section.shares_ranks else "on other images: for orientation only"
        lines[0] += f" Grey lines: published on {section.published_on}, {same}."
    rows = section.rows[section.rows["backbone"] != CLASSICAL].drop(index=points.index)
    missing = [row_name(row, section.settings) for _, row in rows.iterrows()]
    if missing:
        more = f" and {len(missing) - 12} more" if len(missing) > 12 else ""
        text = f"Not drawn, without scores or {x}: {', '.join(missing[:12])}{more}."
        lines += textwrap.wrap(text, 230)
    devices = sorted(set(points["device_name"]) - {""})
    if x == "parameters" and not section.encoder_apart:
        lines.append("These records don't tell the trainable parameters of encoder and decoder apart.")
    if x not in ("parameters", "total") and devices:
        kind = " Memory is the whole process's." if x == "memory" and "rss" in set(points["memory_kind"]) else ""
        lines.append(f"Measured on {', '.join(devices)}.{kind}")
    if (points["weights"] == "random").any():
        lines.append("Random weights: no pre-training. Such points show that the harness works, nothing more.")
    return lines
