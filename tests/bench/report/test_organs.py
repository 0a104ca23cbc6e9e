"""Scores per organ, against hand-computed means."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from fabricated import record, run
from pyarrow import parquet

from bench.errors import RecordError
from bench.report.frame import pooled, record_frame
from bench.report.image_scores import read_image_scores
from bench.report.organs import organ_frame


def test_scores_of_an_organ_are_pooled_over_folds(tmp_path: Path) -> None:
    records = [record(run(fold=fold, n_splits=2)) for fold in (1, 2)]
    images = [[("a", "liver", 0.2, 10), ("b", "liver", 0.4, 20), ("c", "brain", 0.9, 5)], [("d", "liver", 0.9, 30)]]
    for one, rows in zip(records, images, strict=True):
        table = pd.DataFrame(rows, columns=["stem", "organ", "pq", "n_true"]).assign(dice=0.8, aji=0.6, fold=1)
        target = tmp_path / "runs" / one.id
        target.mkdir(parents=True)
        table.to_parquet(target / "scores.parquet")
    organs = organ_frame(tmp_path, record_frame(records)).set_index("organ")
    assert organs.loc["liver", "pq"] == pytest.approx(0.5)  # (.2 + .4 + .9) / 3, not the mean of .3 and .9
    assert organs.loc["liver", ["n_images", "n_true"]].tolist() == [3, 60]
    assert organs.loc["brain", ["n_images", "n_true"]].tolist() == [1, 5]


def test_missing_image_scores_are_named(tmp_path: Path) -> None:
    one = record(run())
    with pytest.raises(RecordError, match=rf"{one.id}.scores\.parquet is missing, .* copy it beside its record"):
        organ_frame(tmp_path, record_frame([one]))


def test_damaged_image_scores_are_named(tmp_path: Path) -> None:
    one = record(run())
    path = tmp_path / "runs" / one.id / "scores.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(
        RecordError, match=r"scores\.parquet can't be read \(.*\), so there are no scores per organ; copy"
    ):
        organ_frame(tmp_path, record_frame([one]))
    pd.DataFrame({"stem": ["a"]}).to_parquet(path)
    with pytest.raises(RecordError, match=r"scores\.parquet lacks organ, pq, n_true; move the record beside it away"):
        organ_frame(tmp_path, record_frame([one]))


def test_images_and_nuclei_count_once_however_many_seeds_there_are(tmp_path: Path) -> None:
    records = [record(run(fold=fold, n_splits=2, seed=seed)) for seed, fold in ((0, 1), (0, 2), (1, 1))]
    for one, pq in zip(records, (0.2, 0.5, 0.8), strict=True):
        target = tmp_path / "runs" / one.id
        target.mkdir(parents=True)
        table = pd.DataFrame({"stem": ["a", "b"], "organ": "liver", "pq": pq, "n_true": [10, 20], "dice": 0.8})
        table.to_parquet(target / "scores.parquet")
    (liver,) = organ_frame(tmp_path, pooled(record_frame(records))).to_dict("records")
    assert (liver["n_images"], liver["n_true"]) == (4, 60)  # the same names in two folds are two images
    assert liver["pq"] == pytest.approx(0.5)


def test_metadata_that_only_pandas_reads_do_no_harm(tmp_path: Path) -> None:
    table = pa.table({"stem": ["a"], "organ": ["liver"], "pq": [0.5], "n_true": [3]})
    parquet.write_table(table.replace_schema_metadata({b"pandas": b'{"columns": 1}'}), tmp_path / "scores.parquet")
    assert read_image_scores(tmp_path / "scores.parquet").to_dict("records") == table.to_pylist()
