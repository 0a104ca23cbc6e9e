"""Durations, sizes and counts as text."""

from __future__ import annotations

import pytest

from bench import units


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (600, "10 min"), (3599, "60 min"), (11100, "3 h 05 min")]
)
def test_durations_have_one_unit_or_two(seconds, text):
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.001, "1 min"), (0.2, "12 min"), (2.5, "2.5 h"), (3.0, "3 h"), (80.4, "80 h")]
)
def test_estimated_hours_are_rounded(value, text):
    assert units.hours(value) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (29_696, "29.7 k"), (93_735_472, "93.7 M")])
def test_parameter_counts_have_one_decimal(count, text):
    assert units.millions(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (147_456, "147 k"), (4_058_340, "4.06 M"), (999_600, "1000 k"), (1_012e6, "1012 M")]
)
def test_parameter_counts_with_three_digits_have_no_exponent(count, text):
    assert units.significant(count) == text


def test_bytes_are_counted_in_powers_of_ten_and_ticks_keep_all_digits():
    assert [units.gigabytes(n) for n in (40_000_000, 1_627_427_342)] == ["40 MB", "1.6 GB"]
    assert [units.tick(value) for value in (1.5e6, 3e5, 0.2, 2e9)] == ["1.5 M", "300 k", "0.2", "2 G"]


def test_nouns_take_an_s_but_for_one():
    assert [units.plural(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_bytes_of_memory_are_counted_in_powers_of_two():
    assert units.gibibytes(33 * 2**30 + 2**28) == "33.2 GiB"
