"""Kinds of figures of `bench plot`, each with the module that draws it.

A module has ``draw(frame, …, columns=2)``, which makes a figure of a DataFrame, and ``figures(results, *,
columns=2)``, which reads a results folder and returns figures with the part of the file name that tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Callable[..., "list[tuple[str, Figure]]"]

MODULES = {
    "cost": "plot",
    "organs": "organ_map",
    "folds": "fold_scores",
    "images": "image_distributions",
    "curves": "learning_curves",
    "ranks": "rank_diagram",
    "significance": "significance",
    "tuning": "tuning_curves",
}
"""Module in `bench.report` of each kind; the choices of ``--kind`` (`bench.cli.options.Kind`) are these."""


def figures(kind: str) -> Figures:
    """Return the function that draws one kind of figure from a results folder.

    Its module is imported now, because together they would take long.

    Raises:
        BenchError: an unknown kind.
    """
    if kind not in MODULES:
        raise BenchError(f"unknown kind of figure {kind!r}; known: {', '.join(MODULES)}.")
    function: Figures = import_module(f"bench.report.{MODULES[kind]}").figures
    return function


def against(x: str) -> Figures:
    """Return the function that draws scores against a cost, or against any other name as a swept setting."""
    from bench.report import ablation, plot
    from bench.report.costs import COSTS

    return plot.figures if x in COSTS else ablation.figures
