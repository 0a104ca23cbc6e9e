"""History of a training as a file: columns, bytes, damage, and what records of earlier versions held."""

from __future__ import annotations

import math

import pyarrow
import pytest
from pyarrow import parquet

from bench.errors import RecordError
from bench.results import history
from bench.results.record import HISTORY_FILENAME

ROWS = [
    {"epoch": 1, "step": 3, "lr": 0.1, "loss": 2.0, "loss_ä_b": 1.5, "grad_norm": 0.5, "peak_bytes": None},
    {"epoch": 2, "step": 6, "lr": 0.0, "pq": 0.25, "aji": 0.5, "peak_bytes": 7, "loss": 1.0, "loss_ä_b": 0.5},
]


def test_columns_stand_in_a_fixed_order_and_what_a_row_lacks_is_none(tmp_path):
    history.write(tmp_path, ROWS)
    table = parquet.read_table(tmp_path / HISTORY_FILENAME)
    assert table.column_names == [
        *("epoch", "step", "loss", "loss_ä_b", "lr", "encoder_lr", "grad_norm", "pq", "aji"),
        *("images_per_s", "peak_bytes", "seconds", "validation_seconds", "post_processing_seconds"),
    ]
    kinds = {name for name in table.column_names if table.schema.field(name).type == pyarrow.int64()}
    assert kinds == {"epoch", "step", "peak_bytes"}
    first, second = history.read(tmp_path)
    assert (first["pq"], first["peak_bytes"], second["grad_norm"], second["seconds"]) == (None, None, None, None)
    assert (first["loss"], second["pq"], second["peak_bytes"]) == (2.0, 0.25, 7)


def test_same_rows_give_the_same_bytes_and_leave_nothing_else(tmp_path):
    for name in ("a", "b"):
        history.write(tmp_path / name, ROWS)
        assert [path.name for path in (tmp_path / name).iterdir()] == [HISTORY_FILENAME]
    assert (tmp_path / "a" / HISTORY_FILENAME).read_bytes() == (tmp_path / "b" / HISTORY_FILENAME).read_bytes()


def test_no_rows_and_no_file_are_an_empty_history(tmp_path):
    assert history.read(tmp_path / "gone") == []
    history.write(tmp_path, [])
    assert history.read(tmp_path) == []


def test_rows_are_sorted_and_nan_is_none(tmp_path):
    parquet.write_table(pyarrow.table({"epoch": [2, 1], "pq": [0.5, math.nan]}), tmp_path / HISTORY_FILENAME)
    assert history.read(tmp_path) == [{"epoch": 1, "pq": None}, {"epoch": 2, "pq": 0.5}]


def test_damaged_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / HISTORY_FILENAME
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(RecordError, match=rf"{HISTORY_FILENAME} can't be read \(.*\); copy it again, or remove it\.$"):
        history.read(tmp_path)
    parquet.write_table(pyarrow.table({"loss": [1.0]}), path)
    with pytest.raises(RecordError, match=r"is not the history of a training \(no epochs\)"):
        history.read(tmp_path)


@pytest.mark.parametrize("cost", [None, {}, {"history": None}, {"history": [3, {"loss": 1}]}, {"history": "x"}])
def test_records_without_a_history_have_none(cost):
    assert history.of_record(cost) == []


def test_history_in_a_record_of_an_earlier_version_is_read():
    old = {"history": [{"epoch": 1, "mean_loss": 0.5, "pq": 0.25}, {"epoch": 2, "loss": 0.4, "pq": 0.3}]}
    assert [(row["epoch"], row["loss"], row["pq"]) for row in history.of_record(old)] == [(1, 0.5, 0.25), (2, 0.4, 0.3)]
