"""Images whose predictions a run keeps, and the names of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.results import kept_files


def test_best_median_and_worst_are_ordered_by_pq_and_then_by_stem():
    pq = {"d": 0.4, "c": 0.9, "b": 0.4, "a": 0.1, "e": 0.9}
    assert kept_files.places(pq) == {"best": "c", "median": "b", "worst": "a"}


@pytest.mark.parametrize(
    ("stems", "expected"),
    [("", ()), ("a", ("a", "a", "a")), ("ba", ("a", "a", "b")), ("cab", ("a", "b", "c")), ("dcab", ("a", "b", "d"))],
)
def test_images_of_equal_pq_are_ordered_by_stem(stems, expected):
    assert tuple(kept_files.places(dict.fromkeys(stems, 0.5)).values()) == expected


def test_first_images_are_kept_besides_the_best_median_and_worst():
    pq = {"f": 0.5, "a": 0.3, "b": 0.9, "c": 0.1, "d": 0.4, "e": 0.6}
    assert kept_files.kept_stems(pq, 0) == ["f", "b", "c"]  # in the order of the fold
    assert kept_files.kept_stems(pq, 2) == ["f", "a", "b", "c"]
    assert kept_files.kept_stems(pq, 100) == list(pq)
    assert kept_files.kept_stems(pq, None) == list(pq)
    assert kept_files.kept_stems({}, 3) == []


def test_number_of_kept_predictions_is_a_number_or_all():
    assert [kept_files.parse_kept(text) for text in ("0", "12", "all", " ALL ")] == [0, 12, None, None]


@pytest.mark.parametrize("text", ["", "-1", "1.5", "some", "1e3", "٣", "9" * 10])
def test_other_numbers_of_kept_predictions_are_refused_with_what_is_allowed(text):
    with pytest.raises(BenchError, match=r"give a number of test images from 0 on .* or all\.$"):
        kept_files.parse_kept(text)


def test_an_image_and_the_labels_of_another_never_share_a_file():
    results = Path("results")
    pixels = kept_files.pixels_path(results, "abc", "a.labels")
    assert pixels == results / "images/abc/a.labels.png"
    labels = kept_files.label_map_paths(kept_files.true_path(results, "abc", "a"))
    assert labels == (results / "images/abc/labels/a.png", results / "images/abc/labels/a.tif")
