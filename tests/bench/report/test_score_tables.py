"""Scores of the images of many runs: equal to those of single files, whatever the types and columns of these."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from bench.errors import RecordError
from bench.report.score_tables import read_scores
from bench.results.record import SCORES_FILENAME, folder


def write(results, run_id, **columns):
    path = folder(results, run_id) / SCORES_FILENAME
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_runs_stand_in_the_order_of_their_ids_and_images_in_that_of_their_files(tmp_path):
    write(tmp_path, "b", stem=["2", "1"], organ=["liver", "brain"], pq=[0.25, 0.5], n_true=[3, 4])
    write(tmp_path, "a", stem=["3"], organ=["brain"], pq=[0.75], n_true=[5])
    table = read_scores(tmp_path, ["b", "a"], ("pq", "n_true"))
    assert table.images["run"].tolist() == [0, 0, 1]
    assert table.images["stem"].tolist() == ["2", "1", "3"]
    assert table.images["organ"].cat.categories.tolist() == ["brain", "liver"]
    assert table.images["pq"].tolist() == [0.25, 0.5, 0.75]
    assert table.images["n_true"].tolist() == [3, 4, 5] and table.images["n_true"].dtype.kind == "i"


def test_files_of_other_types_and_columns_become_one_table(tmp_path):
    large = pyarrow.array(["2"], pyarrow.large_string())
    write(tmp_path, "a", stem=["1"], organ=["liver"], pq=[0.25], n_true=[3], f1=[0.5])
    write(tmp_path, "b", stem=large, organ=[None], pq=pyarrow.array([1], pyarrow.int8()), n_true=[None])
    table = read_scores(tmp_path, ["a", "b"], ("pq", "n_true", "f1"))
    pd.testing.assert_frame_equal(
        table.images.astype({"organ": object, "stem": object}),
        pd.DataFrame(
            {
                "run": [0, 1],
                "organ": np.array(["liver", "None"], object),
                "stem": np.array(["1", "2"], object),
                "pq": [0.25, 1.0],
                "n_true": [3.0, np.nan],
                "f1": [0.5, np.nan],
            }
        ),
        check_dtype=False,  # of the texts, which pandas keeps in a type of its own
    )
    assert table.problem("b", ("stem", "f1")).endswith("b/scores.parquet lacks f1")
    assert table.problem("a", ("stem", "f1")) == ""


def test_a_missing_and_a_damaged_file_leave_the_others_as_they_are(tmp_path):
    write(tmp_path, "a", stem=["1"], organ=["liver"], pq=[0.25])
    write(tmp_path, "c", stem=["1"], organ=["liver"], pq=[0.5]).write_bytes(b"PAR1 and no more")
    table = read_scores(tmp_path, ["a", "b", "c"], ("pq",))
    assert table.images["pq"].tolist() == [0.25]
    assert table.unusable["b"] == "is missing" and table.unusable["c"].startswith("can't be read (")
    with pytest.raises(RecordError, match=r"b/scores.parquet is missing, so nothing can be shown; copy it beside"):
        table.check(("pq",), "nothing can be shown")


def test_no_runs_give_an_empty_table(tmp_path):
    table = read_scores(tmp_path, [], ("pq",))
    assert table.images.columns.tolist() == ["run", "organ", "stem", "pq"] and table.images.empty
