"""Tables of a pack: written when it is made, and computed again when it is verified."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.errors import BenchError
from bench.report import show_table
from bench.report.compare import show_comparison

TOLERANCE = 1e-9
"""Relative difference of two numbers that are equal: sums differ in their last digits between versions of NumPy."""


def _board(results: Path, output: Path, console: Console, baselines: Path, *, by: str | None = None) -> None:
    show_table(results, format="csv", by=by, output=output, console=console, baselines=baselines)


def _comparison(results: Path, output: Path, console: Console, _: Path) -> None:
    show_comparison(results, format="csv", output=output, console=console)


TABLES: dict[str, Callable[[Path, Path, Console, Path], None]] = {
    "leaderboard.csv": _board,
    "seeds.csv": partial(_board, by="seed"),
    "organs.csv": partial(_board, by="organ"),
    "comparison.csv": _comparison,
}
"""Functions that make each table: of a results folder, a file to write, a console and a file of published scores."""


def compute(results: Path, baselines: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the tables of a results folder as CSV, and for those that can't be made the reason.

    Args:
        results: a results folder; nothing is written there.
        baselines: published scores.
    """
    tables, reasons = {}, {}
    console = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory(prefix="nuclei-bench-") as folder:
        for name, make in TABLES.items():
            try:
                make(results, Path(folder) / name, console, baselines)
            except BenchError as error:
                reasons[name] = str(error).replace(str(results), "results")
                continue
            tables[name] = (Path(folder) / name).read_text(encoding="utf-8")
    return tables, reasons


def differences(packed: str, computed: str) -> list[str]:
    """Return what differs between two tables, by row and column; nothing where they are equal.

    Columns that only the computed table has are new in this version, and no difference.
    """
    first, second = (pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False) for text in (packed, computed))
    lacking = [name for name in first if name not in second]
    problems = [f"the column {name} is not computed any more" for name in lacking]
    if len(first) != len(second):
        problems.append(f"{len(first)} rows in the pack, {len(second)} computed")
    for name in [name for name in first if name in second]:
        for row, (a, b) in enumerate(zip_longest(first[name], second[name]), 1):
            if a is not None and b is not None and not _equal(a, b):
                problems.append(f"row {row}, {name}: {_shown(a)} in the pack, {_shown(b)} computed")
    return problems


def _equal(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        x, y = float(a), float(b)
    except ValueError:
        return False
    return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=1e-12)


def _shown(text: str) -> str:
    text = text or "nothing"
    return text if len(text) <= 60 else f"{text[:59]}…"
