"""Panel of a score against a cost: points with intervals, the Pareto front, published scores, and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.grid import CLASSICAL
from bench.report import may_have_seen
from bench.report.appearance import backbone_marker, strategy_colour
from bench.report.axis import CostAxis
from bench.report.canvas import SMALLEST
from bench.report.figure_text import legible
from bench.report.point_labels import Label, write_labels
from bench.report.score_panels import DARK, NAME_LENGTH, PALE, bounds, limit_heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path as MarkerPath

BUSY_MARK = "‡"
"""Sign beside a point whose cost was measured on a busy machine."""
BESIDE = 5.0
"""Points between a marker and its sign, rightwards and upwards."""
CROWDED = 60
"""With more points than these, they are smaller."""
MOST_NAMED = 300
"""With more points than these, those of the front get no names."""


def draw_panel(
    panel: Axes,
    points: pd.DataFrame,
    score: str,
    axis: CostAxis,
    published: pd.DataFrame,
    classical: pd.DataFrame,
    labels: Mapping[int, str],
) -> None:
    """Draw one score into an empty panel whose horizontal axis is set.

    Args:
        panel: the panel.
        points: rows with the cost ``x``, ``complete``, ``busy`` (a cost of a busy machine) and ``may_have_seen``.
        score: pq, aji or dice.
        axis: of the costs.
        published: see `published_points`.
        classical: complete rows of the classical pipeline.
        labels: what tells a row from others that look alike, by index of `points`.
    """
    shown = points[points[f"{score}_mean"].notna()]
    places = axis.place(shown["x"]).to_numpy(float)
    mean, low, high = bounds(shown, score)
    heights = published[score].dropna() if len(published) else pd.Series(dtype=float)
    reference = 100 * classical[f"{score}_mean"].dropna().to_numpy(float)
    limit_heights(panel, np.concatenate([mean, low, high, heights.to_numpy(float), reference]))
    _draw_points(panel, shown, places, mean, low, high)
    signs = _draw_busy(panel, np.column_stack([places, mean])[shown["busy"].to_numpy(bool)])
    best = front(shown, score)
    steps = _draw_front(panel, axis, best, score)
    for value in reference:
        panel.axhline(value, color=DARK, linewidth=0.9, linestyle="dashed", zorder=2, label=CLASSICAL)
    _draw_published(panel, heights, published)
    middles = np.column_stack([places, mean])
    spots = {int(str(row)): (float(spot[0]), float(spot[1])) for row, spot in zip(shown.index, middles, strict=True)}
    names = [Label(*spots[row], text=text, needed=True) for row, text in labels.items() if row in spots]
    if len(shown) <= MOST_NAMED:
        others = best[~best.index.isin(list(labels))]
        names += [Label(*spots[int(str(row))], text=_two_lines(values)) for row, values in others.iterrows()]
    bars = np.stack([np.column_stack([places, low]), np.column_stack([places, high])], axis=1)[~np.isnan(low)]
    across = np.array([[(axis.left, value), (axis.right, value)] for value in reference]).reshape(-1, 2, 2)
    write_labels(panel, names, np.concatenate([middles, signs]), np.concatenate([bars, steps, across]))


def front(points: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the rows that no row of the same or a lower cost beats on mean `score`, by rising cost ``x``.

    Rows with missing folds, or whose cost was measured on a busy machine, take no part; nor do, beside others, rows
    whose pre-training may have seen the images.
    """
    eligible = points["complete"] & ~points["busy"]
    eligible &= ~may_have_seen.unranked(points, eligible, is_shared=False)
    ordered = points[eligible].sort_values(["x", f"{score}_mean"], ascending=[True, False], kind="stable")
    best = ordered[f"{score}_mean"].cummax().shift(fill_value=-math.inf).ffill()
    return ordered[ordered[f"{score}_mean"] > best]


def published_points(published: pd.DataFrame | None) -> pd.DataFrame:
    """Return published rows, best first, by the letter that stands at their points; ``text`` is name and PQ."""
    if published is None or published.empty:
        return pd.DataFrame({"text": []})
    rows = published.sort_values("pq", ascending=False, kind="stable", na_position="last")
    texts = [
        legible(str(name), NAME_LENGTH) + ("" if pd.isna(pq) else f" {pq:.1f}")
        for name, pq in zip(rows["model"], rows["pq"], strict=True)
    ]
    keys = [_letter(place) for place in range(len(rows))]
    return rows.assign(text=texts).set_axis(keys, axis=0)


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


def _letter(place: int) -> str:
    """Return a, b, … z, aa, ab, …."""
    rest, letter = divmod(place, len(ascii_lowercase))
    return (_letter(rest - 1) if rest else "") + ascii_lowercase[letter]


def _two_lines(row: pd.Series) -> str:
    return "\n".join(legible(str(row[name]), NAME_LENGTH) for name in ("backbone", "strategy"))


def _draw_points(
    panel: Axes, rows: pd.DataFrame, places: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """Draw all rows that look alike at once: ten thousand single ones would take minutes."""
    crowded = len(rows) > CROWDED
    kinds = rows.assign(place=np.arange(len(rows))).groupby(
        ["strategy", "backbone", "complete", "busy"], sort=True, dropna=False
    )
    for (strategy, backbone, complete, busy), own in kinds:
        at = own["place"].to_numpy()
        colour = strategy_colour(str(strategy))
        hollow = busy or not complete
        bars = np.stack([mean[at] - low[at], high[at] - mean[at]])
        panel.errorbar(
            places[at],
            mean[at],
            yerr=None if np.isnan(bars).all() else np.nan_to_num(bars),
            fmt=backbone_marker(str(backbone)),
            markersize=3.6 if crowded else 4.5,
            color=colour,
            ecolor=(colour, 0.45 if crowded else 0.7),
            elinewidth=0.5 if crowded else 0.7,
            markerfacecolor=_face(colour, complete=bool(complete), busy=bool(busy)),
            markeredgecolor=colour if hollow else "white",
            markeredgewidth=0.8 if hollow else 0.3,
            zorder=4,
            label=f"{backbone} {strategy}",
        )


def _face(colour: str, *, complete: bool, busy: bool) -> str:
    """Return the fill of a marker: white where folds are missing, pale where the machine was busy."""
    from matplotlib.colors import to_hex, to_rgb

    if not complete:
        return "white"
    red, green, blue = (0.35 * part + 0.65 for part in to_rgb(colour))
    return to_hex((red, green, blue)) if busy else colour


def busy_marker() -> MarkerPath:
    """Return the sign of a busy machine as a marker: an outline, because the figures' style reads no formulas."""
    from matplotlib.path import Path as MarkerPath
    from matplotlib.textpath import TextPath

    outline = TextPath((0, 0), BUSY_MARK, size=10)
    corners = np.array(outline.get_extents().get_points())
    return MarkerPath(np.asarray(outline.vertices) - corners.mean(axis=0), outline.codes)


def _draw_busy(panel: Axes, middles: np.ndarray) -> np.ndarray:
    """Draw the sign of a busy machine beside points, (n, 2) in data coordinates; return the places of the signs."""
    from matplotlib.transforms import ScaledTranslation

    if not len(middles):
        return np.empty((0, 2))
    figure = panel.get_figure()
    assert figure is not None
    shift = ScaledTranslation(BESIDE / 72, BESIDE / 72, figure.dpi_scale_trans)
    place = panel.transData + shift
    style: dict[str, Any] = {"linestyle": "none", "marker": busy_marker(), "markersize": 4.5, "color": DARK}
    panel.plot(
        *middles.T, **style, markeredgewidth=0, transform=place, zorder=5, label="_busy", scalex=False, scaley=False
    )
    signs: np.ndarray = panel.transData.inverted().transform(place.transform(middles))
    return signs


def _draw_front(panel: Axes, axis: CostAxis, best: pd.DataFrame, score: str) -> np.ndarray:
    """Draw the front as steps; return them as segments, (n, 2, 2)."""
    if best.empty:
        return np.empty((0, 2, 2))
    places, heights = axis.place(best["x"]).tolist(), (100 * best[f"{score}_mean"]).tolist()
    line: dict[str, Any] = {"color": DARK, "linewidth": 0.8, "zorder": 3, "label": "Pareto front"}
    xs, ys = [*places, axis.right], [*heights, heights[-1]]
    panel.step(xs, ys, where="post", **line)
    flat = [((xs[i], ys[i]), (xs[i + 1], ys[i])) for i in range(len(places))]
    upright = [((xs[i], ys[i - 1]), (xs[i], ys[i])) for i in range(1, len(places))]
    return np.array(flat + upright)


def _draw_published(panel: Axes, heights: pd.Series, published: pd.DataFrame) -> None:
    """Draw published scores beside the panel, apart from the runs: a point each and its letter, moved from others.

    Lines through the panel were refused: they would compare rows whose folds and choices are not those of the runs.
    """
    low, high = panel.get_ylim()
    across = panel.get_yaxis_transform()
    ordered = heights.sort_values(kind="stable")
    spots = spread(ordered.tolist(), gap=(high - low) / 24, top=high)
    models: list[object] = published["model"].reindex(ordered.index).tolist() if len(published) else []
    point: dict[str, Any] = {"marker": "D", "markersize": 2.6, "markeredgewidth": 0.6, "markerfacecolor": "white"}
    for key, value, spot, model in zip(ordered.index, ordered, spots, models, strict=True):
        panel.plot([1.015, 1.035], [value, spot], color=PALE, linewidth=0.5, transform=across, clip_on=False)
        panel.plot([1.015], [value], **point, markeredgecolor="0.35", transform=across, clip_on=False, label=str(model))
        panel.text(1.042, spot, str(key), transform=across, fontsize=SMALLEST, va="center", color="0.35")
