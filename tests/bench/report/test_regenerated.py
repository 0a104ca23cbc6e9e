"""Every table and every figure, made twice from one results folder, is the same to the byte."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.report import SUFFIXES, draw_plots, show_table
from bench.report.canvas import SUFFIXES as FIGURE_SUFFIXES
from bench.report.compare import show_comparison
from bench.report.plot_kinds import MODULES

FORMATS = tuple(SUFFIXES.values())
BY = (None, "seed", "organ", "image")
FIGURES = {
    **{kind: {"kind": kind} for kind in MODULES if kind != "tuning"},  # of tuned runs: test_tuning_curves.py
    "latency": {"x": "latency"},
    "ablation": {"x": "strategy.rank"},
}
ELSEWHERE = ("cost", "ranks")
"""Figures that other tests draw twice, in two processes: here for a release only."""


def cases(names: Sequence[str | None], formats: Sequence[str], *, elsewhere: Sequence[str] = ()) -> list[Any]:
    """All pairs. A name is tested with one format, by turns; with the others for a release only: two minutes more."""
    always = {(name, formats[place % len(formats)]) for place, name in enumerate(names) if name not in elsewhere}
    pairs = product(names, formats)
    return [pytest.param(*pair, marks=() if pair in always else pytest.mark.release) for pair in pairs]


@pytest.mark.parametrize(("kind", "suffix"), cases(tuple(FIGURES), FIGURE_SUFFIXES, elsewhere=ELSEWHERE))
def test_a_figure_drawn_twice_is_the_same(study: Path, tmp_path: Path, kind: str, suffix: str):
    outputs = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for output in outputs:
        assert draw_plots(study, output=output, columns=1, **FIGURES[kind]) == [output]
    first, second = (output.read_bytes() for output in outputs)
    assert first == second
    assert first.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


@pytest.mark.parametrize(("by", "suffix"), cases(BY, FORMATS))
def test_a_table_written_twice_is_the_same(study: Path, tmp_path: Path, by: str | None, suffix: str):
    format = next(name for name, own in SUFFIXES.items() if own == suffix)
    outputs = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for output in outputs:
        show_table(study, format=format, output=output, by=by, console=Console(file=io.StringIO()))
    first, second = (output.read_text(encoding="utf-8") for output in outputs)
    assert first == second
    assert "brain" in first or by not in ("organ", "image")
    assert "tiny_sam" in first or "tiny\\_sam" in first or by == "image"


@pytest.mark.parametrize(("name", "suffix"), cases(["lora_qv,strategy.rank=8"], FORMATS))
def test_a_comparison_written_twice_is_the_same(study: Path, tmp_path: Path, name: str, suffix: str):
    outputs = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for output in outputs:
        show_comparison(study, ("adapter", name), output=output, console=Console(file=io.StringIO()))
    first, second = (output.read_text(encoding="utf-8") for output in outputs)
    assert first == second
    assert "adapter" in first
