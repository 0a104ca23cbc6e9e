"""Section: rows of a leaderboard that may be compared with each other, ranked, beside published scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.grid import CLASSICAL
from bench.report.frame import SECTION_KEYS

PUBLISHED_PROTOCOL = {"dataset": "nuinsseg", "n_splits": 5, "fold_seed": 19}
"""What a run on the official images must share with the published rows before ranks may mix the two."""


@dataclass(frozen=True)
class Section:
    """Rows of one protocol: same images, same folds.

    Attributes:
        dataset: registered name.
        dataset_digest: fingerprint of images, labels and groups.
        n_splits: number of folds.
        fold_seed: their shuffling seed.
        n_images: images in the dataset, where a record knows it.
        folder: name of the data folder, where a record knows it.
        official: the published images and folds, so that comparable published rows share the ranks.
        rows: leaderboard rows, best PQ first, incomplete ones last; ``rank`` is NaN for incomplete rows and
            the classical reference.
        published: baseline rows, comparable ones first; ``rank`` is NaN where they don't share the ranks.
        settings: columns of `rows` in which rows differ, so that a reader must see them.
    """

    dataset: str
    dataset_digest: str
    n_splits: int
    fold_seed: int
    n_images: int | None
    folder: str | None
    official: bool
    rows: pd.DataFrame
    published: pd.DataFrame
    settings: tuple[str, ...]

    @property
    def title(self) -> str:
        """Dataset, folder, images, digest and folds in one line."""
        name = self.dataset
        if self.folder and self.folder != self.dataset and not self.official:
            name = f"{self.folder} (layout of {self.dataset})"  # other images must not pass for the release
        images = f"{self.n_images} images" if self.n_images is not None else "unknown number of images"
        release = ", official release" if self.official else ""
        folds = f"{self.n_splits} folds (seed {self.fold_seed})"
        return f"{name}: {images}{release}, digest {self.dataset_digest}, {folds}"

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


def sections(leaderboard: pd.DataFrame, baselines: pd.DataFrame) -> list[Section]:
    """Split a leaderboard by dataset, its digest and folds; official ones first, then by name."""
    if leaderboard.empty:
        return []
    found = [_section(group, baselines) for _, group in leaderboard.groupby(list(SECTION_KEYS))]
    return sorted(found, key=lambda section: not section.official)


def row_name(row: pd.Series, settings: tuple[str, ...] = ()) -> str:
    """Backbone, strategy and the settings that tell it apart; the classical row has one name only."""
    if row["backbone"] == CLASSICAL:
        return CLASSICAL
    return " ".join([row["backbone"], row["strategy"], *row_settings(row, settings)])


def row_settings(row: pd.Series, settings: tuple[str, ...]) -> list[str]:
    """Those of the settings that the row has, as ``name=value``."""
    return [f"{name}={setting(row, name)}" for name in settings if setting(row, name) != "–"]


def setting(row: pd.Series, name: str) -> str:
    """A setting as a short text; ``–`` where the row has no such setting."""
    return "–" if row["backbone"] == CLASSICAL else _text(name, row[name])


def _text(name: str, value: Any) -> str:
    if pd.isna(value):
        return "fit" if name == "scale" else "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(group: pd.DataFrame, baselines: pd.DataFrame) -> Section:
    first = group.iloc[0]
    known_images, known_folder = group["dataset_images"].dropna(), group["dataset_folder"].dropna()
    official = bool(group["official"].any()) and all(first[k] == v for k, v in PUBLISHED_PROTOCOL.items())
    rows = group.sort_values(
        ["complete", "pq_mean", "backbone", "strategy", "cell"], ascending=[False, False, True, True, True]
    ).reset_index(drop=True)
    published = baselines.sort_values(["comparable", "pq"], ascending=False).reset_index(drop=True)
    ranked = rows["complete"] & ~_classical(rows) & rows["pq_mean"].notna()
    shared = published["comparable"].astype(bool) & official & published["pq"].notna()
    values = pd.concat([rows.loc[ranked, "pq_mean"], published.loc[shared, "pq"] / 100], ignore_index=True)
    places = values.rank(ascending=False, method="min").tolist()
    rows["rank"], published["rank"] = float("nan"), float("nan")
    rows.loc[ranked, "rank"] = places[: int(ranked.sum())]
    published.loc[shared, "rank"] = places[int(ranked.sum()) :]
    return Section(
        dataset=str(first["dataset"]),
        dataset_digest=str(first["dataset_digest"]),
        n_splits=int(first["n_splits"]),
        fold_seed=int(first["fold_seed"]),
        n_images=int(known_images.iloc[0]) if len(known_images) else None,
        folder=str(known_folder.iloc[0]) if len(known_folder) else None,
        official=official,
        rows=rows,
        published=published,
        settings=_settings(rows[~_classical(rows)]),
    )


def _classical(rows: pd.DataFrame) -> pd.Series:
    return rows["backbone"] == CLASSICAL


def _settings(rows: pd.DataFrame) -> tuple[str, ...]:
    """Settings that differ between trained rows, or between two rows of one backbone and strategy.

    A strategy's own options and learning rate, and the head of one that brings its own, differ by design:
    they count only within one strategy.
    """
    names = ["head", "image_size", "scale", "seed", "validation_fraction"]
    names += [str(name) for name in rows if str(name).startswith(("train.", "strategy."))]
    return tuple(name for name in names if _differs(rows, name))


def _differs(rows: pd.DataFrame, name: str) -> bool:
    texts = pd.Series([_text(name, value) for value in rows[name]], rows.index, dtype=str)
    known = texts[texts != "–"]
    if known.nunique() < 2:
        return False
    own = name == "train.lr" or name.startswith("strategy.")
    if not own and known[rows.loc[known.index, "trains"]].nunique() > 1:
        return True
    keys = ["strategy"] if own else ["backbone", "strategy"]
    return bool(texts.groupby([rows[key] for key in keys]).nunique().gt(1).any())
