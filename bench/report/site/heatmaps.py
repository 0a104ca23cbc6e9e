"""Heat maps with hover: scores per organ, and the test of every two rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.report.comparison import JUDGED, LEVEL, MEANS, p_text
from bench.report.overall import Overall
from bench.report.section import Section, row_name
from bench.report.site.charts import chart_text
from bench.report.site.parts import Chart

MOST_ROWS = 60
"""Rows of a heat map, from the best: more are narrower than their names."""
CELL = 26
"""Pixels of a cell's side, so that a row is wide enough for a finger."""
# Blue and orange are told apart by everybody; the grey between them is "not told apart".
VERDICTS = (
    (0, "#d55e00"),
    (1 / 3, "#d55e00"),
    (1 / 3, "#bdbdbd"),
    (2 / 3, "#bdbdbd"),
    (2 / 3, "#0072b2"),
    (1, "#0072b2"),
)
NAME = 64
"""Characters of a row's name beside a map."""
ORGAN = 34
"""Characters of an organ's name below a map."""
LETTER = 6.5
"""Pixels of a letter."""


def organs(section: Section, images: pd.DataFrame, name: str) -> Chart | None:
    """Return mean PQ of each row on each organ; None where no row has scores per image.

    Args:
        section: rows, best first.
        images: cell, organ and pq of each test image, see `bench.report.image_scores.ImageScores`.
        name: of the chart.
    """
    rows = section.rows[section.rows["cell"].isin(set(images["cell"]))].head(MOST_ROWS)
    if rows.empty:
        return None
    grouped = images[images["cell"].isin(set(rows["cell"]))].groupby(["cell", "organ"])["pq"]
    tables = [table.unstack("organ").reindex(rows["cell"]) for table in (grouped.mean(), grouped.size())]
    names, columns = [row_name(row, section.settings) for _, row in rows.iterrows()], [str(c) for c in tables[0]]
    means, counts = (table.to_numpy(float) for table in tables)
    hover = [
        [_organ_hover(row, organ, means[i, j], counts[i, j]) for j, organ in enumerate(columns)]
        for i, row in enumerate(names)
    ]
    colours = {"colorscale": "Viridis", "colorbar": {"title": {"text": "PQ, %"}, "thickness": 12}}
    figure = _heat_map(names, columns, _values(means * 100), hover, colours)
    notes = [f"The best {MOST_ROWS} of {len(section.rows):,} rows."] if len(section.rows) > MOST_ROWS else []
    alt = f"Heat map of mean PQ: {len(names)} rows by {len(columns)} organs, best row at the top."
    notes += ["Mean over an organ's test images of all folds. Point at a cell for the number of images."]
    return Chart(name, "PQ per organ", alt, {"PQ": figure}, _width(names, len(columns)), notes)


def significance(overall: Overall, name: str) -> Chart:
    """Return the matrix of rows in one score, by mean rank: above, below, or not told apart (Wilcoxon, Holm)."""
    order = sorted(range(len(overall.names)), key=lambda i: (overall.friedman.mean_ranks[i], overall.names[i]))
    n_rows, order = len(order), order[:MOST_ROWS]
    names = [overall.shown(i) for i in order]
    verdicts = np.array([[_verdict(overall, i, j) for j in order] for i in order])
    hover = [[_pair_hover(overall, i, j) for j in order] for i in order]
    columns = [str(place) for place in range(1, len(order) + 1)]
    numbered = [f"{place}. {row}" for place, row in enumerate(names, 1)]
    colours = {
        "colorscale": VERDICTS,
        "zmin": -1,
        "zmax": 1,
        "colorbar": {"tickvals": [-2 / 3, 0, 2 / 3], "ticktext": ["below", "not told apart", "above"], "thickness": 12},
    }
    figure = _heat_map(numbered, columns, _values(verdicts), hover, colours, tilt=0)
    alt = f"Matrix of {len(names)} rows: whether the row is above or below the column in PQ, or not told apart."
    notes = [
        f"Colour: the row is above or below the column, p < {LEVEL:g} (Wilcoxon's signed-rank test on "
        f"{overall.n_images} images, Holm over all pairs). Columns are numbered as the rows are.",
        MEANS,
        JUDGED,
    ]
    if n_rows > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS} of {n_rows:,} rows by mean rank.")
    return Chart(name, "PQ of every two rows", alt, {"PQ": figure}, _width(numbered, len(columns)), notes)


def _verdict(overall: Overall, i: int, j: int) -> float:
    if i == j or np.isnan(overall.p_holm[i, j]):
        return np.nan
    return float(np.sign(overall.effect[i, j])) if overall.p_holm[i, j] < LEVEL else 0.0


def _pair_hover(overall: Overall, i: int, j: int) -> str:
    a, b = overall.names[i], overall.names[j]
    if i == j:
        return chart_text(a)
    difference = (overall.means[i] - overall.means[j]) * 100
    numbers = f"difference {difference:+.1f} points, rank-biserial {overall.effect[i, j]:+.2f}"
    return f"{chart_text(a, NAME)}<br>and {chart_text(b, NAME)}<br>{numbers}<br>{p_text(overall.p_holm[i, j])}"


def _organ_hover(row: str, organ: str, mean: float, n_images: float) -> str:
    known = "no images" if np.isnan(n_images) else f"PQ {mean * 100:.1f} % on {n_images:.0f} images"
    return f"{chart_text(row, NAME)}<br>{chart_text(organ, NAME)}<br>{known}"


def _heat_map(
    rows: list[str],
    columns: list[str],
    values: list[list[float | None]],
    hover: list[list[str]],
    colours: dict[str, Any],
    *,
    tilt: int = -45,
) -> dict[str, Any]:
    """Return a map as plotly.js takes it; its axes are numbered, as names need not differ once they are shortened."""
    plain = {"automargin": True, "showgrid": False, "zeroline": False}
    trace = {"type": "heatmap", "z": values, "text": hover, "xgap": 1, "ygap": 1, "hoverongaps": False}
    named = [chart_text(name, ORGAN) for name in columns]
    xaxis = {"tickvals": list(range(len(columns))), "ticktext": named, "tickangle": tilt, **plain}
    names = [chart_text(name, NAME) for name in rows]
    yaxis = {"tickvals": list(range(len(rows))), "ticktext": names, "autorange": "reversed", **plain}
    layout = {
        "height": 130 + CELL * len(rows),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "xaxis": xaxis,
        "yaxis": yaxis,
    }
    return {"data": [{**trace, "hovertemplate": "%{text}<extra></extra>", **colours}], "layout": layout}


def _width(rows: list[str], n_columns: int) -> int:
    """Return the least width of a map in pixels: names, cells, and the bar of its colours."""
    return round(160 + LETTER * min(max(map(len, rows)), NAME)) + CELL * n_columns


def _values(table: np.ndarray) -> list[list[float | None]]:
    """Return numbers for JSON, which has no NaN."""
    return [[None if np.isnan(value) else round(float(value), 3) for value in row] for row in table]
