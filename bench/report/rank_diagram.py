"""Critical-difference diagram: mean ranks of rows, with a bar over those that can't be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.report.canvas import load_seaborn, report_style
from bench.report.comparison import LEVEL, TITLES, p_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.report.overall import Overall

GREY = "0.3"


def rank_diagram(overall: Overall) -> Figure:
    """Draw the mean ranks of all rows, best on the left, as Demšar 2006 does.

    A bar joins rows of which no two differ by Wilcoxon's test with Holm's correction: there is no single critical
    difference, as Nemenyi's test has.

    Args:
        overall: see `bench.report.overall.compare_all`.

    Returns:
        The figure; rows with equal ranks are in the order of their names.
    """
    load_seaborn()
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    # Rows are numbered: sets of names have another order in every process, and the file would not be the same twice.
    ranks = pd.Series(overall.friedman.mean_ranks)
    apart = pd.DataFrame(np.where(np.isnan(overall.p_holm), 1.0, overall.p_holm))
    with report_style():
        figure = Figure(figsize=(7.2, 1.6 + 0.16 * len(ranks)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=False)
        drawn = critical_difference_diagram(
            ranks,
            apart,
            ax=axes,
            alpha=LEVEL,
            label_fmt_left="{label}",
            label_fmt_right="{label}",
            label_props={"fontsize": 8, "va": "center"},
            elbow_props={"color": GREY, "linewidth": 0.8},
            marker_props={"s": 14, "zorder": 3},
            crossbar_props={"color": "black", "linewidth": 2.5, "solid_capstyle": "butt"},
            text_h_margin=0.02 * max(float(np.ptp(ranks)), 0.1),
        )
        for label in drawn["labels"]:
            row = int(label.get_text())
            text = f"{overall.names[row]} ({ranks[row]:.2f})"
            label.set_text(f"{text} " if label.get_ha() == "right" else f" {text}")  # apart from the line
            label.set_color("black")
            label.set_parse_math(False)  # a dollar in a name is a dollar
        axes.tick_params(labelsize=8)
        axes.set_title(_title(overall), fontsize=9, pad=12)
    return figure


def _title(overall: Overall) -> str:
    test = "" if np.isnan(overall.friedman.p) else f"; Friedman {p_text(overall.friedman.p)}"
    return (
        f"Mean rank in {TITLES[overall.score]} on {overall.n_images} images{test}\n"
        f"bars: not told apart (Wilcoxon, Holm, {LEVEL:g})"
    )
