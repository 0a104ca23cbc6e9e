"""Interactive charts as plotly's JSON: accuracy against cost, with hover."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import pandas as pd

from bench.characters import shortened
from bench.grid import CLASSICAL
from bench.report import may_have_seen
from bench.report.appearance import backbone_marker, strategy_colour
from bench.report.cost_panel import front
from bench.report.costs import COSTS, cost_values, device_notes, devices, unknown_load_notes
from bench.report.frame import busy
from bench.report.section import Section, row_name
from bench.report.site.parts import Chart
from bench.units import SCORE_TITLES, significant, tick

COUNTED = ("parameters", "total")
"""Costs with a logarithmic axis and rounded numbers."""
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "X": "x",
    "P": "cross",
    "*": "star",
    "p": "pentagon",
    "<": "triangle-left",
    ">": "triangle-right",
    "h": "hexagon",
    "H": "hexagon2",
    "d": "diamond-tall",
    "8": "octagon",
}
"""Plotly's name of each of Matplotlib's markers."""
MOST_POINTS = 500
"""Rows that a chart shows, from the best; more hide one another."""
GREY = "#8a8a8a"


def trade_off(section: Section, name: str) -> Chart | None:
    """Return accuracy against cost, a view for each score and cost; None where no row has both.

    Colour is the strategy and symbol the backbone, as in every figure; bars are the 95 % confidence intervals where
    there are any, otherwise the sd over folds. The line is the Pareto front of the complete rows.
    """
    scored = section.rows[(section.rows["backbone"] != CLASSICAL) & (section.rows["n_ok"] > 0)]
    views: dict[str, Any] = {}
    of_costs = []
    for cost in COSTS:
        points = scored.assign(x=cost_values(scored, cost), busy=busy(scored) if cost == "latency" else False)
        points = points[points["x"].notna()]
        of_costs += _cost_notes(points, cost)
        for score, title in SCORE_TITLES.items():
            shown = points[points[f"{score}_mean"].notna()].head(MOST_POINTS)
            if len(shown):
                views[f"{title} against {COSTS[cost].label}"] = _figure(section, shown, score, cost)
    if not views:
        return None
    notes = [
        "Bars: 95 % confidence intervals where there are any, else sd over folds. Dotted line: Pareto front. Hollow: "
        "folds are missing; hollow with a dot: the machine was busy. Such a row is not on the front.",
        *may_have_seen.front_notes(scored),
        *of_costs,
    ]
    if len(scored) > MOST_POINTS:
        notes.append(f"The best {MOST_POINTS} of {len(scored):,} rows by PQ.")
    alt = f"Scatter plot of mean scores against costs of {len(scored)} rows; the leaderboard above has its numbers."
    return Chart(name, "Accuracy against cost", alt, views, notes=notes)


def _cost_notes(points: pd.DataFrame, cost: str) -> list[str]:
    """Return sentences on what makes costs no fair comparison: several devices, and machines of unknown load."""
    sentences = device_notes(points, cost) if len(devices(points, cost)) > 1 else []
    if cost == "latency" and len(points):
        sentences += unknown_load_notes(points)
    return [f"Against {COSTS[cost].title}: {sentence}" for sentence in sentences]


def _figure(section: Section, points: pd.DataFrame, score: str, cost: str) -> dict[str, Any]:
    """Return a figure as plotly.js takes it. Plotly's own objects would check each value, a second for all views."""
    places, axis = _axis(points["x"].tolist(), cost)
    points = points.assign(place=places)
    best = front(points, score)
    traces = [_classical(value, places, score) for value in _classical_means(section, score)]
    if len(best):
        heights = (best[f"{score}_mean"] * 100).tolist()
        traces.append({**_line(best["place"].tolist(), heights, "dot"), "name": "Pareto front", "hoverinfo": "skip"})
    for strategy, group in points.groupby("strategy", sort=False):
        named = {"name": chart_text(str(strategy)), "legendgroup": "strategy"}
        traces.append({**_points(section, group, score, cost), **named})
    for backbone in dict.fromkeys(points["backbone"]):
        marker = {"color": GREY, "size": 9, "symbol": _symbol(backbone)}
        named = {"name": chart_text(str(backbone)), "legendgroup": "backbone"}
        traces.append({"type": "scatter", "x": [None], "y": [None], "mode": "markers", "marker": marker, **named})
    layout = {
        "height": 460,
        "margin": {"l": 50, "r": 10, "t": 10, "b": 50},
        "hovermode": "closest",
        "xaxis": {"title": {"text": COSTS[cost].label}, **axis},
        "yaxis": {"title": {"text": f"{SCORE_TITLES[score]}, %"}},
        "legend": {"itemsizing": "constant"},
    }
    return {"data": traces, "layout": layout}


def _classical_means(section: Section, score: str) -> list[float]:
    rows = section.rows
    return rows.loc[(rows["backbone"] == CLASSICAL) & rows["complete"], f"{score}_mean"].dropna().tolist()


def _classical(mean: float, places: list[float], score: str) -> dict[str, Any]:
    """Return the line of the classical pipeline, over the width of the points, as it has no cost to stand at."""
    hover = f"classical pipeline<br>{SCORE_TITLES[score]} {mean * 100:.1f} %<extra></extra>"
    line = _line([min(places), max(places)], [mean * 100] * 2, "dash")
    return {**line, "name": "classical pipeline", "hovertemplate": hover}


def _line(x: list[float], y: list[float], dash: str) -> dict[str, Any]:
    line = {"color": GREY, "width": 1.5, "dash": dash, "shape": "hv"}
    return {"type": "scatter", "x": x, "y": y, "mode": "lines", "line": line}


def _points(section: Section, group: pd.DataFrame, score: str, cost: str) -> dict[str, Any]:
    mean = group[f"{score}_mean"]
    low = group[f"{score}_low"].fillna(mean - group[f"{score}_sd"]).fillna(mean).clip(0, 1)
    high = group[f"{score}_high"].fillna(mean + group[f"{score}_sd"]).fillna(mean).clip(0, 1)
    colour = strategy_colour(str(group["strategy"].iloc[0]))
    sound = (group["complete"] & ~group["busy"]).tolist()
    names = [
        _symbol(name) + ("" if full else "-open-dot" if busy else "-open")
        for name, full, busy in zip(group["backbone"], sound, group["busy"], strict=True)
    ]
    return {
        "type": "scatter",
        "x": group["place"].tolist(),
        "y": (mean * 100).tolist(),
        "mode": "markers",
        "marker": {
            "color": colour,
            "size": 10,
            "symbol": names,
            "line": {"width": [0.5 if full else 2 for full in sound], "color": "#ffffff"},
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": ((high - mean) * 100).tolist(),
            "arrayminus": ((mean - low) * 100).tolist(),
            "thickness": 1,
            "width": 3,
            "color": colour,
        },
        "text": [_hover(section, row, score, cost) for _, row in group.iterrows()],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(section: Section, row: pd.Series, score: str, cost: str) -> str:
    interval = row[f"{score}_low"], row[f"{score}_high"]
    known = "" if pd.isna(interval[0]) else f" (95 % CI {interval[0] * 100:.1f}–{interval[1] * 100:.1f})"
    value = significant(row["x"]) if cost in COUNTED else f"{row['x']:.3g}"
    lines = [
        f"<b>{chart_text(row_name(row, section.settings))}</b>" + f" {may_have_seen.MARK}" * row["may_have_seen"],
        f"{SCORE_TITLES[score]} {row[f'{score}_mean'] * 100:.1f} %{known}",
        f"{COSTS[cost].label}: {value}",
        f"{row['n_ok']} of {row['n_expected']} runs" + (", on a busy machine" if row["busy"] else ""),
    ]
    return "<br>".join(lines)


def _axis(values: list[float], cost: str) -> tuple[list[float], dict[str, Any]]:
    """Return the places of values on the axis, and the axis: logarithmic for parameters, where 0 stands at its left."""
    positive = [value for value in values if value > 0]
    if cost not in COUNTED or not positive:
        return values, {"rangemode": "tozero"}
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    zero = 10.0 ** (low - 0.7)
    ticks = {10.0**power: tick(10.0**power) for power in range(low, max(high, low + 1) + 1)}
    if min(values) <= 0:
        ticks = {zero: "0", **ticks}
    axis = {"type": "log", "tickvals": list(ticks), "ticktext": list(ticks.values())}
    return [value if value > 0 else zero for value in values], axis


def _symbol(backbone: object) -> str:
    return SYMBOLS.get(backbone_marker(str(backbone)), "circle")


def chart_text(name: str, most: int = 60) -> str:
    """Return a name as a text of a chart: its middle left out where it is long, and no tags, which plotly reads.

    Plotly knows entities for <, > and &, and shows that of a quote as it is.
    """
    return escape(shortened(name, most), quote=False)
