"""Comparison of named methods, pair by pair: numbers, and the blocks that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from bench.columns import Column
from bench.report.intervals import FEWEST_ORGANS, RESAMPLES
from bench.report.methods import Method
from bench.report.paired import SCORES, Pairing, ScoreFiles, pair
from bench.report.strata import listed
from bench.report.table import Block
from bench.report.tests_of_difference import FoldTest, Resampled, SignedRank, corrected_t, holm, resample, signed_rank
from bench.units import SCORE_TITLES

LEVEL = 0.05
N_ORGANS = 5
MEANS = (
    "Means are over images, each counted once; `bench table` averages the means of folds, which differ from these "
    "where folds have different numbers of images."
)
JUDGED = (
    "Decisive here: after Holm's adjustment for all tests. `bench table` judges each pair on its own (bootstrap, 95 "
    "%), so that its ranks may part rows that have no decisive order here."
)
NOTES = (
    "A and B: means in percent. A − B: difference in points, with the 95 % interval of its mean when "
    f"organs are drawn with replacement, each with all its images ({RESAMPLES:,} times). P(A > B): share of draws with "
    "A above.",
    "p images: Wilcoxon signed-rank test on the images, two-sided, Holm over all {n_tests} tests shown. effect: "
    "matched-pairs rank-biserial correlation, from −1 to 1, positive where A is above. p folds: corrected resampled "
    "t-test (Nadeau & Bengio 2003), not adjusted. The first is about these trained models, the second also about "
    "training them again.",
    MEANS,
    JUDGED,
)


@dataclass(frozen=True)
class Comparison:
    """One score of a pair.

    Attributes:
        pairing: the images.
        score: pq, aji or dice.
        images: test on the images.
        p_holm: its p-value, adjusted for all tests shown.
        folds: test over the folds.
        resampled: the mean difference, with organs resampled.
    """

    pairing: Pairing
    score: str
    images: SignedRank
    p_holm: float
    folds: FoldTest
    resampled: Resampled

    @property
    def means(self) -> tuple[float, float]:
        """Mean of each method over the images, as fractions."""
        table = self.pairing.images
        return float(table[f"{self.score}_a"].mean()), float(table[f"{self.score}_b"].mean())

    @property
    def difference(self) -> float:
        """Mean of first minus second."""
        return float(self.pairing.difference(self.score).mean())


def compare(methods: Sequence[Method], files: ScoreFiles) -> list[Comparison]:
    """Compare every pair of methods in every score.

    Raises:
        BenchError: two methods have nothing in common, or a method is ambiguous.
    """
    pairings = [pair(a, b, files) for a, b in combinations(methods, 2)]
    drafts = [_draft(pairing, score) for pairing in pairings for score in SCORES]
    adjusted = holm([draft.images.p for draft in drafts])
    return [replace(draft, p_holm=float(p)) for draft, p in zip(drafts, adjusted, strict=True)]


def _draft(pairing: Pairing, score: str) -> Comparison:
    differences = pairing.difference(score)
    return Comparison(
        pairing,
        score,
        signed_rank(differences),
        float("nan"),
        corrected_t(pairing.fold_differences(score), test_to_train=pairing.test_to_train),
        resample(differences, pairing.images["organ"].tolist()),
    )


def organ_differences(pairing: Pairing, score: str = "pq") -> pd.DataFrame:
    """Return organ, n_images, mean of either method and their difference; the largest difference first."""
    table = pairing.images.rename(columns={f"{score}_a": "mean_a", f"{score}_b": "mean_b"})
    grouped = table.groupby("organ")[["mean_a", "mean_b"]]
    means = grouped.mean().assign(n_images=grouped.size())
    means["difference"] = means["mean_a"] - means["mean_b"]
    means["size"] = means["difference"].abs().round(12)
    ordered = means.reset_index().sort_values(["size", "organ"], ascending=[False, True], ignore_index=True)
    return ordered[["organ", "n_images", "mean_a", "mean_b", "difference"]]


def blocks(comparisons: Sequence[Comparison], title: str, score: str = "pq") -> list[Block]:
    """Return two blocks for each pair: all scores, and the organs where one differs most.

    Args:
        comparisons: of one section.
        title: of the section, which becomes the caption.
        score: the score whose organs are listed.
    """
    parts = []
    for start in range(0, len(comparisons), len(SCORES)):
        of_pair = list(comparisons[start : start + len(SCORES)])
        pairing = of_pair[0].pairing
        notes = [*map(sentence, of_pair), *pairing.notes, *_cautions(pairing)]
        parts.append(Block(f"A = {pairing.a}, B = {pairing.b}", _columns(of_pair), notes, _caption(pairing, title)))
        parts.append(_organ_block(pairing, score))
    explained = [note.format(n_tests=len(comparisons)) for note in NOTES]
    parts[-1] = replace(parts[-1], notes=[*parts[-1].notes, *explained])
    return parts


def sentence(comparison: Comparison) -> str:
    """Return what may be said of a pair in one score."""
    pairing, title = comparison.pairing, SCORE_TITLES[comparison.score]
    difference, p = comparison.difference, p_text(comparison.p_holm)
    if not comparison.images.n:
        return f"{title}: equal on every image."
    if comparison.p_holm >= LEVEL:
        return f"{title}: no decisive order ({p} on the images)."
    if np.sign(difference) != np.sign(comparison.images.rank_biserial):
        return f"{title}: no decisive order; most images favour one method ({p}), the mean the other."
    above, below = (pairing.a, pairing.b) if difference > 0 else (pairing.b, pairing.a)
    points = f"{abs(difference) * 100:.1f} points"
    if np.isnan(comparison.folds.p):
        folds = "the folds can't tell, for want of a spread between them"
    elif comparison.folds.p < LEVEL and np.sign(comparison.folds.t) == np.sign(difference):
        folds = f"over folds too ({p_text(comparison.folds.p)})"
    else:
        folds = f"over folds it is not decisive ({p_text(comparison.folds.p)})"
    return f"{title}: {above} is above {below} by {points} ({p} on the images); {folds}."


def csv_frame(comparisons: Sequence[Comparison], section: dict[str, object]) -> pd.DataFrame:
    """Return a row for each pair and score, then rows for its organs; scores as fractions.

    Args:
        comparisons: of one section.
        section: dataset, digest and folds, put into every row.
    """
    rows: list[dict[str, object]] = []
    for comparison in comparisons:
        pairing, (mean_a, mean_b) = comparison.pairing, comparison.means
        names = {**section, "a": pairing.a, "b": pairing.b, "score": comparison.score}
        rows.append(
            {
                **names,
                "organ": None,
                "n_images": len(pairing.images),
                "mean_a": mean_a,
                "mean_b": mean_b,
                "difference": comparison.difference,
                "low": comparison.resampled.low,
                "high": comparison.resampled.high,
                "p_above": comparison.resampled.p_above,
                "wilcoxon": comparison.images.statistic,
                "n_nonzero": comparison.images.n,
                "wilcoxon_p": comparison.images.p,
                "wilcoxon_p_holm": comparison.p_holm,
                "rank_biserial": comparison.images.rank_biserial,
                "n_folds": pairing.images["fold"].nunique(),
                "test_to_train": pairing.test_to_train,
                "corrected_t": comparison.folds.t,
                "corrected_t_df": comparison.folds.df,
                "corrected_t_p": comparison.folds.p,
                "notes": " ".join(pairing.notes),
            }
        )
        organs = organ_differences(pairing, comparison.score).to_dict("records")
        rows += [{**names, **{str(key): value for key, value in organ.items()}} for organ in organs]
    return pd.DataFrame(rows)


def p_text(p: float) -> str:
    """Return a p-value with its sign: ``p = 0.012``, ``p < 0.001``; a dash where there is none."""
    return "p –" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_cell(p: float) -> str:
    """Return a p-value as a cell of a table."""
    return "–" if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _columns(comparisons: Sequence[Comparison]) -> list[Column]:
    def numbers(title: str, cells: list[str], drop: int = 0) -> Column:
        return Column(title, cells, drop)

    intervals = [
        f"{_points(comparison.difference)} [{_points(comparison.resampled.low)}, {_points(comparison.resampled.high)}]"
        for comparison in comparisons
    ]
    return [
        Column("", [SCORE_TITLES[comparison.score] for comparison in comparisons], right=False),
        numbers("A", [f"{comparison.means[0] * 100:.1f}" for comparison in comparisons]),
        numbers("B", [f"{comparison.means[1] * 100:.1f}" for comparison in comparisons]),
        numbers("A − B", intervals),
        numbers("P(A > B)", [_share(comparison.resampled.p_above) for comparison in comparisons], 3),
        numbers("p images", [p_cell(comparison.p_holm) for comparison in comparisons]),
        numbers(
            "effect", [f"{comparison.images.rank_biserial:+.2f}".replace("-", "−") for comparison in comparisons], 2
        ),
        numbers("p folds", [p_cell(comparison.folds.p) for comparison in comparisons], 1),
    ]


def _organ_block(pairing: Pairing, score: str) -> Block:
    organs = organ_differences(pairing, score)
    shown = organs.head(N_ORGANS)
    columns = [
        Column("organ", [str(name) for name in shown["organ"]], right=False, cut=True),
        Column("images", [str(n) for n in shown["n_images"]]),
        Column("A", [f"{value * 100:.1f}" for value in shown["mean_a"]]),
        Column("B", [f"{value * 100:.1f}" for value in shown["mean_b"]]),
        Column("A − B", [_points(value) for value in shown["difference"]]),
    ]
    above = int((organs["difference"] > 0).sum())
    notes = [f"A is above B on {above} of {len(organs)} organs."]
    return Block(
        f"{SCORE_TITLES[score]} of {pairing.a} and {pairing.b}: the organs where they differ most", columns, notes
    )


def _points(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "−")


def _share(value: float) -> str:
    """Return a share of the draws; 10,000 of them can't tell a thousandth from zero."""
    return "<0.001" if value < 0.001 else ">0.999" if value > 0.999 else f"{value:.3f}"


def _caption(pairing: Pairing, title: str) -> str:
    n_images, n_folds = len(pairing.images), pairing.images["fold"].nunique()
    paired = f"Paired on {n_images} image{'s'[: n_images != 1]} of {n_folds} fold{'s'[: n_folds != 1]}"
    averaged = f", each averaged over {listed(pairing.partners)}" if len(pairing.partners) > 1 else ""
    averaged = f", with {pairing.partners[0]}" if len(pairing.partners) == 1 else averaged
    return f"{title}. {paired}{averaged}."


def _cautions(pairing: Pairing) -> list[str]:
    notes, n_images, n_organs = [], len(pairing.images), pairing.images["organ"].nunique()
    if n_images == 1:
        notes.append("One image only: no test can tell anything.")
    elif n_organs < FEWEST_ORGANS:
        too_few = "One organ is" if n_organs == 1 else f"{n_organs} organs are"
        notes.append(f"{too_few} too few to draw from, so the images were drawn one by one.")
    if pairing.images["fold"].nunique() == 1:
        notes.append("One fold only: there is no test over folds.")
    return notes
