"""Section: rows of a leaderboard that may be compared with each other, ranked, beside published scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.grid import CLASSICAL, RULES_VERSION
from bench.report import may_have_seen, tuning_budgets
from bench.report.fold_rule import folds_text
from bench.report.frame import SECTION_KEYS
from bench.report.image_scores import ImageScores
from bench.report.ranks import with_intervals
from bench.units import setting_text
from registry import datasets


@dataclass(frozen=True)
class Section:
    """Rows of one protocol: same images, same folds.

    Attributes:
        dataset: registered name.
        dataset_digest: fingerprint of images, labels and groups.
        n_splits: number of folds.
        fold_seed: their shuffling seed.
        rules_version: see `bench.grid.RULES_VERSION`.
        folds: numbers of the folds that hold images.
        folds_rule: how the images were assigned to them, see `bench.folds.rule`; None where no record knows it.
        n_images: images in the dataset, where a record knows it.
        folder: name of the data folder, where a record knows it.
        official: the images and folds of the dataset's release.
        verification: sentences of the records on how the images compare with the release; none in older records.
        real_tissue: False for made-up images.
        shares_ranks: published scores of these images are known to agree in folds, choice of checkpoint and scoring,
            so that they share the ranks.
        rows: leaderboard rows, best PQ first, incomplete ones last; ``rank`` is NaN for incomplete rows,
            the classical reference, and rows whose pre-training may have seen the images, beside others.
        published: baseline rows, comparable ones first; ``rank`` is NaN where they don't share the ranks.
        settings: columns of `rows` in which rows differ, so that a reader must see them.
        decided: for each score, whether its best ranked row is decisively better than every other one.
        uncertainty: sentences on intervals, and on the order that they allow.
        only: settings by which its rows were chosen, as ``KEY=A,B``; empty: it has all rows.
    """

    dataset: str
    dataset_digest: str
    n_splits: int
    fold_seed: int
    rules_version: str
    folds: tuple[int, ...]
    folds_rule: str | None
    n_images: int | None
    folder: str | None
    official: bool
    verification: tuple[str, ...]
    real_tissue: bool
    shares_ranks: bool
    rows: pd.DataFrame
    published: pd.DataFrame
    settings: tuple[str, ...]
    decided: Mapping[str, bool] = field(default_factory=dict)
    uncertainty: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[object, ...]:
        """Values of `SECTION_KEYS`, which tell it from the other sections."""
        return tuple(getattr(self, key) for key in SECTION_KEYS)

    @property
    def folder_differs(self) -> bool:
        """The images are in a folder of the user's, under a name that is not the dataset's."""
        return bool(self.folder) and self.folder != self.dataset and not self.official

    @property
    def name(self) -> str:
        """The user's name of the images: their folder's; other images must not pass for the dataset's release."""
        return str(self.folder) if self.folder_differs else self.dataset

    @property
    def layout(self) -> str:
        """Title of the dataset in whose layout the images are."""
        titles = self.published.loc[self.published["dataset"] == self.dataset, "dataset_title"]
        return str(titles.iloc[0]) if len(titles) else self.dataset

    @property
    def is_current(self) -> bool:
        """The rows were made under the rules of this version of the program."""
        return self.rules_version == RULES_VERSION

    @property
    def file_stem(self) -> str:
        """Name, digest and folds as a part of a file name."""
        name = re.sub(r"[^\w.-]+", "_", self.name)
        return f"{name}_{self.dataset_digest}_{self.n_splits}-folds-{self.fold_seed}" + (
            "" if self.is_current else f"_{self.rules_version}"
        )

    @property
    def title(self) -> str:
        """Name, images, digest, folds and the choice of rows in one line."""
        images = f"{self.n_images} images" if self.n_images is not None else "unknown number of images"
        release = ", official release" if self.official else ""
        if self.official and self.verification:
            release += f" ({'; '.join(self.verification)})"
        folds = folds_text(
            self.folds_rule,
            self.folds,
            n_splits=self.n_splits,
            fold_seed=self.fold_seed,
            dataset=self.dataset,
            title=self.layout,
            n_images=self.n_images,
        )
        older = "" if self.is_current else f", under the rules of version {self.rules_version}"
        chosen = f"; only rows with {', '.join(self.only)}" if self.only else ""
        return f"{self.name}: {images}{release}, digest {self.dataset_digest}, {folds}{older}" + chosen

    @property
    def encoder_apart(self) -> bool:
        """A trained row knows how many of its trainable parameters are the encoder's."""
        return bool(self.rows.loc[self.rows["trains"], "parameters_trainable_encoder"].notna().any())

    @property
    def published_here(self) -> bool:
        """Published rows are of these images, whatever their folds."""
        return self.official and bool((self.published["dataset"] == self.dataset).any())

    @property
    def published_on(self) -> str:
        """Names of the datasets of the published rows."""
        return ", ".join(dict.fromkeys(self.published["dataset_title"]))

    @property
    def classical_pq(self) -> float | None:
        """Mean PQ of the complete classical row; None without one."""
        values = self.rows.loc[_classical(self.rows) & self.rows["complete"], "pq_mean"].dropna()
        return float(values.max()) if len(values) else None

    @property
    def below_classical(self) -> pd.DataFrame:
        """Complete trained rows whose PQ stays below the classical row's."""
        trained = self.rows["complete"] & self.rows["trains"]
        if self.classical_pq is None:
            return self.rows[:0]
        return self.rows[trained & (self.rows["pq_mean"] < self.classical_pq)]


def sections(leaderboard: pd.DataFrame, baselines: pd.DataFrame, images: ImageScores | None = None) -> list[Section]:
    """Split a leaderboard by dataset, its digest and folds; those beside published scores first, then by name.

    Args:
        leaderboard: see `bench.report.frame.leaderboard_frame`.
        baselines: published rows.
        images: scores of the images, for intervals; None: there are none.
    """
    if leaderboard.empty:
        return []
    parts = [_section(group, baselines, images) for _, group in leaderboard.groupby(list(SECTION_KEYS))]
    return sorted(parts, key=lambda section: (not section.published_here, not section.official))


def of_section(records: pd.DataFrame, keys: tuple[object, ...]) -> pd.DataFrame:
    """Return the records, or the rows of a leaderboard, of the section with these `Section.keys`."""
    return records[(records[list(SECTION_KEYS)] == list(keys)).all(axis=1)]


def row_name(row: pd.Series, settings: tuple[str, ...] = ()) -> str:
    """Return backbone, strategy and the settings that distinguish a row; the classical row has one name only."""
    if row["backbone"] == CLASSICAL:
        return CLASSICAL
    return " ".join([row["backbone"], row["strategy"], *row_settings(row, settings)])


def row_settings(row: pd.Series, settings: tuple[str, ...]) -> list[str]:
    """Return the settings that a row has, as ``name=value``."""
    return [f"{name}={setting(row, name)}" for name in settings if setting(row, name) != "–"]


def setting(row: pd.Series, name: str) -> str:
    """Return a setting as a short text; ``–`` where the row has no such setting."""
    return "–" if row["backbone"] == CLASSICAL else _text(name, row[name])


def numeric(values: pd.Series) -> bool:
    """Return whether a setting's values are numbers, where it has one."""
    known = [value for value in values if not pd.isna(value)]
    return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)


def _text(name: str, value: Any) -> str:
    if pd.isna(value):
        return "fit" if name == "scale" else "–"
    return setting_text(value)


def _section(group: pd.DataFrame, baselines: pd.DataFrame, scores: ImageScores | None) -> Section:
    first = group.iloc[0]
    dataset, n_splits, fold_seed = str(first["dataset"]), int(first["n_splits"]), int(first["fold_seed"])
    images, folders = group["dataset_images"].dropna(), group["dataset_folder"].dropna()
    # A dataset that is not registered here has no official folds, so its rows are shown and compared with nothing.
    release = datasets.release(dataset)
    scored = group[group["n_ok"] > 0]
    is_release = scored["official"].all() if len(scored) else group["official"].any()
    official = bool(is_release) and release.has_folds(n_splits, fold_seed)
    comparable = baselines["comparable"].astype(bool) & (baselines["dataset"] == dataset) & official
    rows = _ordered(group.drop(columns="verification"))
    rows["may_have_seen"], rows["unequal_tuning"] = may_have_seen.marked(rows), tuning_budgets.marked(rows)
    published = baselines.assign(shares=comparable).sort_values(["comparable", "pq"], ascending=False)
    published = published.reset_index(drop=True)
    rows["rank"], published["rank"] = _ranks(rows, published)
    rows, decided, uncertainty = with_intervals(rows, published, scores)
    return Section(
        dataset=dataset,
        dataset_digest=str(first["dataset_digest"]),
        n_splits=n_splits,
        fold_seed=fold_seed,
        rules_version=str(first["rules_version"]),
        folds=tuple(int(number) for number in str(first["expected_folds"]).split()),
        folds_rule=first["folds_rule"],
        n_images=int(images.iloc[0]) if len(images) else None,
        folder=str(folders.iloc[0]) if len(folders) else None,
        official=official,
        verification=tuple(sorted(set(group["verification"].dropna()))),
        real_tissue=release.real_tissue,
        shares_ranks=bool(comparable.any()),
        rows=rows,
        published=published,
        settings=differing_settings(rows[~_classical(rows)]),
        decided=decided,
        uncertainty=uncertainty,
    )


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows, complete ones and the best PQ first; those that tie by their names, then by settings as numbers."""
    settings = {
        name: pd.to_numeric(rows[name]) if numeric(rows[name]) else [_text(name, value) for value in rows[name]]
        for name in _setting_names(rows)
    }
    names = ["complete", "pq_mean", "backbone", "strategy"]
    keys = pd.concat([rows[names], pd.DataFrame(settings, rows.index), rows["cell"]], axis=1)
    by = [*names, *settings, "cell"]
    order = keys.sort_values(by, ascending=[name not in names[:2] for name in by]).index
    return rows.loc[order].reset_index(drop=True)


def _ranks(rows: pd.DataFrame, published: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the ranks by PQ of a section's rows and of the published rows that share them; NaN for the others."""
    ranked = rows["complete"] & ~_classical(rows) & rows["pq_mean"].notna()
    shared = published["shares"] & published["pq"].notna()
    ranked &= ~may_have_seen.unranked(rows, ranked, is_shared=bool(shared.any()))
    values = pd.concat([rows.loc[ranked, "pq_mean"], published.loc[shared, "pq"] / 100], ignore_index=True)
    places = values.rank(ascending=False, method="min").tolist()
    n_rows = int(ranked.sum())
    own = pd.Series(places[:n_rows], rows.index[ranked], dtype=float).reindex(rows.index)
    return own, pd.Series(places[n_rows:], published.index[shared], dtype=float).reindex(published.index)


def _classical(rows: pd.DataFrame) -> pd.Series:
    return rows["backbone"] == CLASSICAL


OWN = ("embeddings", "train.lr", *tuning_budgets.NAMES, "train.batchnorm")
"""Settings that differ between strategies by design, beside the options of each."""


def differing_settings(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the settings that differ between trained rows, or between two rows of one backbone and strategy.

    A strategy's own options, learning rates, statistics of BatchNorm and form of embeddings, and the head of one that
    brings its own, differ by design: they count only within one strategy.
    """
    return tuple(name for name in _setting_names(rows) if _differs(rows, name))


def _setting_names(rows: pd.DataFrame) -> list[str]:
    names = ["embeddings", "head", "image_size", "scale", "seed", "validation_fraction"]
    return names + [str(name) for name in rows if str(name).startswith(("train.", "predict.", "strategy."))]


def _differs(rows: pd.DataFrame, name: str) -> bool:
    texts = pd.Series([_text(name, value) for value in rows[name]], rows.index, dtype=str)
    known = texts[texts != "–"]
    if known.nunique() < 2:
        return False
    own = name in OWN or name.startswith("strategy.")
    if not own and known[rows.loc[known.index, "trains"]].nunique() > 1:
        return True
    keys = ["strategy"] if own else ["backbone", "strategy"]
    return bool(texts.groupby([rows[key] for key in keys]).nunique().gt(1).any())
