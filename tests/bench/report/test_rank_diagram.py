"""Critical-difference diagram: its labels, its bars, and the same bytes in every process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import FOLDS, add, shifted
from matplotlib.figure import Figure
from rich.console import Console

from bench.errors import BenchError
from bench.report import rank_diagram
from bench.report.compare import show_comparison
from bench.report.overall import Overall, csv_frame
from bench.report.tests_of_difference import Friedman

ROOT = Path(__file__).parents[3]
NAN = float("nan")


def compared(p_holm: list[list[float]], names: tuple[str, ...] = ("a/x", "b/y", "c/$z$"), *scores: str) -> pd.DataFrame:
    """Three rows of mean rank 1, 2 and 3."""
    matrix, means = np.array(p_holm), np.array([0.5, 0.4, 0.3])
    friedman = Friedman((1.0, 2.0, 3.0), 12.0, 0.0025)
    parts = [Overall(s, names, means, friedman, matrix, matrix, np.zeros((3, 3)), 6) for s in scores or ("pq",)]
    return csv_frame(parts, {})


def test_a_bar_joins_rows_that_are_not_told_apart():
    figure = rank_diagram.draw(compared([[NAN, 0.2, 0.01], [0.2, NAN, 0.01], [0.01, 0.01, NAN]]))
    (axes,) = figure.axes
    bars = [line for line in axes.lines if line.get_linewidth() == 2]
    assert [sorted(bar.get_xdata()) for bar in bars] == [[1, 2]]
    assert [text.get_text().strip() for text in axes.texts] == ["a/x (1.00)", "b/y (2.00)", "c/$z$ (3.00)"]
    assert not axes.texts[-1].get_parse_math()
    assert axes.get_title(loc="left") == "Mean rank in PQ; Friedman p = 0.003"
    assert "Mean rank over 6 images" in figure.get_supxlabel()


def test_no_bar_where_every_two_rows_differ():
    (axes,) = rank_diagram.draw(compared([[NAN, 0.01, 0.01], [0.01, NAN, 0.01], [0.01, 0.01, NAN]])).axes
    assert [line for line in axes.lines if line.get_linewidth() == 2] == []


def test_bars_are_above_the_names_and_below_the_axis():
    (axes,) = rank_diagram.draw(compared([[NAN, 0.2, 0.01], [0.2, NAN, 0.2], [0.01, 0.2, NAN]])).axes
    heights = sorted({float(line.get_ydata()[0]) for line in axes.lines if line.get_linewidth() == 2})
    assert heights == pytest.approx([-0.9, -0.45])
    assert max(text.get_position()[1] for text in axes.texts) < -0.9


def test_each_score_has_a_panel_in_the_order_of_the_comparison():
    equal = [[NAN, 1.0, 1.0], [1.0, NAN, 1.0], [1.0, 1.0, NAN]]
    figure = rank_diagram.draw(compared(equal, ("a/x", "b/y", "c/z"), "aji", "pq", "dice"), columns=1)
    assert [axes.get_title(loc="left").split(";")[0] for axes in figure.axes] == [
        "Mean rank in AJI",
        "Mean rank in PQ",
        "Mean rank in Dice",
    ]
    assert figure.get_figwidth() == 3.5


def test_very_long_names_stay_within_the_figure():
    names = tuple(f"{'backbone' * 9}/{letter}{'strategy' * 20}" for letter in "xyz")
    figure = rank_diagram.draw(compared([[NAN, 1, 1], [1, NAN, 1], [1, 1, NAN]], names), columns=1)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in boxes)


def test_nothing_to_compare_is_refused():
    with pytest.raises(
        BenchError, match="no two rows are compared, so there are no ranks to draw; see `bench compare`"
    ):
        rank_diagram.draw(pd.DataFrame())


def three_rows(results: Path, **changes: str) -> None:
    for strategy, shift in (("adapter", 0.1), ("full", 0.05), ("lora_qv", 0.0)):
        add(results, "mobile_sam", strategy, shifted(*[shift] * 6), **changes)


def test_a_diagram_is_the_same_in_every_process(tmp_path: Path):
    three_rows(tmp_path)
    show_comparison(tmp_path, output=tmp_path / "here.svg", console=Console(file=io.StringIO()))
    command = [
        sys.executable,
        "-m",
        "bench.cli",
        "compare",
        "--results",
        str(tmp_path),
        "-o",
        str(tmp_path / "there.svg"),
    ]
    # Sets of names have an order that depends on the seed of the process.
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "there.svg").read_bytes()


def test_sections_are_drawn_into_files_of_their_own(tmp_path: Path):
    three_rows(tmp_path)
    three_rows(tmp_path, dataset_digest="bbbb")
    shown = io.StringIO()
    show_comparison(tmp_path, output=tmp_path / "ranks.pdf", console=Console(file=shown, width=500))
    names = ["ranks_images_0123456789ab_2-folds-19.pdf", "ranks_images_bbbb_2-folds-19.pdf"]
    assert [Path(line).name for line in shown.getvalue().splitlines()] == names
    assert all((tmp_path / name).read_bytes().startswith(b"%PDF") for name in names)


def test_a_diagram_takes_no_names(tmp_path: Path):
    with pytest.raises(BenchError, match=r"a diagram of ranks is of all rows, so ranks\.svg takes no names; \.md and"):
        show_comparison(tmp_path, ("adapter", "full"), output=Path("ranks.svg"))


def bars_of(p_holm: list[list[float]], mean_ranks: tuple[float, ...]) -> list[list[float]]:
    table = compared(p_holm)
    table.loc[table["kind"] == "rank", "mean_rank"] = mean_ranks
    (axes,) = rank_diagram.draw(table).axes
    return [sorted(set(line.get_xdata())) for line in axes.lines if line.get_linewidth() == 2]


def test_no_bar_covers_a_row_that_differs():
    # a and c don't differ from each other, b between them differs from both
    between = [[NAN, 0.01, 0.5], [0.01, NAN, 0.01], [0.5, 0.01, NAN]]
    assert bars_of(between, (1.5, 2.0, 2.5)) == []
    # b and c differ at one place of the axis, so that a bar from a would end on both
    assert bars_of([[NAN, 0.5, 0.5], [0.5, NAN, 0.01], [0.5, 0.01, NAN]], (1.0, 2.5, 2.5)) == []
    assert bars_of([[NAN, 0.5, 0.01], [0.5, NAN, 0.01], [0.01, 0.01, NAN]], (1.5, 2.0, 2.5)) == [[1.5, 2.0]]


def test_a_figure_says_which_rows_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    three_rows(tmp_path)
    add(tmp_path, "tiny_sam", "full", FOLDS[:1])
    drawn = {}
    monkeypatch.setattr(rank_diagram, "draw", lambda table, **options: drawn.update(options) or Figure())
    show_comparison(tmp_path, output=tmp_path / "ranks.svg", console=Console(file=io.StringIO()))
    assert drawn["notes"] == ("Left out: tiny_sam/full, without fold 2. Give its name to compare it.",)
