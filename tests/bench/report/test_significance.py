"""Significance matrix: the numbers of `bench compare`, by colour, sign and mark."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import FOLDS, add, shifted

from bench.errors import BenchError
from bench.report import compared_rows, significance


def compared(n: int = 3, p: float = 0.01) -> pd.DataFrame:
    """Rows of PQ 0.5, 0.48, …, and p-values."""
    names = [f"mobile_sam/strategy_{number:02}" for number in range(n)]
    base = {"score": "pq", "n_images": 12}
    rows: list[dict[str, object]] = [
        {**base, "kind": "rank", "a": name, "mean_rank": float(place + 1)} for place, name in enumerate(names)
    ]
    rows += [
        {
            **base,
            "kind": "pair",
            "a": names[i],
            "b": names[j],
            "mean": 0.02 * (j - i),
            "p_holm": p if j - i > 1 else 0.2,
        }
        for i in range(n)
        for j in range(i + 1, n)
    ]
    return pd.DataFrame(rows)


def test_cells_are_differences_in_points_and_stars_are_significant():
    figure = significance.draw(compared())
    axes = figure.axes[0]
    values = np.ma.filled(axes.collections[0].get_array(), np.nan)
    np.testing.assert_allclose(values, [[np.nan, 2, 4], [-2, np.nan, 2], [-4, -2, np.nan]])
    assert [text.get_text() for text in axes.texts] == ["+2.0", "+4.0*", "−2.0", "+2.0", "−4.0*", "−2.0"]
    assert axes.get_yticklabels()[0].get_text() == "mobile_sam/strategy_00  1"
    assert axes.collections[0].get_clim() == (-5, 5)
    assert "over 12 images" in figure.get_supxlabel()


def test_many_rows_have_dots_where_they_differ():
    axes = significance.draw(compared(42)).axes[0]
    (dots,) = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert len(dots.get_xdata()) == 42 * 41 - 2 * 41
    assert (0.5, 0.5) not in set(zip(*dots.get_data(), strict=True))
    assert len(axes.texts) == 0


def test_rows_that_do_not_differ_have_no_mark():
    axes = significance.draw(compared(42, p=0.9), columns=1).axes[0]
    assert max(len(line.get_xdata()) for line in axes.lines) == 1


@pytest.mark.parametrize("columns", [1, 2])
def test_names_of_many_rows_do_not_overlap(columns: int):
    figure = significance.draw(compared(42), columns=columns)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(below.y1 <= above.y0 + 0.5 for above, below in pairwise(boxes))
    numbers = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(numbers))


def test_the_numbers_are_those_of_the_comparison(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", shifted(0.1, 0.12, 0.14, 0.16, 0.18, 0.2))
    add(tmp_path, "mobile_sam", "full")
    (drawable,) = compared_rows.frames(tmp_path)
    names, difference, p = significance.matrices(drawable.frame)
    assert names == ["mobile_sam/adapter", "mobile_sam/full"]
    assert difference[0, 1] == pytest.approx(15)
    assert p[0, 1] == pytest.approx(2 / 2**6)  # Wilcoxon's exact p of six differences of one sign, one pair
    assert significance.matrices(drawable.frame, "aji")[1][1, 0] == pytest.approx(-15)


def test_equal_rows_are_white(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter")
    add(tmp_path, "mobile_sam", "full")
    ((stem, figure),) = significance.figures(tmp_path)
    assert stem == "images_0123456789ab_2-folds-19"
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.0", "0.0"]


def test_a_row_with_a_damaged_file_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for strategy in ("adapter", "full", "lora_qv"):
        add(tmp_path, "mobile_sam", strategy)
    sorted((tmp_path / "runs").glob("*/scores.parquet"))[0].write_bytes(b"PAR1 torn")
    (drawable,) = compared_rows.frames(tmp_path)
    assert (drawable.frame["kind"] == "pair").sum() == 3  # one pair in three scores
    assert "Not compared, because a file of scores can't be read: mobile_sam/" in drawable.notes[0]
    assert "is not compared:" in caplog.text


def test_not_a_number_leaves_the_image_out(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", ({**FOLDS[0], "liver/a": float("nan")}, FOLDS[1]))
    add(tmp_path, "mobile_sam", "full")
    (drawable,) = compared_rows.frames(tmp_path)
    assert set(drawable.frame["n_images"]) == {5}
    assert "Left out, because a score is not a number: a (liver)." in drawable.notes


def test_the_best_rows_are_compared_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for strategy in ("adapter", "full", "lora_qv"):
        add(tmp_path, "mobile_sam", strategy)
    monkeypatch.setattr(compared_rows, "MOST_ROWS", 2)
    (drawable,) = compared_rows.frames(tmp_path)
    assert drawable.frame["a"].nunique() == 2
    assert drawable.notes[0] == "The best 2 of 3 rows by PQ."


def test_one_row_is_refused(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter")
    with pytest.raises(BenchError, match="only mobile_sam/adapter has all folds, so no two rows can be compared"):
        significance.figures(tmp_path)
    with pytest.raises(BenchError, match="no two rows are compared in 'pq', so there is no matrix to draw"):
        significance.draw(compared(1))


def test_hostile_names_are_shown_as_they_are(tmp_path: Path):
    name = "<script>|_%&$x$ 肝"
    add(tmp_path, "mobile_sam", name)
    add(tmp_path, "mobile_sam", "y" * 300, shifted(*[0.1] * 6))
    ((_, figure),) = significance.figures(tmp_path, columns=1)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == [f"mobile_sam/yyyy…{'y' * 16}  1", "mobile_sam/<scr…|_%&$x$ [U+809D]  2"]
