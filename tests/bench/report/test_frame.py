"""Means, spreads and gaps, against hand-computed values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fabricated import record, run

from bench.grid import CLASSICAL, row_id
from bench.report.frame import SCORES, leaderboard_frame, pooled, record_frame


def test_scores_are_those_that_evaluation_writes():
    from bench import metrics
    from bench.training import evaluate

    one = np.ones((4, 4), np.int32)
    assert set(SCORES) <= evaluate.summarise([metrics.score(one, one)]).keys()


def test_frame_has_one_row_per_record_whatever_its_status() -> None:
    records = [
        record(run(fold=1), pq=0.5),
        record(run(fold=2), status="failed", reason="diverged: loss is nan at step 3"),
        record(run(strategy="adapter", fold=1), status="skipped", reason="no MLP to attach to"),
    ]
    frame = record_frame(records)
    assert frame["status"].tolist() == ["ok", "failed", "skipped"]
    assert frame["pq"].tolist()[0] == 0.5
    assert frame["pq"].isna().tolist() == [False, True, True]
    assert frame["reason"].tolist()[1] == "diverged: loss is nan at step 3"
    assert frame["train.epochs"].tolist() == [60, 60, 60]
    assert frame.loc[0, "strategy.rank"] == 4
    assert pd.isna(frame.loc[2, "strategy.rank"])


def test_frame_flattens_costs_with_their_units() -> None:
    row = record_frame([record(run())]).iloc[0]
    assert row["encoder_latency_ms"] == pytest.approx(6.065532)
    assert row["encoder_latency_ms_p95"] == pytest.approx(6.065532 / 0.9)
    assert row["latency_ms"] == pytest.approx(6.065532 + 6 + 30)
    assert row["peak_bytes"] == row["train_peak_bytes"] > row["inference_peak_bytes"]


def test_latency_with_a_part_missing_is_missing() -> None:
    cost = {"decoder_latency_ms": {"median": 6.0, "p95": 7.0}, "postprocessing_latency_ms": None}
    assert pd.isna(record_frame([record(run(), cost=cost)]).loc[0, "latency_ms"])
    classical = record_frame([record(run(CLASSICAL, CLASSICAL))])
    assert classical.loc[0, "latency_ms"] == 230.0


def test_peak_of_a_row_that_does_not_train_is_that_of_inference() -> None:
    row = record_frame([record(run(strategy="zero_shot"))]).iloc[0]
    assert pd.isna(row["train_peak_bytes"])
    assert row["peak_bytes"] == row["inference_peak_bytes"]


def test_a_record_may_lack_everything_but_its_settings() -> None:
    settings = run(n_splits=1)
    bare = type(record(settings))(id="x", status="ok", run=settings)
    row = leaderboard_frame(record_frame([bare])).iloc[0]
    assert row["complete"]
    assert row[["pq_mean", "latency_ms", "peak_bytes"]].isna().all()
    assert (row["device_name"], row["dataset_images"], row["official"]) == ("", None, False)


def test_the_comparison_with_the_release_is_read_where_a_record_has_it() -> None:
    old, new = record(run(fold=1)), record(run(fold=2), verified="names as released, content not verified")
    frame = record_frame([old, new])
    assert frame["verification"].isna().tolist() == [True, False]
    assert leaderboard_frame(frame)["verification"].tolist() == ["names as released, content not verified"]


def test_no_records_make_empty_tables() -> None:
    assert record_frame([]).empty
    assert leaderboard_frame(record_frame([])).empty


def test_leaderboard_mean_and_sd_over_folds() -> None:
    # PQ .50 .54 .52: mean .52, deviations −.02 .02 0, variance (.0004 + .0004) / 2, sd .02
    folds = zip((1, 2, 3), (0.50, 0.54, 0.52), strict=True)
    records = [record(run(fold=fold, n_splits=3), pq=pq) for fold, pq in folds]
    board = leaderboard_frame(record_frame(records))
    assert len(board) == 1
    row = board.iloc[0]
    assert row["pq_mean"] == pytest.approx(0.52)
    assert row["pq_sd"] == pytest.approx(0.02)
    assert (row["n_ok"], row["n_expected"], row["complete"]) == (3, 3, True)
    assert row["gpu_seconds"] == 3 * 3060.0
    assert row["n_images"] == 3 * 133
    assert row["reasons"] == ()


def test_seconds_are_missing_where_a_fold_was_not_timed() -> None:
    timed, shared = record(run(fold=1, n_splits=2)), record(run(fold=2, n_splits=2))
    shared = replace(shared, cost={**(shared.cost or {}), "gpu_seconds": None, "train_seconds": None})
    row = leaderboard_frame(record_frame([timed, shared])).iloc[0]
    assert row[["gpu_seconds", "train_seconds"]].isna().all()
    assert row["validation_seconds"] == 80.0


def test_folds_of_the_same_settings_make_one_row() -> None:
    one, other = run(fold=1), run(fold=2)
    assert row_id(one) == row_id(other)
    records = [record(one), record(other), record(run(fold=1, options={"rank": 8}))]
    board = leaderboard_frame(record_frame(records))
    assert sorted(board["strategy.rank"]) == [4, 8]
    assert sorted(board["n_ok"]) == [1, 2]


def test_one_fold_has_no_spread() -> None:
    row = leaderboard_frame(record_frame([record(run(fold=1), pq=0.5)])).iloc[0]
    assert row["pq_mean"] == 0.5
    assert pd.isna(row["pq_sd"])


def test_failed_and_missing_folds_are_named() -> None:
    failed = record(run(fold=2), status="failed", reason="out of memory: 42 GiB asked")
    records = [record(run(fold=1), pq=0.4), failed, record(run(fold=3), pq=0.6)]
    row = leaderboard_frame(record_frame(records)).iloc[0]
    assert (row["n_ok"], row["n_failed"], row["n_expected"], row["complete"]) == (2, 1, 5, False)
    assert row["pq_mean"] == pytest.approx(0.5)
    assert row["reasons"] == (
        f"fold 2: failed (out of memory: 42 GiB asked; run {failed.id})",
        "fold 4: no record",
        "fold 5: no record",
    )


def test_a_failure_without_a_reason_is_named_too() -> None:
    records = [
        record(run(fold=1, n_splits=3), status="failed"),
        record(run(fold=2, n_splits=3), status="skipped", reason="no MLP"),
        record(run(fold=3, n_splits=3)),
    ]
    row = leaderboard_frame(record_frame(records)).iloc[0]
    assert row["reasons"] == (
        f"fold 1: failed (no reason recorded; run {records[0].id})",
        f"fold 2: skipped (no MLP; run {records[1].id})",
    )


def test_rows_stand_in_the_order_of_their_first_records_whatever_lies_between() -> None:
    # rows a b a b c: a has .2 and .4, b .6 and none, c none at all
    n = {"n_splits": 2}
    records = [
        record(run(seed=1, fold=2, **n), pq=0.2),
        record(run(seed=2, fold=1, **n), pq=0.6),
        record(run(seed=1, fold=1, **n), pq=0.4),
        record(run(seed=2, fold=2, **n), status="failed", reason="diverged: nan"),
        record(run(seed=3, fold=1, **n), status="skipped", reason="no MLP", official=False),
    ]
    board = leaderboard_frame(record_frame(records))
    assert board["seed"].tolist() == [1, 2, 3]
    assert board["cell"].tolist() == [row_id(records[place].run) for place in (0, 1, 4)]
    assert board[["n_ok", "n_failed", "n_skipped"]].to_numpy().tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert board["pq_mean"].fillna(-1).tolist() == pytest.approx([0.3, 0.6, -1])
    assert board["pq_sd"].fillna(-1).tolist() == pytest.approx([0.02**0.5, -1, -1])
    assert board["n_true"].fillna(-1).tolist() == [12_000, 6_000, -1]
    assert board["complete"].tolist() == [True, False, False]
    assert board["device_name"].tolist() == ["NVIDIA A100", "NVIDIA A100", ""]
    assert board["official"].tolist() == [True, True, False]
    assert board["dataset_images"].tolist() == [665, 665, 19]


def test_counts_of_complete_rows_are_whole_numbers() -> None:
    records = [record(run(fold=fold, n_splits=2)) for fold in (1, 2)]
    board = leaderboard_frame(record_frame(records))
    kinds = {name: board[name].dtype.kind for name in ("n_images", "n_true", "parameters_total", "n_ok", "pq_mean")}
    assert kinds == {"n_images": "i", "n_true": "i", "parameters_total": "i", "n_ok": "i", "pq_mean": "f"}


def test_counts_of_a_row_are_of_its_images_however_many_seeds_there_are() -> None:
    records = [record(run(fold=fold, n_splits=2, seed=seed)) for seed, fold in ((0, 1), (0, 2), (1, 1), (1, 2), (2, 1))]
    empty = [replace(one, scores={**(one.scores or {}), "n_empty_both": n}) for n, one in enumerate(records)]
    row = leaderboard_frame(pooled(record_frame(empty))).iloc[0]
    assert (row["n_ok"], row["n_images"], row["n_true"]) == (5, 2 * 133, 2 * 6000)
    assert row["n_empty_both"] == (0 + 2 + 4) / 3 + (1 + 3) / 2


def test_a_row_without_any_score_stays_in_the_leaderboard() -> None:
    board = leaderboard_frame(record_frame([record(run(n_splits=1), status="failed", reason="error: x")]))
    assert len(board) == 1
    assert pd.isna(board.loc[0, "pq_mean"])
    assert pd.isna(board.loc[0, "gpu_seconds"])


def test_a_score_missing_in_one_fold_is_missing_in_the_mean() -> None:
    whole, part = record(run(fold=1)), record(run(fold=2))
    scores = {name: value for name, value in (part.scores or {}).items() if name != "aji_plus"}
    part = type(part)(id=part.id, status="ok", run=part.run, scores=scores, cost=part.cost)
    row = leaderboard_frame(record_frame([whole, part])).iloc[0]
    assert pd.isna(row["aji_plus_mean"])
    assert row["aji_mean"] == pytest.approx(0.6)
