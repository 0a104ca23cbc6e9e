"""Pairing: the scores of two methods on the same test images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.report import may_have_seen, tuning_budgets
from bench.report.methods import Method
from bench.report.score_tables import NAMES, read_scores
from bench.report.strata import Stratum, listed, strata

SCORES = ("pq", "aji", "dice")
IMAGE = ["organ", "stem", "fold"]
MOST_NAMED = 5
"""So many images are named in a note; the others are counted."""


@dataclass(frozen=True)
class Pairing:
    """Two methods on the images that both have.

    Attributes:
        a: name of the first.
        b: name of the second.
        images: a row for each image: organ, stem, fold, and ``pq_a``, ``pq_b``, … as fractions. What is averaged
            stands in one row, so that an image counts once however many backbones and seeds there are.
        partners: what is averaged: backbones (or strategies) and seeds that both methods have; empty for two rows
            with one seed.
        test_to_train: number of images of a fold by the number of all others.
        notes: sentences on what one of them lacks.
    """

    a: str
    b: str
    images: pd.DataFrame
    partners: tuple[str, ...]
    test_to_train: float
    notes: tuple[str, ...]

    def difference(self, score: str) -> np.ndarray:
        """Return first minus second, for each image."""
        return (self.images[f"{score}_a"] - self.images[f"{score}_b"]).to_numpy(float)

    def fold_differences(self, score: str) -> np.ndarray:
        """Return the mean difference of each fold."""
        return pd.Series(self.difference(score)).groupby(self.images["fold"].to_numpy()).mean().to_numpy(float)


@dataclass
class ScoreFiles:
    """Scores per image of the runs below a results folder, each file read once.

    Attributes:
        results: the folder.
    """

    results: Path
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the scores of some runs, a row for each image; the mean where several runs have the same image.

        Raises:
            RecordError: a file is missing or damaged.
        """
        self.read(runs["id"])
        parts = [
            self._read[run_id].assign(fold=int(fold)) for run_id, fold in zip(runs["id"], runs["fold"], strict=True)
        ]
        if not parts:
            return pd.DataFrame(columns=[*IMAGE, *SCORES])
        # Files that were read together have the same categories, and then numbers are grouped instead of texts.
        table = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(NAMES, "category"))
        lacking = table[list(SCORES)].isna().any(axis=1)
        grouped = table.groupby(IMAGE, observed=True)
        means = grouped[list(SCORES)].mean()
        # A mean over fewer seeds, or a score that is not a number, must not pass for the mean over all.
        if lacking.any():
            means.iloc[grouped.ngroup()[lacking].unique()] = float("nan")
        means = means.reset_index()
        return means.assign(**{name: means[name].astype(object) for name in NAMES})

    def read(self, ids: Iterable[str]) -> None:
        """Read the files of these runs that were not read yet; all at once is faster than in parts.

        Raises:
            RecordError: a file is missing or damaged.
        """
        new = [run_id for run_id in dict.fromkeys(ids) if run_id not in self._read]
        table = read_scores(self.results, new, SCORES)
        table.check(("organ", "stem", *SCORES), "its images can't be compared")
        ends = np.searchsorted(table.images["run"], np.arange(len(new) + 1)).tolist()
        for place, run_id in enumerate(new):
            self._read[run_id] = table.images.iloc[ends[place] : ends[place + 1]][[*NAMES, *SCORES]]


def pair(a: Method, b: Method, files: ScoreFiles) -> Pairing:
    """Pair two methods over everything that they share: backbones or strategies, seeds, folds, images.

    Raises:
        BenchError: nothing is shared, or several settings of a method could be meant.
        RecordError: scores of an image are missing or damaged.
    """
    for method in (a, b):
        if method.ok.empty:
            raise BenchError(
                f"no run of {method.name!r} is ok, so it can't be compared: {_missing_folds(method.runs)}."
            )
    parts, notes = strata(a, b)
    tables = [_joined(stratum, a, b, files) for stratum in parts]
    common = tables[0].table.index
    for joined in tables[1:]:
        common = common.intersection(joined.table.index)
    notes += [note for joined in tables for note in joined.notes]
    partial = tables[0].table.index.append([joined.table.index for joined in tables[1:]]).unique().difference(common)
    if len(partial):
        labels = listed([stratum.label for stratum in parts])
        notes.append(f"Left out, because not all of {labels} have it: {named(partial)}.")
    values = np.mean([joined.table.loc[common].to_numpy(float) for joined in tables], axis=0)
    images = pd.DataFrame(values, common, tables[0].table.columns)
    bad = ~np.isfinite(images.to_numpy(float)).all(axis=1)
    if bad.any():
        notes.append(f"Left out, because a score is not a number: {named(images.index[bad])}.")
    images = images[~bad].sort_index().reset_index()
    unranked = "so `bench table` does not rank it beside other rows"
    notes += filter(None, (may_have_seen.method_note(method.name, method.runs, unranked) for method in (a, b)))
    notes += filter(None, [tuning_budgets.method_note([a.name, b.name], [a.runs, b.runs])])
    notes = list(dict.fromkeys(notes))
    if images.empty:
        raise BenchError(" ".join([f"{a.name!r} and {b.name!r} have scores of no image in common.", *notes]))
    partners = tuple(stratum.label for stratum in parts if stratum.label)
    return Pairing(a.name, b.name, images, partners, _test_to_train(images, a.runs), tuple(notes))


@dataclass(frozen=True)
class _Joined:
    """Scores of both methods on their common images, in columns ``pq_a``, ``pq_b``, …; and what one of them lacks."""

    table: pd.DataFrame
    notes: list[str]


def _joined(stratum: Stratum, a: Method, b: Method, files: ScoreFiles) -> _Joined:
    folds = [set(runs["fold"].astype(int)) for runs in (stratum.a, stratum.b)]
    both, notes = folds[0] & folds[1], []
    where = f" ({stratum.label})" if stratum.label else ""
    expected = set(stratum.a["expected_folds"].iloc[0])
    if len(both) < len(expected):
        lacks = [
            f"{method.name}{where} has {_missing_folds(method.runs, expected - own)}"
            for method, own in zip((a, b), folds, strict=True)
            if len(own) < len(expected)
        ]
        used = f"on fold {listed(sorted(map(str, both)))} of {len(expected)}" if both else "on no fold"
        notes.append(f"Compared {used}: {'; '.join(lacks)}.")
    tables = [files.of(runs[runs["fold"].isin(both)]).set_index(IMAGE) for runs in (stratum.a, stratum.b)]
    for method, own, other in ((a, tables[0], tables[1]), (b, tables[1], tables[0])):
        missing = other.index.difference(own.index)
        if len(missing):
            notes.append(f"Left out, because {method.name}{where} has no scores of it: {named(missing)}.")
    joined = tables[0].add_suffix("_a").join(tables[1].add_suffix("_b"), how="inner")
    return _Joined(joined, notes)


def _missing_folds(runs: pd.DataFrame, folds: Iterable[int] | None = None) -> str:
    """Return a phrase for each fold without a run that is ok; all folds by default."""
    folds = sorted(runs["expected_folds"].iloc[0] if folds is None else folds)
    phrases = []
    for fold in folds:
        of_fold = runs[(runs["fold"] == fold) & (runs["status"] != "ok")]
        reasons = [f"{row.status} ({row.reason})" for row in of_fold.itertuples()]
        phrases.append(f"fold {fold} " + (reasons[0] if reasons else "not run"))
    return ", ".join(phrases)


def _test_to_train(images: pd.DataFrame, runs: pd.DataFrame) -> float:
    n_folds, known = len(runs["expected_folds"].iloc[0]), runs["dataset_images"].dropna()
    n_test = len(images) / images["fold"].nunique()
    n_images = float(known.max()) if len(known) else n_test * n_folds
    return n_test / (n_images - n_test) if n_images > n_test else 1 / max(n_folds - 1, 1)


def named(images: pd.Index) -> str:
    """Return the first images by name, and how many there are more."""
    names = [f"{stem} ({organ})" for organ, stem, _ in images[:MOST_NAMED]]
    more = len(images) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
