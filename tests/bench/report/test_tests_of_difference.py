"""Tests of differences, against numbers worked out by hand, against published examples and against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.report import intervals
from bench.report.tests_of_difference import corrected_t, friedman, holm, resample, signed_rank, signed_ranks


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


@pytest.mark.parametrize("n", [1, 6, 20, 50])
def test_signed_rank_without_ties_equals_the_exact_distribution_of_scipy(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank(differences).p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_signed_rank_with_ties_counts_all_signs():
    # |d| = 1 1 2 2 3 has the ranks 1.5 1.5 3.5 3.5 5; below is 1.5. Of the 32 signs, 0 and 1.5 (twice) are as small.
    assert signed_rank([0.1, -0.1, 0.2, 0.2, 0.3]).p == pytest.approx(2 * 3 / 32)
    tied = [0.1, -0.1, 0.2, 0.2, 0.3, -0.3, 0.4]
    assert signed_rank(tied).p == pytest.approx(stats.wilcoxon(tied, method=stats.PermutationMethod()).pvalue)


def test_signed_rank_changes_the_sign_of_the_effect_alone_when_methods_are_exchanged():
    differences = np.array([0.4, 0.1, -0.3, 0.25, 0.05, 0.6, -0.02])
    one, other = signed_rank(differences), signed_rank(-differences)
    assert (one.statistic, one.p) == (other.statistic, other.p)
    assert one.rank_biserial == pytest.approx(-other.rank_biserial)


def test_signed_rank_without_any_difference_is_not_significant():
    test = signed_rank([0.0, 0.1 + 0.2 - 0.3, 0.0])  # the second is 5.6e-17
    assert (test.p, test.n, test.rank_biserial) == (1.0, 0, 0.0)


def test_tests_of_many_rows_at_once_equal_single_ones():
    rng = np.random.default_rng(19)
    differences = np.round(rng.normal(0.01, 0.05, (12, 90)), 2)  # ties and zeros
    differences[3], differences[4] = 0, 0.01
    differences[5, 30:] = 0  # few enough for the exact distribution
    for many, alone in zip(signed_ranks(differences), map(signed_rank, differences), strict=True):
        np.testing.assert_array_equal(
            [many.statistic, many.p, many.n, many.rank_biserial],
            [alone.statistic, alone.p, alone.n, alone.rank_biserial],
        )
    assert signed_ranks(differences[:0]) == []


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


# Demšar 2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7:1-30, table 6: AUC of C4.5,
# C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. "voting" (0.975 twice) has the ranks 2 and 3 there, before rounding.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_friedman_on_the_published_example_of_demsar():
    test = friedman(DEMSAR)
    assert [round(rank, 3) for rank in test.mean_ranks] == [3.143, 2.000, 2.893, 1.964]
    # The paper's 9.28 is without a correction for ties. Three pairs and a quadruple tie: 1 - (3 * 6 + 60) / (14 * 60).
    assert test.statistic * (1 - 78 / 840) == pytest.approx(9.28, abs=0.005)
    assert test.p < 0.05


def test_signed_rank_on_the_published_example_of_demsar():
    # Table 2 compares C4.5+m with C4.5: R+ = 93 and R- = 12, where half of the ranks 1 and 2 of the two zeros go to
    # either side. Without these, as here, every other rank is smaller by 2: ten above, two below.
    differences = DEMSAR[:, 1] - DEMSAR[:, 0]
    test = signed_rank(differences)
    above, below = 93 - 1.5 - 10 * 2, 12 - 1.5 - 2 * 2
    assert (test.n, test.statistic) == (12, below)
    assert test.rank_biserial == pytest.approx((above - below) / (above + below))
    assert test.p < 0.05  # as in the paper, which compares 12 with the critical value 21


def test_signed_rank_on_the_published_example_of_hollander_and_wolfe():
    # Hollander & Wolfe 1973, "Nonparametric statistical methods", section 3.1: Hamilton depression scale of nine
    # patients before and after treatment. Rank sum 40 of 45, and exactly 10 of the 512 signs give 40 or more.
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    test = signed_rank(before - after)
    assert (test.n, test.statistic) == (9, 5)
    assert test.p == pytest.approx(2 * 10 / 512)
    assert test.rank_biserial == pytest.approx((40 - 5) / 45)


def test_holm_on_the_published_example_of_demsar():
    # Section 3.2.2: of three classifiers against C4.5, Holm's procedure rejects the first two at 0.05.
    assert (holm([0.016, 0.019, 0.607]) < 0.05).tolist() == [True, True, False]
    assert holm([0.016, 0.019, 0.607]) == pytest.approx([0.048, 0.048, 0.607])


def test_comparison_and_leaderboard_draw_the_same_resamples():
    rng = np.random.default_rng(2)
    organs = [f"organ {place % 7}" for place in range(35)]
    one, two = rng.random(35), rng.random(35)
    images = pd.concat(
        [
            pd.DataFrame({"cell": cell, "organ": organs, "stem": [f"{place:02}" for place in range(35)], "fold": 1})
            .assign(weight=1 / 35, pq=pq, aji=pq, dice=pq)
            .sample(frac=1, random_state=3)
            for cell, pq in (("one", one), ("two", two))
        ]
    )
    resampled = intervals.Resampled.of(images, ["one", "two"])
    assert resampled is not None
    first, second = resampled.means("pq", np.array([0, 1]))
    compared = resample(one - two, organs)
    assert np.percentile(first - second, [2.5, 97.5]) == pytest.approx([compared.low, compared.high])
    assert (first > second).mean() == pytest.approx(compared.p_above)


def test_draws_are_the_same_in_every_call_and_add_up():
    counts = intervals.draws(4)
    assert counts.shape == (4, intervals.RESAMPLES)
    assert (counts.sum(axis=0) == 4).all()
    intervals.draws.cache_clear()
    assert (intervals.draws(4) == counts).all()
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 1


def test_interval_equals_the_bootstrap_of_scipy():
    values = np.random.default_rng(4).normal(0.3, 1, 60)
    compared = resample(values, ["organ"] * 60)  # one organ: images are drawn
    reference = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=5).confidence_interval
    assert (compared.low, compared.high) == pytest.approx((reference.low, reference.high), abs=0.02)
