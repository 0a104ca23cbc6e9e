"""Missed, spurious, merged and split nuclei, by hand and by the definitions written out with sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import metrics
from bench.metrics.object_errors import ERROR_COUNTS, categories


def a_map(*rows: str) -> np.ndarray:
    return np.array([[int(c) for c in row] for row in rows])


def counts(true: np.ndarray, pred: np.ndarray) -> tuple[int, ...]:
    """Return missed, spurious, merged, split."""
    score = metrics.score(true, pred, errors=True)
    return tuple(int(score[name]) for name in ERROR_COUNTS)


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ("1110", "2220", (0, 0, 0, 0)),
        ("1110", "0000", (1, 0, 0, 0)),
        ("0000", "1110", (0, 1, 0, 0)),
        ("0000", "0000", (0, 0, 0, 0)),
        ("1100", "0011", (1, 1, 0, 0)),  # side by side
        ("1122", "1122", (0, 0, 0, 0)),  # touching, both right
        ("1122", "1111", (0, 0, 1, 0)),  # two true ones in one prediction, no match
        ("111112", "111111", (0, 0, 1, 0)),  # the larger one matches, and both are merged
        ("1111", "1122", (0, 0, 0, 1)),  # one true one in two predictions
        ("111111", "111112", (0, 0, 0, 1)),  # the larger part matches
        ("111222", "111333", (0, 0, 0, 0)),
        ("112233", "111111", (0, 0, 1, 0)),  # one prediction over three nuclei is one merge
        ("11220333", "11110445", (0, 0, 1, 1)),  # both in one image
        ("110000", "111111", (1, 1, 0, 0)),  # one nucleus inside a prediction thrice its size: neither match nor merge
        ("1111122222", "1111111222", (0, 0, 0, 0)),  # a border that is off: two fifths of nucleus 2 are no majority
        ("11112222", "11111122", (1, 1, 0, 0)),  # exactly half of nucleus 2 is neither a majority nor a match
        ("11112222", "11111112", (0, 1, 1, 0)),  # three quarters of nucleus 2 are taken, a quarter has a speck
        ("1111000", "1000000", (1, 1, 0, 0)),  # a quarter of a nucleus
    ],
)
def test_cases_by_hand(true, pred, expected):
    assert counts(a_map(true), a_map(pred)) == expected


def test_one_nucleus_can_be_merged_and_split_at_once():
    # Prediction 1 covers 6 of the 10 px of nucleus 1 and all of nucleus 2; prediction 2 lies inside nucleus 1 as well.
    true, pred = a_map("11111111112"), a_map("22201111111")
    pred[0, 4] = 1
    assert counts(true, pred) == (0, 0, 1, 1)
    of_true, of_pred = categories(true, pred)
    assert of_true == {1: "merged", 2: "merged"} and of_pred == {1: "merged", 2: "split"}


def test_categories_are_given_by_id_whatever_the_gaps():
    true = a_map("110220330440000", "110220330000000") * 100
    pred = a_map("110222330000055", "110222660000000") * 7
    of_true, of_pred = categories(true, pred)
    assert of_true == {100: "matched", 200: "matched", 300: "split", 400: "missed"}
    assert of_pred == {7: "matched", 14: "matched", 21: "split", 42: "split", 35: "spurious"}
    assert all(type(label) is int for label in (*of_true, *of_pred))


def test_merged_goes_before_matched():
    of_true, of_pred = categories(a_map("111112"), a_map("333333"))
    assert of_true == {1: "merged", 2: "merged"} and of_pred == {3: "merged"}


def test_empty_maps_have_no_categories():
    assert categories(a_map("00"), a_map("00")) == ({}, {})
    assert categories(a_map("01"), a_map("00")) == ({1: "missed"}, {})
    assert categories(np.zeros((0, 3), int), np.zeros((0, 3), int)) == ({}, {})


def test_maps_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="the true map is"):
        categories(a_map("00"), a_map("000"))


def test_counts_are_integers_and_leave_all_scores_as_they_were():
    true, pred = a_map("11220333", "00220333"), a_map("11110445", "00000440")
    plain, counted = metrics.score(true, pred), metrics.score(true, pred, errors=True)
    assert {name: counted[name] for name in plain} == plain
    assert counted.keys() - plain.keys() == set(ERROR_COUNTS)
    assert all(type(counted[name]) is int for name in ERROR_COUNTS)


def label_maps() -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int32, (6, 6), elements=st.integers(0, 4))


def by_definition(true: np.ndarray, pred: np.ndarray) -> tuple[int, ...]:
    def nuclei(label_map):
        return [set(np.flatnonzero(label_map == i).tolist()) for i in np.unique(label_map).tolist() if i]

    t, p = nuclei(true), nuclei(pred)

    def inside(a, b):
        return 2 * len(a & b) > len(a)

    merges = [b for b in p if sum(inside(a, b) for a in t) > 1]
    splits = [a for a in t if sum(inside(b, a) for b in p) > 1]
    missed = [
        a
        for a in t
        if not any(2 * len(a & b) > len(a | b) for b in p) and not any(inside(a, b) for b in merges) and a not in splits
    ]
    spurious = [
        b
        for b in p
        if not any(2 * len(a & b) > len(a | b) for a in t) and not any(inside(b, a) for a in splits) and b not in merges
    ]
    return len(missed), len(spurious), len(merges), len(splits)


@settings(max_examples=100, deadline=None)
@given(label_maps(), label_maps())
def test_counts_agree_with_the_definitions_and_swap_with_the_maps(true, pred):
    missed, spurious, merged, split = counts(true, pred)
    assert (missed, spurious, merged, split) == by_definition(true, pred)
    assert counts(pred, true) == (spurious, missed, split, merged)
    assert missed <= metrics.score(true, pred)["n_true"] - metrics.score(true, pred)["tp"]


@settings(max_examples=50, deadline=None)
@given(label_maps(), label_maps())
def test_categories_add_up_to_the_counts(true, pred):
    of_true, of_pred = categories(true, pred)
    missed, spurious, merged, _ = counts(true, pred)
    assert list(of_true.values()).count("missed") == missed
    assert list(of_pred.values()).count("spurious") == spurious
    assert list(of_pred.values()).count("merged") == merged
