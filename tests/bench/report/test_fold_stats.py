"""Statistics over folds, against hand-computed values and one row at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from bench.report.fold_stats import FoldStats

NAN = float("nan")
ROWS = np.array([0, 1, 0, 2, 0, 3])  # the row of the leaderboard of six records
OK = np.array([True, True, True, True, False, False])  # row 0 has records 0 and 2, rows 1 and 2 one each, row 3 none


def folds() -> FoldStats:
    return FoldStats.of(ROWS, OK, 4)


def same(results: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_array_equal(results, np.array(expected))


def test_mean_and_spread() -> None:
    values = pd.Series([1.0, 5.0, 2.0, NAN, 100.0, 100.0])
    same(folds().mean(values), [1.5, 5.0, NAN, NAN])
    spreads = folds().sd(values)  # row 0: deviations −.5 and .5, variance .5
    assert spreads[0] == pytest.approx(0.5**0.5, abs=0)
    assert np.isnan(spreads[1:]).all()


def test_one_missing_fold_spoils_the_mean_but_not_the_sum() -> None:
    values = pd.Series([1.0, 5.0, NAN, NAN, 100.0, 100.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(folds().mean(values), [NAN, 5.0, NAN, NAN])
        same(folds().sum(values), [1.0, 5.0, NAN, NAN])
        same(folds().sum(values, partial=False), [NAN, 5.0, NAN, NAN])
        same(folds().max(values), [1.0, 5.0, NAN, NAN])


def test_whole_numbers_stay_whole_where_every_row_has_one() -> None:
    values = pd.Series([3, 5, 4, 7, 100, 100])
    assert folds().sum(values).dtype == float  # row 3 has none
    whole = FoldStats.of(ROWS[:4], OK[:4], 3)
    assert whole.sum(values[:4]).tolist() == [7, 5, 7]
    assert whole.max(values[:4]).tolist() == [4, 5, 7]
    assert whole.sum(values[:4]).dtype == whole.max(values[:4]).dtype == np.int64
    assert whole.mean(values[:4]).tolist() == [3.5, 5.0, 7.0]


def test_names_of_all_folds_each_once() -> None:
    devices = pd.Series(["H200", "A100", "A100", None, "V100", "V100"])
    assert folds().names(devices) == ["A100 + H200", "A100", "", ""]


def test_rows_without_a_chosen_record_have_no_value() -> None:
    none = FoldStats.of(ROWS, np.zeros(6, bool), 4)
    assert np.isnan(none.mean(pd.Series(np.ones(6)))).all()
    assert none.names(pd.Series(["x"] * 6)) == [""] * 4


@pytest.mark.parametrize("n", [2, 5, 8, 9, 17])
def test_rows_reduced_together_are_as_exact_as_alone(n: int) -> None:
    rng = np.random.default_rng(n)
    rows = rng.permutation(np.repeat(np.arange(30), n))
    values = pd.Series(rng.random(30 * n) * 10.0 ** rng.integers(-6, 6, 30 * n))
    together = FoldStats.of(rows, np.ones(30 * n, bool), 30)
    alone = [values[rows == row] for row in range(30)]
    same(together.mean(values), [row.mean() for row in alone])
    same(together.sd(values), [row.std(ddof=1) for row in alone])
    same(together.sum(values), [row.sum() for row in alone])
