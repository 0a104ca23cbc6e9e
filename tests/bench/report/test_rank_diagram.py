"""Critical-difference diagram: its labels, its bars, and the same bytes in every process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compared import add, shifted
from rich.console import Console

from bench.errors import BenchError
from bench.report.compare import show_comparison
from bench.report.overall import Overall
from bench.report.rank_diagram import rank_diagram
from bench.report.tests_of_difference import Friedman

ROOT = Path(__file__).parents[3]


def overall(p_holm: list[list[float]], names: tuple[str, ...] = ("a/x", "b/y", "c/$z$")) -> Overall:
    """Three rows of mean rank 1, 2 and 3."""
    matrix = np.array(p_holm)
    friedman = Friedman((1.0, 2.0, 3.0), 12.0, 0.0025)
    return Overall("pq", names, np.array([0.5, 0.4, 0.3]), friedman, matrix, matrix, np.zeros((3, 3)), 6)


def test_a_bar_joins_rows_that_are_not_told_apart():
    nan = float("nan")
    axes = rank_diagram(overall([[nan, 0.2, 0.01], [0.2, nan, 0.01], [0.01, 0.01, nan]])).axes[0]
    bars = [line for line in axes.lines if line.get_linewidth() == 2.5]
    assert [sorted(bar.get_xdata()) for bar in bars] == [[1, 2]]
    assert [text.get_text().strip() for text in axes.texts] == ["a/x (1.00)", "b/y (2.00)", "c/$z$ (3.00)"]
    assert not axes.texts[-1].get_parse_math()
    assert (
        axes.get_title()
        == "Mean rank in PQ on 6 images; Friedman p = 0.003\nbars: not told apart (Wilcoxon, Holm, 0.05)"
    )


def test_no_bar_where_every_two_rows_differ():
    axes = rank_diagram(
        overall([[float("nan"), 0.01, 0.01], [0.01, float("nan"), 0.01], [0.01, 0.01, float("nan")]])
    ).axes[0]
    assert [line for line in axes.lines if line.get_linewidth() == 2.5] == []


def three_rows(results: Path, **changes: str) -> None:
    for strategy, shift in (("adapter", 0.1), ("full", 0.05), ("lora_qv", 0.0)):
        add(results, "mobile_sam", strategy, shifted(*[shift] * 6), **changes)


def test_a_diagram_is_the_same_in_every_process(tmp_path: Path):
    three_rows(tmp_path)
    command = [sys.executable, "-m", "bench.cli", "compare", "--results", str(tmp_path), "-o"]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, str(tmp_path / f"{seed}.svg")], check=True, env=environment, cwd=tmp_path)
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_sections_are_drawn_into_files_of_their_own(tmp_path: Path):
    three_rows(tmp_path)
    three_rows(tmp_path, dataset_digest="bbbb")
    shown = io.StringIO()
    show_comparison(tmp_path, output=tmp_path / "ranks.png", console=Console(file=shown, width=500))
    names = ["ranks_images_0123456789ab_2-folds-19.png", "ranks_images_bbbb_2-folds-19.png"]
    assert [Path(line).name for line in shown.getvalue().splitlines()] == names
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_a_diagram_takes_no_names(tmp_path: Path):
    with pytest.raises(BenchError, match=r"a diagram of ranks is of all rows, so ranks\.svg takes no names; \.md and"):
        show_comparison(tmp_path, ("adapter", "full"), output=Path("ranks.svg"))
