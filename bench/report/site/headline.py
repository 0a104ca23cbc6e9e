"""Top of the report page: for each protocol the best row, and whether it is decisively the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.grid import CLASSICAL
from bench.report import may_have_seen
from bench.report.intervals import MOST_ROWS
from bench.report.ranks import decisive_order
from bench.report.section import Section, row_name
from bench.units import SCORE_TITLES, hours, plural
from registry import datasets

RANDOM = "Random weights: nothing was pre-trained. Such scores show that the harness works, and nothing about a model."
SYNTHETIC = "The images are made up, not tissue."


@dataclass(frozen=True)
class Headline:
    """Summary of one protocol.

    Attributes:
        anchor: address of its part of the page.
        best: name of the row with the highest mean PQ; empty where no row is ranked.
        score: its PQ with interval; empty where no row is ranked.
        order: the decisive sentence: what may be said of the order of the rows.
        references: sentences on the classical pipeline and on published scores of the same images.
        protocol: images, folds, seeds, ground truth and metrics in sentences.
        cautions: sentences that a reader must not miss.
    """

    anchor: str
    best: str
    score: str
    order: str
    references: list[str]
    protocol: list[str]
    cautions: list[str]


def headline(section: Section, anchor: str) -> Headline:
    """Return the summary of a section."""
    ranked = section.rows[section.rows["rank"].notna()]
    best, score = "", ""
    if len(ranked):
        first = ranked.iloc[0]
        best, score = row_name(first, section.settings), _score(first)
    return Headline(anchor, best, score, _order(ranked), _references(section), _protocol(section), _cautions(section))


def facts(records: pd.DataFrame, sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Return the size of the study as pairs of a name and a value."""
    counts = records["status"].value_counts()
    tunings = records[records["tuning_id"].notna()].drop_duplicates("tuning_id")
    seconds = pd.to_numeric(records["gpu_seconds"]).sum() + tunings["tuning_gpu_seconds"].sum()
    rows = pd.concat([section.rows for section in sections])
    ok, failed, skipped = (int(counts.get(status, 0)) for status in ("ok", "failed", "skipped"))
    return [
        ("runs", f"{ok:,} ok, {failed:,} failed" + (f", {skipped:,} skipped" if skipped else "")),
        ("rows of the leaderboard", f"{len(rows):,}"),
        ("backbones", f"{rows.loc[rows['backbone'] != CLASSICAL, 'backbone'].nunique():,}"),
        ("strategies", f"{rows.loc[rows['backbone'] != CLASSICAL, 'strategy'].nunique():,}"),
        ("GPU time", hours(seconds / 3600) if seconds else "not measured"),
    ]


def _score(row: pd.Series) -> str:
    text = f"PQ {row['pq_mean'] * 100:.1f} %"
    if pd.notna(row["pq_low"]):
        text += f" (95 % CI {row['pq_low'] * 100:.1f}–{row['pq_high'] * 100:.1f})"
    others = [f"{title} {row[f'{name}_mean'] * 100:.1f} %" for name, title in SCORE_TITLES.items() if name != "pq"]
    return ", ".join([text, *(part for part in others if "nan" not in part)])


def _order(ranked: pd.DataFrame) -> str:
    """Return what may be said of the order of the ranked rows, whatever their number."""
    if ranked.empty:
        return "No row has a score on all its folds, so none is ranked."
    if len(ranked) == 1:
        return "One row is ranked, so there is nothing to compare it with."
    if len(ranked) > MOST_ROWS or ranked["pq_low"].isna().any():
        return "The order is that of the mean scores; it was not tested."
    return next(iter(decisive_order(ranked)), "No row is decisively better than every other one.")


def _references(section: Section) -> list[str]:
    shown = []
    if section.classical_pq is not None:
        classical = f"PQ {section.classical_pq * 100:.1f} %"
        best = section.rows.loc[section.rows["rank"].notna(), "pq_mean"].max()
        if best < section.classical_pq:
            shown.append(
                f"The best row stays {100 * (section.classical_pq - best):.1f} points below the classical pipeline, "
                f"which learns nothing: {classical}."
            )
        else:
            shown.append(f"The classical pipeline, which learns nothing: {classical}.")
    published = section.published[section.published["rank"].notna()]
    if len(published):
        highest = published.sort_values("pq", ascending=False, kind="stable").iloc[0]
        shown.append(f"The highest published PQ on these images and folds: {highest['model']}, {highest['pq']:.1f} %.")
    elif section.published_here and len(rows := section.published.dropna(subset=["pq"])):
        highest = rows.sort_values("pq", ascending=False, kind="stable").iloc[0]
        shown.append(
            f"The highest published PQ on these images, not ranked because its protocol is not known to agree: "
            f"{highest['model']}, {highest['pq']:.1f} %."
        )
    return shown


def _protocol(section: Section) -> list[str]:
    rows = section.rows[section.rows["backbone"] != CLASSICAL]
    n_seeds = int(rows["n_seeds"].max()) if len(rows) else 1
    repeats = f" with up to {n_seeds} seeds each" if n_seeds > 1 else ""
    shown = [
        f"{section.title}{repeats}.",
        "Test images are scored one by one at their own resolution and averaged over a fold; a row shows the mean over "
        "its folds. Checkpoint and post-processing are chosen on a part of the training folds, and the test fold is "
        "read once.",
    ]
    if section.folder_differs:
        shown.append(f"Images of the user, in the layout of {section.layout}.")
    return shown


def _cautions(section: Section) -> list[str]:
    rows = section.rows[section.rows["backbone"] != CLASSICAL]
    shown = []
    if len(rows) and (rows["weights"] == "random").all():
        shown.append(RANDOM)
    elif (rows["weights"] == "random").any():
        shown.append("Rows marked random have no pre-trained weights; they show that the harness works, nothing more.")
    shown += may_have_seen.notes(section.rows)
    if not section.real_tissue:
        shown.append(SYNTHETIC)
    incomplete = int((~section.rows["complete"]).sum())
    if incomplete:
        lacks = "lacks folds and is" if incomplete == 1 else "lack folds and are"
        shown.append(f"{incomplete} of {plural(len(section.rows), 'row')} {lacks} not ranked.")
    if section.dataset not in datasets.names():
        shown.append(f"The dataset {section.dataset} is not registered here: nothing is known of its release.")
    return shown
