"""Tests of differences, against numbers worked out by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.report.tests_of_difference import corrected_t, friedman, holm, resample, signed_rank


def test_signed_rank_of_five_differences_by_hand():
    # |d| has the ranks 1, 2, 3, 4, 5; the negative one has rank 2, so the sums are 13 and 2. Of the 32 signs, those
    # with a rank sum of at most 2 are {}, {1}, {2}: p = 2 * 3 / 32.
    test = signed_rank([0.1, -0.2, 0.3, 0.4, 0.5])
    assert (test.statistic, test.n) == (2, 5)
    assert test.p == pytest.approx(6 / 32)
    assert test.rank_biserial == pytest.approx((13 - 2) / 15)


def test_signed_rank_leaves_out_zeros_and_equals_scipy():
    rng = np.random.default_rng(3)
    differences = np.concatenate([rng.normal(0.2, 1, 80), np.zeros(9)])
    reference = stats.wilcoxon(differences, zero_method="wilcox")
    test = signed_rank(differences)
    assert test.n == 80
    assert test.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert test.statistic == reference.statistic


def test_signed_rank_changes_the_sign_of_the_effect_alone_when_methods_are_exchanged():
    differences = np.array([0.4, 0.1, -0.3, 0.25, 0.05, 0.6, -0.02])
    one, other = signed_rank(differences), signed_rank(-differences)
    assert (one.statistic, one.p) == (other.statistic, other.p)
    assert one.rank_biserial == pytest.approx(-other.rank_biserial)


def test_signed_rank_without_any_difference_is_not_significant():
    test = signed_rank([0.0, 0.1 + 0.2 - 0.3, 0.0])  # the second is 5.6e-17
    assert (test.p, test.n, test.rank_biserial) == (1.0, 0, 0.0)


def test_holm_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last may not be below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one_and_counts_no_missing_test():
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    adjusted = holm([float("nan"), 0.02, 0.03])
    assert np.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])
    assert holm([]).tolist() == []


def test_corrected_t_by_hand():
    # Five folds: mean .03, variance (4 + 1 + 0 + 1 + 4) e-4 / 4 = 2.5e-4; (1/5 + 1/4) * 2.5e-4 = 1.125e-4.
    test = corrected_t([0.01, 0.02, 0.03, 0.04, 0.05], test_to_train=1 / 4)
    assert test.t == pytest.approx(0.03 / 0.000_112_5**0.5)
    assert test.t == pytest.approx(2.828_427, abs=1e-6)  # 2 * sqrt(2)
    # Student's distribution with four degrees of freedom, in closed form: P(T > t) = 1/2 - x (1 - x² / 3) * 3/4,
    # where x = t / sqrt(t² + 4); here x² = 8 / 12.
    x = (8 / 12) ** 0.5
    assert test.p == pytest.approx(1 - 1.5 * x * (1 - x**2 / 3), abs=1e-9)
    assert test.df == 4


def test_corrected_t_without_correction_is_the_paired_t_test_of_scipy():
    differences = [0.03, -0.01, 0.06, 0.02]
    test, reference = corrected_t(differences, test_to_train=0), stats.ttest_1samp(differences, 0)
    assert (test.t, test.p) == pytest.approx((reference.statistic, reference.pvalue))


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_corrected_t_is_missing_without_variance(differences):
    test = corrected_t(differences, test_to_train=1)
    assert np.isnan(test.t)
    assert np.isnan(test.p)


def test_resampling_of_two_organs_draws_whole_organs():
    # Drawn twice from {liver: mean 1, 3 images; brain: mean -3, 1 image}: both liver 1/4 (mean 1), both brain 1/4
    # (mean -3), one of each 1/2 (mean (3 - 3) / 4 = 0, which counts half).
    resampled = resample(np.array([1.0, 1.0, 1.0, -3.0]), ["liver"] * 3 + ["brain"], fewest=2)
    assert resampled.p_above == pytest.approx(1 / 4 + 1 / 4, abs=0.01)
    assert (resampled.low, resampled.high) == (-3, 1)


def test_resampling_gives_the_same_numbers_twice():
    differences = np.random.default_rng(1).normal(0.1, 1, 40)
    organs = [f"organ {i % 8}" for i in range(40)]
    assert resample(differences, organs) == resample(differences, organs)


def test_resampling_of_few_organs_draws_single_images():
    # of two images, both are the better one in 1/4 of the draws, and the mean of both is above zero
    resampled = resample(np.array([3.0, -1.0]), ["liver", "brain"])
    assert resampled.p_above == pytest.approx(3 / 4, abs=0.015)


def test_friedman_by_hand():
    # Ranks of 4 images: (1, 2, 3) three times and (2, 1, 3) once: sums 5, 7, 12. 12 / (4 * 3 * 4) * (25 + 49 + 144)
    # - 3 * 4 * 4 = 6.5; with two degrees of freedom p = exp(-6.5 / 2).
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.7, 0.6], [0.5, 0.4, 0.3], [0.4, 0.6, 0.2]])
    test = friedman(scores)
    assert test.mean_ranks == pytest.approx((5 / 4, 7 / 4, 3))
    assert test.statistic == pytest.approx(6.5)
    assert test.p == pytest.approx(np.exp(-3.25))


def test_friedman_shares_ranks_of_ties_and_equals_scipy():
    scores = np.array([[0.5, 0.5, 0.1, 0.0], [0.4, 0.2, 0.2, 0.2], [0.9, 0.7, 0.8, 0.1]])
    test, reference = friedman(scores), stats.friedmanchisquare(*scores.T)
    assert test.mean_ranks == pytest.approx(((1.5 + 1 + 1) / 3, (1.5 + 3 + 3) / 3, (3 + 3 + 2) / 3, (4 + 3 + 4) / 3))
    assert (test.statistic, test.p) == pytest.approx((reference.statistic, reference.pvalue))


def test_friedman_is_missing_where_all_methods_tie_or_are_two():
    assert np.isnan(friedman(np.full((5, 3), 0.5)).p)
    two = friedman(np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert np.isnan(two.p)
    assert two.mean_ranks == (2, 1)
