"""Rows with image scores made up for tests of `bench compare`, and its output as tests read it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from fabricated import record, run
from rich.console import Console

from bench.report.compare import show_comparison
from bench.results.record import write

Scores = Mapping[str, float]
"""PQ of images, which are written organ/stem."""
FOLDS: tuple[Scores, ...] = (
    {"liver/a": 0.50, "liver/b": 0.40, "brain/c": 0.30},
    {"liver/d": 0.60, "brain/e": 0.20, "brain/f": 0.45},
)


def add(results: Path, backbone: str, strategy: str, folds: tuple[Scores, ...] = FOLDS, **changes: Any) -> None:
    """Write records and image scores of a row with two folds; AJI is PQ + 0.1, Dice PQ + 0.3."""
    for fold, scores in enumerate(folds, 1):
        add_fold(results, backbone, strategy, fold, scores, **changes)


def add_fold(results: Path, backbone: str, strategy: str, fold: int, scores: Scores, **changes: Any) -> None:
    """Write the record and the image scores of one fold, as `add` does."""
    changes = {"n_splits": 2, **changes}
    one = record(run(backbone, strategy, fold, **changes), official=False)
    write(results, one)
    table = pd.DataFrame(
        [
            {"organ": organ, "stem": stem, "pq": pq, "aji": pq + 0.1, "dice": pq + 0.3, "n_true": 10.0}
            for (organ, stem), pq in ((name.split("/"), pq) for name, pq in scores.items())
        ]
    )
    table.to_parquet(results / "runs" / one.id / "scores.parquet")


def shifted(*shifts: float) -> tuple[Scores, ...]:
    """`FOLDS` with a number added to each image, in order."""
    places = iter(shifts)
    return tuple({name: pq + next(places) for name, pq in fold.items()} for fold in FOLDS)


def frame(results: Path, *names: str) -> pd.DataFrame:
    """The comparison as its CSV file has it."""
    path = show_comparison(results, names, output=results / "out.csv", console=Console(file=io.StringIO()))
    assert path is not None
    return pd.read_csv(path)


def page(results: Path, *names: str, width: int = 100) -> str:
    """The comparison as the terminal shows it, in one line."""
    shown = io.StringIO()
    show_comparison(results, names, console=Console(file=shown, width=width))
    return " ".join(shown.getvalue().split())
