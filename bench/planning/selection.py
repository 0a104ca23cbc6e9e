"""``--only KEY=A,B``: the part of a grid that is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.errors import PlanError
from bench.grid import CLASSICAL, Grid
from bench.planning.problems import fold_list
from registry import backbones, strategies
from registry.errors import unknown

ONLY_KEYS = ("backbone", "strategy", "fold")


def narrow(grid: Grid, only: Sequence[str]) -> Grid:
    """Return the grid with what ``KEY=A,B`` texts name (`backbone`, `strategy`, `fold`), and nothing else.

    Raises:
        PlanError: every text that names nothing of this grid.
    """
    wrong_texts: list[str] = []
    for text in _joined(only):
        key, _, listed = text.partition("=")
        values = tuple(value.strip() for value in listed.split(",") if value.strip())
        if key not in ONLY_KEYS or not values:
            wrong_texts.append(f"--only {text!r}: write backbone=A,B or strategy=A,B or fold=1,2.")
        elif key == "fold":
            allowed = grid.fold_numbers
            wrong = [v for v in values if not v.isdecimal() or int(v) not in allowed]
            if wrong:
                wrong_texts.append(f"--only fold={','.join(wrong)}: this grid has {fold_list(allowed)}.")
            else:
                grid = replace(grid, folds=tuple(sorted({int(v) for v in values})))
        else:
            field = "backbones" if key == "backbone" else "strategies"
            offered = getattr(grid, field)
            wrong_texts += [
                f"grid {grid.name!r}: " + unknown(key, v, (*offered, CLASSICAL)) + _hint(key, v)
                for v in values
                if v not in (*offered, CLASSICAL)
            ]
            kept: dict[str, Any] = {field: tuple(v for v in offered if v in values)}
            grid = replace(grid, **kept)
    if wrong_texts:
        raise PlanError(wrong_texts)
    return grid


def _hint(key: str, name: str) -> str:
    registered = backbones.names() if key == "backbone" else strategies.names()
    return (
        f" {name} is registered, but not in this grid: copy the grid's file and add it." if name in registered else ""
    )


def _joined(only: Sequence[str]) -> list[str]:
    """``KEY=A`` and ``KEY=B`` given apart are ``KEY=A,B``."""
    listed: dict[str, str] = {}
    for text in only:
        key, _, values = text.partition("=")
        listed[key] = f"{listed[key]},{values}" if key in listed else values
    return [f"{key}={values}" for key, values in listed.items()]
