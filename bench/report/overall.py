"""Comparison of all rows of a section at once: mean ranks, Friedman's test, and a test of every two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from bench.columns import Column
from bench.errors import BenchError
from bench.report import may_have_seen, tuning_budgets
from bench.report.comparison import JUDGED, LEVEL, MEANS, p_cell, p_text
from bench.report.methods import Method
from bench.report.paired import IMAGE, SCORES, ScoreFiles, named
from bench.report.strata import listed
from bench.report.table import ESSENTIAL, Block
from bench.report.tests_of_difference import Friedman, friedman, holm, signed_ranks
from bench.units import SCORE_TITLES

NOTES = (
    "Mean rank over images: 1 is best on every image; rows that tie on an image share their ranks.",
    "differs from: number of rows whose {title} differs from this row's (Wilcoxon signed-rank test on the images, Holm "
    "over all pairs, p < 0.05).",
    MEANS,
    JUDGED,
)


MOST_ROWS = 100
"""So many rows are compared: 4,950 pairs, three scores each, a few seconds."""
UNRANKED = "so it has no rank beside other rows; give its name to compare it"
AMONG_THEMSELVES = "so it is ranked among such rows only"
SIGNS = "+: the row is above the column; −: below it (p < 0.05); ·: no difference. Markdown and CSV have the numbers."


class TooFewRowsError(BenchError):
    """Rows of a section that can't be compared, because there are fewer than two."""


@dataclass(frozen=True)
class Overall:
    """All rows of a section in one score, on the images that all have.

    Attributes:
        score: pq, aji or dice.
        names: of the rows.
        means: of the rows over the images, as fractions.
        friedman: mean ranks, and the test.
        p: (rows, rows) raw p-values of Wilcoxon's test, NaN on the diagonal.
        p_holm: the same, adjusted for all pairs.
        effect: (rows, rows) rank-biserial correlation, positive where the row is above the column.
        n_images: number of images.
        partial: names of the rows that are without a seed, because it lacks folds.
    """

    score: str
    names: tuple[str, ...]
    means: np.ndarray
    friedman: Friedman
    p: np.ndarray
    p_holm: np.ndarray
    effect: np.ndarray
    n_images: int
    partial: frozenset[str] = frozenset()

    def shown(self, i: int) -> str:
        """Return a row's name, marked where the row is without a seed."""
        return self.names[i] + (" †" if self.names[i] in self.partial else "")


def compare_all(methods: Sequence[Method], files: ScoreFiles) -> tuple[list[Overall], list[str]]:
    """Compare all rows that are complete, in every score; and return notes on what is left out.

    Raises:
        TooFewRowsError: fewer than two rows are complete.
        BenchError: the rows are too many, or share no image.
    """
    if len(methods) > MOST_ROWS:
        raise BenchError(
            f"{len(methods)} rows are too many to compare every two; {MOST_ROWS} are the most. Give the names of some: "
            "`bench compare NAME NAME…`."
        )
    notes, names, tables, partial = [], [], [], set[str]()
    own = {method.name: _most_complete(method) for method in methods if not method.classical}
    complete = {name: runs for name, (runs, lacking) in own.items() if not lacking}
    seen = {name: note for name, runs in complete.items() if (note := may_have_seen.method_note(name, runs, UNRANKED))}
    if len(seen) == len(complete):  # among themselves
        notes += [may_have_seen.method_note(name, complete[name], AMONG_THEMSELVES) for name in seen]
        seen = {}
    files.read(run_id for name, runs in complete.items() if name not in seen for run_id in runs["id"])
    for method in methods:
        if method.name in seen:
            notes.append(seen[method.name])
            continue
        if method.classical:
            notes.append(f"{method.name}: the reference, not ranked; `bench compare {method.name} NAME` compares it.")
            continue
        runs, lacking = own[method.name]
        fewer = sorted(set(method.runs["seed"]) - set(runs["seed"]))
        if fewer and not lacking:
            notes.append(
                f"† {method.name}: without seed {listed(map(str, fewer))}, which lacks folds; "
                f"`bench table` does not rank it."
            )
            partial.add(method.name)
        if lacking:
            notes.append(f"Left out: {method.name}, without fold {listed(lacking)}. Give its name to compare it.")
        else:
            names.append(method.name)
            tables.append(files.of(runs).set_index(IMAGE))
    notes += filter(None, [tuning_budgets.method_note(names, [own[name][0] for name in names])])
    if len(names) < 2:
        who = f"only {names[0]} has" if names else "no row has"
        raise TooFewRowsError(" ".join([f"{who} all folds, so no two rows can be compared.", *notes]))
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    union = tables[0].index.append([table.index for table in tables[1:]]).unique()
    if len(union) > len(common):
        notes.append(f"Left out, because a row has no scores of it: {named(union.difference(common))}.")
    scores = np.stack([table.loc[common, list(SCORES)].to_numpy(float) for table in tables])  # (rows, images, scores)
    bad = ~np.isfinite(scores).all(axis=(0, 2))
    if bad.any():
        notes.append(f"Left out, because a score is not a number: {named(common[bad])}.")
    scores = scores[:, ~bad]
    if not scores.shape[1]:
        raise BenchError(" ".join(["the rows have scores of no image in common.", *notes]))
    return [
        _overall(score, tuple(names), scores[:, :, place], frozenset(partial)) for place, score in enumerate(SCORES)
    ], notes


def _overall(score: str, names: tuple[str, ...], values: np.ndarray, partial: frozenset[str]) -> Overall:
    n = len(names)
    p, p_holm, effect = (np.full((n, n), np.nan) for _ in range(3))
    pairs = list(combinations(range(n), 2))
    tests = [test for i in range(n - 1) for test in signed_ranks(values[i] - values[i + 1 :])]
    for (i, j), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        p[i, j] = p[j, i] = test.p
        p_holm[i, j] = p_holm[j, i] = adjusted
        effect[i, j], effect[j, i] = test.rank_biserial, -test.rank_biserial
    return Overall(score, names, values.mean(axis=1), friedman(values.T), p, p_holm, effect, values.shape[1], partial)


def _most_complete(method: Method) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs of the seeds that have the most folds, and the folds that one of them lacks, with the seed."""
    n_folds = method.ok.groupby("seed")["fold"].transform("nunique")
    runs = method.ok[n_folds == n_folds.max()]
    folds = {str(seed): set(own["fold"].astype(int)) for seed, own in runs.groupby("seed")}
    lacking = []
    for fold in method.runs["expected_folds"].iloc[0]:
        seeds = [seed for seed, own in folds.items() if fold not in own]
        if len(seeds) == len(folds):
            lacking.append(str(fold))
        elif seeds:
            lacking.append(f"{fold} (seed {listed(seeds)})")
    return runs, lacking


def blocks(overalls: Sequence[Overall], notes: Sequence[str], title: str) -> list[Block]:
    """Return mean ranks of all rows, and the matrix of p-values.

    Args:
        overalls: the first orders the rows, and has the matrix.
        notes: on what is left out.
        title: of the section.
    """
    first = overalls[0]
    order = sorted(range(len(first.names)), key=lambda i: (first.friedman.mean_ranks[i], first.names[i]))
    columns = [
        Column("", [str(place) for place in range(1, len(order) + 1)]),
        Column("row", [first.shown(i) for i in order], right=False),
    ]
    for drop, overall in enumerate(overalls):
        ranks = [f"{overall.friedman.mean_ranks[i]:.2f}" for i in order]
        columns.append(Column(f"mean rank\n{SCORE_TITLES[overall.score]}", ranks, drop))
        columns.append(
            Column(f"mean\n{SCORE_TITLES[overall.score]}", [f"{overall.means[i] * 100:.1f}" for i in order], drop + 1)
        )
    decisive = [f"{int((first.p_holm[i] < LEVEL).sum())} of {len(order) - 1}" for i in order]
    columns.append(Column("differs\nfrom", decisive, 1))
    ranked = Block(
        f"Mean ranks on {first.n_images} images. {title}",
        columns,
        [*map(_friedman_sentence, overalls), *notes, *(note.format(title=SCORE_TITLES[first.score]) for note in NOTES)],
    )
    return [ranked, _matrix(first, order)]


def _matrix(overall: Overall, order: Sequence[int]) -> Block:
    columns = [
        Column("", [str(place) for place in range(1, len(order) + 1)]),
        Column("row", [overall.shown(i) for i in order], right=False),
    ]
    for place, j in enumerate(order, 1):
        cells = [p_cell(overall.p_holm[i, j]) if i != j else "" for i in order]
        signs = [_sign(overall.p_holm[i, j], overall.effect[i, j]) if i != j else "" for i in order]
        narrow = Column(str(place), signs, ESSENTIAL, note=SIGNS)
        columns.append(Column(str(place), cells, ESSENTIAL, narrow=narrow))
    note = "Wilcoxon's signed-rank test on the images, Holm over all pairs. Columns are numbered as the rows are."
    return Block(f"{SCORE_TITLES[overall.score]} of every two rows: p-value", columns, [note])


def _sign(p: float, effect: float) -> str:
    return "·" if p >= LEVEL else "+" if effect > 0 else "−"


def _friedman_sentence(overall: Overall) -> str:
    title = SCORE_TITLES[overall.score]
    if np.isnan(overall.friedman.p):
        why = "two rows only" if len(overall.names) < 3 else "all rows are equal on every image"
        return f"{title}: Friedman's test says nothing ({why})."
    degrees = len(overall.names) - 1
    return (
        f"{title}: Friedman's chi-squared = {overall.friedman.statistic:.1f} with {degrees} degrees of freedom, "
        + p_text(overall.friedman.p)
        + "."
    )


def csv_frame(overalls: Sequence[Overall], section: dict[str, object]) -> pd.DataFrame:
    """Return for each score a row for Friedman's test, for each method (``rank``) and for each pair (``pair``)."""
    rows: list[dict[str, object]] = []
    for overall in overalls:
        base = {**section, "score": overall.score, "n_images": overall.n_images}
        rows.append({**base, "kind": "friedman", "statistic": overall.friedman.statistic, "p": overall.friedman.p})
        for place, name in enumerate(overall.names):
            values = {"mean": overall.means[place], "mean_rank": overall.friedman.mean_ranks[place]}
            rows.append({**base, "kind": "rank", "a": name, **values})
        for i, j in combinations(range(len(overall.names)), 2):
            tests = {"p": overall.p[i, j], "p_holm": overall.p_holm[i, j], "rank_biserial": overall.effect[i, j]}
            difference = overall.means[i] - overall.means[j]
            rows.append(
                {**base, "kind": "pair", "a": overall.names[i], "b": overall.names[j], "mean": difference, **tests}
            )
    first = [*section, "kind", "score", "a", "b", "n_images", "mean", "mean_rank", "statistic", "p", "p_holm"]
    return pd.DataFrame(rows).reindex(columns=[*first, "rank_biserial"])
