"""Heat map of organs: its numbers, its gaps, and its legibility with few and with many."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import add

from bench.errors import BenchError
from bench.report import organ_map
from bench.report.frame import pooled
from bench.report.organs import organ_frame
from bench.report.reading import read_records


def table(*rows: tuple[str, str, float], n_images: int = 5) -> pd.DataFrame:
    """Rows of strategy, organ and PQ."""
    return pd.DataFrame(
        [
            {
                "method": f"mobile_sam {s}",
                "backbone": "mobile_sam",
                "strategy": s,
                "organ": o,
                "n_images": n_images,
                "pq": q,
            }
            for s, o, q in rows
        ]
    )


def cells(axes: object) -> np.ndarray:
    (mesh,) = axes.collections  # type: ignore[attr-defined]
    return np.ma.filled(mesh.get_array(), np.nan)


def test_rows_keep_their_order_and_organs_are_sorted():
    axes = organ_map.draw(table(("full", "liver", 0.5), ("full", "brain", 0.4), ("adapter", "brain", 0.6))).axes[0]
    np.testing.assert_allclose(cells(axes), [[40, 50], [60, np.nan]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mobile_sam full", "mobile_sam adapter"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["brain (5)", "liver (5)"]


def test_a_missing_score_is_hatched_and_explained():
    figure = organ_map.draw(table(("full", "liver", 0.5), ("full", "brain", 0.4), ("adapter", "brain", 0.6)))
    (patch,) = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert (patch.get_x(), patch.get_y()) == (0.5, 0.5)
    assert "Hatched: no score." in figure.get_supxlabel()
    complete = organ_map.draw(table(("full", "liver", 0.5)))
    assert "Hatched" not in complete.get_supxlabel()


def test_cells_have_their_numbers_where_there_is_room():
    axes = organ_map.draw(table(("full", "liver", 0.514), ("full", "brain", 0.4))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["40", "51"]


def test_colours_reach_from_the_lowest_to_the_highest_score_in_steps_of_five():
    figure = organ_map.draw(table(("full", "liver", 0.514), ("full", "brain", 0.42)))
    assert figure.axes[0].collections[0].get_clim() == (40, 55)
    equal = organ_map.draw(table(("full", "liver", 0.5), ("full", "brain", 0.5)))
    assert equal.axes[0].collections[0].get_clim() == (50, 55)


@pytest.mark.parametrize(("columns", "n_bands"), [(2, 1), (1, 2)])
def test_thirty_one_organs_are_legible(columns: int, n_bands: int):
    organs = [f"human organ {number:02}" for number in range(31)]
    figure = organ_map.draw(table(*(("full", organ, 0.5) for organ in organs)), columns=columns)
    panels = figure.axes[:-1]  # without the colour bar
    assert len(panels) == n_bands
    assert [label.get_text().split(" (")[0] for panel in panels for label in panel.get_xticklabels()] == organs
    figure.draw_without_rendering()
    for panel in panels:
        boxes = [label.get_window_extent() for label in panel.get_xticklabels()]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
        assert all(figure.bbox.contains(box.x0, box.y0) for box in boxes)


def test_more_organs_than_a_page_holds_are_cut_and_counted():
    figure = organ_map.draw(table(*(("full", f"organ {number:04}", 0.5) for number in range(1_000))))
    assert "The 120 organs with most images, of 1000." in " ".join(figure.get_supxlabel().split())


def test_frames_agree_with_the_table_of_organs(study: Path):
    (drawable,) = organ_map.frames(study)
    expected = organ_frame(study, pooled(read_records(study)))
    for (_, strategy, organ), part in drawable.frame.groupby(["backbone", "strategy", "organ"]):
        same = expected[(expected["strategy"] == strategy) & (expected["organ"] == organ)]
        assert set(part["pq"].round(9)) <= set(same["pq"].round(9))
    assert set(drawable.frame["n_images"]) == {6}  # two folds of three, counted once for two seeds
    assert drawable.frame["method"].nunique() == 7
    assert drawable.frame["method"].iloc[0] == "mobile_sam lora_qv strategy.rank=8"


def test_an_organ_with_one_image_and_a_hostile_name_is_drawn(tmp_path: Path):
    name = "<script>|_%&$x$ 肝"
    add(tmp_path, "mobile_sam", "adapter", ({f"{name}/a": 0.5}, {f"{name}/b": 0.4, "liver/c": 0.4}))
    ((_, figure),) = organ_map.figures(tmp_path)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [
        "<script>|_%&$x$ [U+809D] (2)",
        "liver (1)",
    ]


def test_a_row_with_a_damaged_file_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    add(tmp_path, "mobile_sam", "adapter")
    add(tmp_path, "mobile_sam", "full")
    first = sorted((tmp_path / "runs").iterdir())[0]
    (first / "scores.parquet").write_bytes(b"PAR1 torn")
    (drawable,) = organ_map.frames(tmp_path)
    assert drawable.frame["method"].nunique() == 1
    assert "is not drawn:" in caplog.text
    assert "scores.parquet can't be read" in caplog.text
    assert drawable.notes[-1] == "Not drawn, because a file of scores can't be read: 1 rows."


def test_nothing_to_draw_is_refused(tmp_path: Path):
    with pytest.raises(BenchError, match="no scores per organ to draw; finish at least one run with `bench run` first"):
        organ_map.draw(table())
    with pytest.raises(BenchError, match="no scores per organ"):
        organ_map.draw(table(("full", "liver", float("nan"))))
    with pytest.raises(BenchError, match="no records below"):
        organ_map.figures(tmp_path)
