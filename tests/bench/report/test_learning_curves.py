"""Learning curves: means and bands over folds, and histories that are short, absent or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import record, run
from small_study import add

from bench.errors import BenchError
from bench.report import learning_curves
from bench.results.record import write


def epochs(
    fold: int, losses: list[float], pq: list[float], backbone: str = "mobile_sam", setting: str = ""
) -> pd.DataFrame:
    own = {"method": f"{backbone} full{setting}", "backbone": backbone, "strategy": "full", "fold": fold, "seed": 0}
    rows = [{**own, "epoch": n, "loss": a, "pq": b} for n, (a, b) in enumerate(zip(losses, pq, strict=True), 1)]
    return pd.DataFrame(rows, columns=learning_curves.COLUMNS)


def test_lines_are_means_and_bands_reach_from_the_lowest_to_the_highest_fold():
    nan = float("nan")
    figure = learning_curves.draw(pd.concat([epochs(1, [2, 1], [nan, 0.4]), epochs(2, [4, 2], [nan, 0.6])]))
    losses, scores = figure.axes
    assert (losses.get_ylabel(), scores.get_ylabel()) == ("training loss", "validation PQ, %")
    assert losses.lines[0].get_xydata().tolist() == [[1, 3], [2, 1.5]]
    assert scores.lines[0].get_xydata().tolist() == [[2, 50]]
    band = losses.collections[0].get_paths()[0].vertices
    assert {(1.0, 2.0), (1.0, 4.0), (2.0, 1.0), (2.0, 2.0)} <= {tuple(point) for point in band}


def test_one_epoch_of_one_fold_is_a_point():
    figure = learning_curves.draw(epochs(1, [2.0], [0.5]))
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 2]]
    assert len(figure.axes[0].collections) == 0
    assert figure.axes[0].get_xlim() == (0, 1.5)


def test_a_diverged_fold_does_not_reach_the_line():
    figure = learning_curves.draw(pd.concat([epochs(1, [2, np.inf], [0.1, 0.2]), epochs(2, [4, 2], [0.1, 0.2])]))
    mean, alone = figure.axes[0].lines
    assert mean.get_xydata().tolist() == [[1, 3]]
    assert alone.get_xydata().tolist() == [[1, 4], [2, 2]]
    assert alone.get_linewidth() < mean.get_linewidth()


def test_the_mean_ends_where_a_fold_has_stopped():
    stopped, longer = epochs(1, [2, 1], [0.2, 0.2]), epochs(2, [4, 3, 2, 1], [0.6] * 4)
    figure = learning_curves.draw(pd.concat([stopped, longer]))
    mean, alone = figure.axes[1].lines
    assert mean.get_xydata().tolist() == [[1, 40], [2, 40]]
    assert alone.get_xydata().tolist() == [[2, 60], [3, 60], [4, 60]]
    assert figure.axes[1].collections[0].get_datalim(figure.axes[1].transData).x1 == 2  # the band ends, too
    notes = " ".join(figure.get_supxlabel().split())
    assert learning_curves.STOPPED in notes
    whole = learning_curves.draw(longer)
    assert learning_curves.STOPPED not in " ".join(whole.get_supxlabel().split())


def test_a_fold_without_any_finite_loss_leaves_no_mean():
    figure = learning_curves.draw(pd.concat([epochs(1, [np.nan], [0.1]), epochs(2, [4], [0.1])]))
    (alone,) = figure.axes[0].lines
    assert (alone.get_label(), alone.get_xydata().tolist()) == ("_run", [[1, 4]])


def test_a_loss_that_falls_far_has_a_logarithmic_axis():
    assert learning_curves.draw(epochs(1, [100, 1], [0, 0.1])).axes[0].get_yscale() == "log"
    assert learning_curves.draw(epochs(1, [2, 1], [0, 0.1])).axes[0].get_yscale() == "linear"
    assert learning_curves.draw(epochs(1, [100, 0], [0, 0.1])).axes[0].get_yscale() == "linear"


def test_many_rows_have_panels_per_backbone_and_settings_their_own_lines():
    names = ("mobile_sam", "tiny_sam", "sam_vit_b", "sam_vit_l")
    parts = [epochs(1, [2, 1], [0.1, 0.2], name, f" rank={rank}") for name in names for rank in (4, 8)]
    figure = learning_curves.draw(pd.concat(parts))
    assert len(figure.axes) == 8
    one, other = figure.axes[0].lines
    assert one.get_color() == other.get_color()
    assert one.get_linestyle() != other.get_linestyle()


def test_frames_take_the_histories_of_the_runs_that_are_done(study: Path):
    (drawable,) = learning_curves.frames(study)
    frame = drawable.frame
    assert frame["method"].nunique() == 6  # all that trains
    own = frame[(frame["method"] == "mobile_sam lora_qv strategy.rank=8") & (frame["fold"] == 1) & (frame["seed"] == 0)]
    assert own["loss"].tolist() == pytest.approx([2, 1, 2 / 3, 0.5, 0.4])
    assert own["pq"].iloc[0] == pytest.approx(0.55 * 0.5)


def test_older_records_have_their_history_within(tmp_path: Path):
    history = [{"epoch": 1, "mean_loss": 3.0, "pq": 0.2}, {"epoch": 2, "mean_loss": 1.5, "pq": 0.3}]
    write(tmp_path, record(run(n_splits=1), cost={"history": history}))
    (drawable,) = learning_curves.frames(tmp_path)
    assert drawable.frame[["epoch", "loss", "pq"]].to_numpy().tolist() == [[1, 3, 0.2], [2, 1.5, 0.3]]


def test_a_damaged_history_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    broken = add(tmp_path, "mobile_sam", "adapter", 1, 0.4)
    add(tmp_path, "mobile_sam", "full", 1, 0.4)
    (tmp_path / "runs" / broken / "history.parquet").write_bytes(b"PAR1 torn")
    (drawable,) = learning_curves.frames(tmp_path)
    assert drawable.frame["strategy"].unique().tolist() == ["full"]
    assert "history.parquet can't be read" in caplog.text


def test_a_damaged_record_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    add(tmp_path, "mobile_sam", "full", 1, 0.4)
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "record.json").write_text("{")
    learning_curves.frames(tmp_path)
    assert caplog.text.count("can't be read as a record") == 1


def test_nothing_to_draw_is_refused(tmp_path: Path):
    with pytest.raises(BenchError, match="no training histories to draw; only trained runs have them"):
        learning_curves.draw(epochs(1, [], []))
    with pytest.raises(BenchError, match="no training histories"):
        learning_curves.draw(epochs(1, [float("nan")], [float("nan")]))
    add(tmp_path, "mobile_sam", "zero_shot", 1, 0.4)
    assert learning_curves.frames(tmp_path) == []


def test_a_folder_without_trained_runs_is_refused(tmp_path: Path):
    add(tmp_path, "mobile_sam", "zero_shot", 1, 0.4)
    with pytest.raises(BenchError, match="no training histories to draw; only trained runs have them"):
        learning_curves.figures(tmp_path)


def test_names_in_the_legend_keep_the_strategy():
    parts = [epochs(1, [2, 1], [0.1, 0.2], "efficient_sam_ti", f" lora_qv strategy.rank={rank}") for rank in (4, 8)]
    figure = learning_curves.draw(pd.concat(parts))
    (legend,) = figure.subfigs[0].legends
    assert all("lora_qv strategy.rank=" in text.get_text() for text in legend.get_texts())
