"""Scores of folds and of images: where points, means and boxes stand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import record, run

from bench.errors import BenchError
from bench.report import figure_rows, fold_scores, image_distributions
from bench.results.record import write


def folds(*values: float, strategy: str = "full") -> pd.DataFrame:
    own = {"method": f"mobile_sam {strategy}", "backbone": "mobile_sam", "strategy": strategy, "seed": 0}
    rows = [{**own, "fold": n, "pq": v, "aji": v + 0.1, "dice": v + 0.2} for n, v in enumerate(values, 1)]
    return pd.DataFrame(rows, columns=fold_scores.COLUMNS)


def images(*values: float, strategy: str = "full") -> pd.DataFrame:
    return folds(*values, strategy=strategy).assign(organ="liver", stem=[f"image {n}" for n in range(len(values))])


def lines(axes: object, label: str) -> list[np.ndarray]:
    return [line.get_xdata() for line in axes.lines if line.get_label() == label]  # type: ignore[attr-defined]


def test_each_fold_is_a_point_and_the_line_is_their_mean():
    figure = fold_scores.draw(pd.concat([folds(0.4, 0.5, 0.9), folds(0.3, strategy="adapter")]))
    assert [axes.get_xlabel() for axes in figure.axes] == ["PQ, %", "AJI, %", "Dice, %"]
    points = [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_label().startswith("_child")]
    assert points == [[40, 50, 90], [30]]
    assert [mean[0] for mean in lines(figure.axes[0], "mean")] == pytest.approx([60, 30])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mobile_sam full", "mobile_sam adapter"]


def test_one_column_has_pq_alone():
    for module, frame in ((fold_scores, folds(0.4, 0.5)), (image_distributions, images(0.4, 0.5))):
        figure = module.draw(frame, columns=1)
        assert [axes.get_xlabel() for axes in figure.axes] == ["PQ, %"]
        assert figure.get_figwidth() == 3.5


def test_the_box_has_quartiles_and_the_whiskers_percentiles():
    values = [number / 100 for number in range(101)]
    axes = image_distributions.draw(images(*values)).axes[0]
    (box,) = axes.patches
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((25, 75))
    (whiskers,), (median,), (mean,) = lines(axes, "whiskers"), lines(axes, "median"), lines(axes, "mean")
    assert (whiskers.tolist(), median[0], mean[0]) == (pytest.approx([5, 95]), pytest.approx(50), pytest.approx(50))
    assert lines(axes, "images")[0].tolist() == pytest.approx([0, 1, 2, 3, 4, 96, 97, 98, 99, 100])


def test_points_beyond_the_whiskers_are_the_farthest_ten_of_each_end():
    values = [number / 1000 for number in range(1_000)]
    (points,) = lines(image_distributions.draw(images(*values)).axes[0], "images")
    assert points.tolist() == pytest.approx([*(n / 10 for n in range(10)), *(n / 10 for n in range(990, 1_000))])


@pytest.mark.parametrize("values", [(0.5,), (0.5, 0.5, 0.5), (0.2, float("nan"), 0.4)])
def test_few_images_are_points_without_a_box(values: tuple[float, ...]):
    figure = image_distributions.draw(images(*values))
    (points,) = lines(figure.axes[0], "images")
    assert points.tolist() == [100 * value for value in sorted(values) if value == value]
    assert len(figure.axes[0].patches) == 0
    assert "Rows with fewer than 8 images have a point for each." in figure.get_supxlabel()


def test_equal_scores_have_a_box_without_width():
    axes = image_distributions.draw(images(*[0.5] * 20)).axes[0]
    assert axes.patches[0].get_width() == 0
    assert axes.get_xlim()[0] < 50 < axes.get_xlim()[1]


def test_forty_two_rows_with_long_names_stay_within_the_figure():
    random = np.random.default_rng(0)
    rows = [images(*random.uniform(0, 1, 9), strategy=f"{'very_long_name_' * 9}{number}") for number in range(42)]
    figure = image_distributions.draw(pd.concat(rows), title="x" * 900, columns=1)
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert len({label.get_text() for label in labels}) == 42
    assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in boxes)
    assert all(below.y1 <= above.y0 + 0.5 for above, below in pairwise(boxes))


def test_the_best_rows_are_drawn_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for strategy, pq in (("full", 0.5), ("adapter", 0.6), ("lora_qv", 0.4)):
        write(tmp_path, record(run(strategy=strategy, n_splits=1), pq=pq))
    monkeypatch.setattr(figure_rows, "MOST_ROWS", 2)
    (drawable,) = fold_scores.frames(tmp_path)
    assert drawable.frame["strategy"].tolist() == ["adapter", "full"]
    assert "The best 2 of 3 rows by PQ." in drawable.notes


def test_incomplete_rows_and_random_weights_are_named(tmp_path: Path):
    write(tmp_path, record(run(n_splits=2, weights="random")))
    (drawable,) = fold_scores.frames(tmp_path)
    assert drawable.frame["method"].tolist() == ["mobile_sam lora_qv †"]
    assert drawable.title.endswith("· RANDOM WEIGHTS")
    assert drawable.notes[0] == "† Folds are missing."


def test_seeds_are_points_of_one_row_and_average_in_images(study: Path):
    (of_folds,), (of_images,) = fold_scores.frames(study), image_distributions.frames(study)
    best = of_folds.frame["method"].iloc[0]
    assert (of_folds.frame["method"] == best).sum() == 4  # two folds, two seeds
    own = of_images.frame[of_images.frame["method"] == best]
    assert len(own) == 18
    first = own[(own["stem"] == "brain_1_0")]
    assert first["pq"].tolist() == pytest.approx([0.55 + 0.004 + 0.001])


def test_nothing_to_draw_is_refused():
    with pytest.raises(BenchError, match="no scores of folds to draw; finish at least one run with `bench run` first"):
        fold_scores.draw(folds())
    with pytest.raises(BenchError, match="no scores of images to draw"):
        image_distributions.draw(images(float("nan")))


def test_a_folder_in_which_every_run_failed_is_refused(tmp_path: Path):
    write(tmp_path, record(run(), status="failed", reason="x"))
    for module, what in ((fold_scores, "folds"), (image_distributions, "images")):
        with pytest.raises(BenchError, match=f"no scores of {what} to draw"):
            module.figures(tmp_path)
