"""Histories of all trainings in one table: with settings, of older records, of runs at work, and damaged ones."""

from __future__ import annotations

from dataclasses import replace

import fabricated
import pandas as pd
import pytest
from every_state import planned

from bench.errors import BenchError, RecordError
from bench.report.histories import history_frame, history_numbers
from bench.results import history, record


def write(results, *, rows, old=(), **settings):
    made = fabricated.record(fabricated.run(**settings))
    record.write(results, replace(made, cost={**(made.cost or {}), "history": list(old)}))
    if rows:
        history.write(record.folder(results, made.id), rows)
    return made.id


def test_every_epoch_has_the_settings_of_its_run(tmp_path):
    two = [
        {"epoch": 1, "loss": 2.0, "loss_bce": 1.5, "pq": None},
        {"epoch": 2, "loss": 1.0, "loss_bce": 0.5, "pq": 0.5},
    ]
    second = write(tmp_path, rows=two, fold=2, seed=1, options={"rank": 8})
    first = write(tmp_path, rows=two[:1], fold=1, backbone="sam_vit_b", strategy="full")
    write(tmp_path, rows=[], fold=1, strategy="zero_shot")
    frame = history_frame(tmp_path)
    assert list(zip(frame["id"], frame["epoch"], strict=True)) == [(second, 1), (second, 2), (first, 1)]
    assert frame.loc[
        1, ["backbone", "strategy", "fold", "seed", "strategy.rank", "train.epochs", "status"]
    ].tolist() == [*("mobile_sam", "lora_qv", 2, 1, 8.0, 60, "ok")]
    assert frame["pq"].isna().tolist() == [True, False, True] and frame.loc[1, "loss_bce"] == 0.5
    assert set(frame["cell"]) == set(frame["cell"].dropna()) and frame["setting"].nunique() == 2
    pd.testing.assert_frame_equal(frame, history_frame(tmp_path))


def test_second_training_follows_the_first_and_curves_are_of_the_first_alone(tmp_path):
    again = [{"training": 2, "epoch": n, "loss": 0.1 * n} for n in (1, 2)]
    first = [{"training": 1, "epoch": n, "loss": 1.0 * n, "pq": 0.5} for n in (1, 2)]
    write(tmp_path, rows=[*again, *first], fold=1)
    write(tmp_path, rows=[{"epoch": 1, "loss": 3.0}], fold=2)
    frame = history_frame(tmp_path)
    assert frame["loss"].tolist() == [1.0, 2.0, 0.1, 0.2, 3.0]
    assert frame["training"].fillna(0).tolist() == [1, 1, 2, 2, 0]
    assert sorted(history_numbers(tmp_path, ["loss"])["loss"]) == [1.0, 2.0, 3.0]


def test_history_in_an_older_record_is_read(tmp_path):
    write(tmp_path, rows=[], old=[{"epoch": 5, "mean_loss": 0.25, "pq": 0.5}])
    frame = history_frame(tmp_path)
    assert frame.loc[0, ["epoch", "loss", "pq"]].tolist() == [5, 0.25, 0.5] and frame["lr"].isna().all()


def test_run_that_is_still_trained_has_no_status(tmp_path):
    place = planned(tmp_path, ("mobile_sam",), ("lora_qv",))
    history.write(place.folder("mobile_sam/lora_qv/3"), [{"epoch": 1, "loss": 0.5}])
    frame = history_frame(tmp_path)
    assert (frame["id"].tolist(), frame["status"].isna().tolist()) == ([place.id("mobile_sam/lora_qv/3")], [True])
    assert frame["fold"].tolist() == [3]


@pytest.mark.parametrize("folder", ["nothing", "."])
def test_without_any_history_the_table_has_columns_and_no_rows(tmp_path, folder):
    frame = history_frame(tmp_path / folder)
    assert len(frame) == 0 and {"id", "backbone", "fold", "seed", "epoch", "loss", "lr", "seconds"} <= set(frame)


def test_damaged_history_is_named_and_the_others_are_read(tmp_path):
    good = write(tmp_path, rows=[{"epoch": 1, "loss": 0.5}], fold=1)
    bad = write(tmp_path, rows=[], fold=2)
    (record.folder(tmp_path, bad) / record.HISTORY_FILENAME).write_bytes(b"torn")
    with pytest.raises(RecordError, match=r"history\.parquet can't be read"):
        history_frame(tmp_path)
    unreadable: list[str] = []
    assert history_frame(tmp_path, unreadable)["id"].tolist() == [good]
    assert len(unreadable) == 1 and bad in unreadable[0]


def test_damaged_plan_is_named(tmp_path):
    write(tmp_path, rows=[{"epoch": 1, "loss": 0.5}])
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "torn.json").write_text("{")
    with pytest.raises(BenchError, match=r"torn\.json can't be read as a plan"):
        history_frame(tmp_path)
    unreadable: list[str] = []
    assert len(history_frame(tmp_path, unreadable)) == 1 and "torn.json" in unreadable[0]
