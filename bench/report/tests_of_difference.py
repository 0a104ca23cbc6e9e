"""Tests of the difference between two or more methods on the same images: from numbers to numbers, without records.

Sources:

- Signed ranks, and effect size: Wilcoxon 1945, "Individual comparisons by ranking methods"; Kerby 2014, "The simple
  difference formula", for the matched-pairs rank-biserial correlation.
- Several tests at once: Holm 1979, "A simple sequentially rejective multiple test procedure".
- Over folds: Nadeau & Bengio 2003, "Inference for the generalization error", section 3.
- Several methods: Friedman 1937; as Demšar 2006 ("Statistical comparisons of classifiers over multiple data sets")
  uses it, with Wilcoxon-Holm after it rather than Nemenyi, whose outcome for two methods depends on which others
  are in the pool (Benavoli, Corani & Mangili 2016, "Should we really use post-hoc tests based on mean-ranks?").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.report.intervals import FEWEST_ORGANS, TAIL, clusters, draws

MOST_EXACT = 50
"""Differences whose signs are all counted; scipy, too, takes the normal distribution for more."""
DECIMALS = 12
"""Differences are rounded to so many digits, so that a tie is a tie whatever the order of additions was."""


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test.

    Attributes:
        statistic: the smaller of the two sums of ranks.
        p: two-sided; exact up to `MOST_EXACT` differences, from the normal distribution beyond.
        n: number of differences that are not zero; the others are left out, as Wilcoxon did.
        rank_biserial: share of rank sum in favour of the first minus share against it, -1 … 1; 0 if all are zero.
    """

    statistic: float
    p: float
    n: int
    rank_biserial: float


@dataclass(frozen=True)
class FoldTest:
    """Corrected resampled t-test over folds; NaN where there is no variance to divide by.

    Attributes:
        t: mean difference by its corrected standard error.
        df: degrees of freedom, the number of folds less one.
        p: two-sided.
    """

    t: float
    df: int
    p: float


@dataclass(frozen=True)
class Resampled:
    """Mean difference under resampling.

    Attributes:
        p_above: share of resamples in which the mean difference is above zero; one of exactly zero counts half.
        low: lower end of the 95 % percentile interval of the mean difference.
        high: its upper end.
    """

    p_above: float
    low: float
    high: float


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of several methods on the same images, corrected for ties.

    Attributes:
        mean_ranks: for each method; 1 is best, tied methods share the mean of their ranks.
        statistic: chi-squared; NaN for fewer than three methods, or if all methods tie on all images.
        p: from the chi-squared distribution.
    """

    mean_ranks: tuple[float, ...]
    statistic: float
    p: float


def signed_rank(differences: Sequence[float] | np.ndarray) -> SignedRank:
    """Test whether paired differences are symmetric about zero.

    Args:
        differences: first minus second method, one for each image; finite.

    Returns:
        The test; p = 1 and no statistic if no difference is left.
    """
    from scipy.stats import rankdata, wilcoxon

    rounded = np.round(np.asarray(differences, dtype=float), DECIMALS)
    rounded = rounded[rounded != 0]
    if not len(rounded):
        return SignedRank(float("nan"), 1.0, 0, 0.0)
    ranks = rankdata(np.abs(rounded))
    above, below = float(ranks[rounded > 0].sum()), float(ranks[rounded < 0].sum())
    if len(rounded) <= MOST_EXACT:
        p = _exact_p(ranks, min(above, below))
    else:
        p = float(wilcoxon(rounded, method="asymptotic").pvalue)
    return SignedRank(min(above, below), p, len(rounded), (above - below) / (above + below))


def signed_ranks(differences: np.ndarray) -> list[SignedRank]:
    """Return `signed_rank` of each row of differences, (tests, images); equal to it, and ten times as fast for many."""
    from scipy.stats import rankdata, wilcoxon

    rounded = np.round(differences, DECIMALS)
    sizes = (rounded != 0).sum(axis=1)
    large = np.flatnonzero(sizes > MOST_EXACT)
    results = {place: signed_rank(differences[place]) for place in np.flatnonzero(sizes <= MOST_EXACT).tolist()}
    if len(large):
        chosen = rounded[large]
        ranks = rankdata(np.where(chosen == 0, np.nan, np.abs(chosen)), axis=1, nan_policy="omit")
        above, below = (np.where(side, ranks, 0).sum(axis=1) for side in (chosen > 0, chosen < 0))
        p = wilcoxon(chosen, axis=1, method="asymptotic").pvalue
        for row, place in enumerate(large.tolist()):
            first, second = float(above[row]), float(below[row])
            effect = (first - second) / (first + second)
            results[place] = SignedRank(min(first, second), float(p[row]), int(sizes[place]), effect)
    return [results[place] for place in range(len(differences))]


def _exact_p(ranks: np.ndarray, smaller: float) -> float:
    """Return the share of all signs of the ranks that give a rank sum as small, times two.

    scipy has the exact distribution without ties only; with ties it tries all signs one by one, which takes seconds.
    The ranks, doubled, are whole numbers, so their sums are counted rank by rank (Streitberg & Röhmel 1986).
    """
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(int(doubled.sum()) + 1)
    chances[0] = 1
    for rank in doubled:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    return min(1.0, float(2 * chances[: round(2 * smaller) + 1].sum()))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values adjusted for being so many, by Holm's step-down method; NaN stays, and doesn't count."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(order) else scaled
    return adjusted


def corrected_t(differences: Sequence[float] | np.ndarray, *, test_to_train: float) -> FoldTest:
    """Test the mean difference over folds; trainings share images, for which the variance is corrected.

    Args:
        differences: mean difference of each fold.
        test_to_train: number of test images of a fold by the number of its other images.
    """
    from scipy.stats import t as student

    rounded = np.round(np.asarray(differences, dtype=float), DECIMALS)
    n = len(rounded)
    variance = float(rounded.var(ddof=1)) if n > 1 and np.ptp(rounded) > 0 else 0.0
    if variance == 0:
        return FoldTest(float("nan"), n - 1, float("nan"))
    t = float(rounded.mean()) / np.sqrt((1 / n + test_to_train) * variance)
    return FoldTest(float(t), n - 1, float(2 * student.sf(abs(t), n - 1)))


def resample(differences: np.ndarray, organs: Sequence[str], *, fewest: int = FEWEST_ORGANS) -> Resampled:
    """Draw organs with replacement, each with all its images, and take the mean difference of the images drawn.

    Args:
        differences: one for each image.
        organs: of each image.
        fewest: with fewer organs, images are drawn singly (see `bench.report.intervals.clusters`).
    """
    places, _ = clusters(organs, fewest)
    sums, sizes = np.bincount(places, weights=differences), np.bincount(places)
    counts = draws(len(sums))
    means = np.round(sums @ counts / (sizes @ counts), DECIMALS)
    low, high = np.percentile(means, [100 * TAIL, 100 * (1 - TAIL)])
    return Resampled(float((means > 0).mean() + (means == 0).mean() / 2), float(low), float(high))


def friedman(scores: np.ndarray) -> Friedman:
    """Rank methods on every image, the highest score first, and test whether their mean ranks differ.

    Args:
        scores: (images, methods), finite.
    """
    from scipy.stats import friedmanchisquare, rankdata

    rounded = np.round(scores, DECIMALS)
    ranks = rankdata(-rounded, axis=1)
    statistic, p = float("nan"), float("nan")
    if scores.shape[1] > 2 and (ranks != ranks[:, :1]).any():
        statistic, p = (float(value) for value in friedmanchisquare(*rounded.T))
    return Friedman(tuple(float(rank) for rank in ranks.mean(axis=0)), statistic, p)
