"""Content of the leaderboard: columns and marks of the table of each section, and the published rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from bench.columns import Column
from bench.grid import CLASSICAL
from bench.report import may_have_seen, tuning_budgets
from bench.report.cells import NONE, count, number, percent, with_narrow
from bench.report.choice import alike, chosen, sources
from bench.report.frame import busy
from bench.report.notes import section_notes
from bench.report.published import PROTOCOL_FACTS, published_block
from bench.report.section import Section, numeric, row_name, setting
from bench.report.table import Block
from bench.results.measurement import RULE
from bench.units import SCORE_TITLES

MERELY_COUNTS = 5
"""The `drop` of the numbers of seeds and folds where the names of a row stand in one column."""


def blocks(sections: Sequence[Section], names: Sequence[str] = ()) -> list[Block]:
    """Return the rows of each section, and the published rows: beside those of the same images, or at the end.

    Args:
        sections: as they are shown.
        names: columns of the runs, see `bench.report.choice.chosen`; empty takes those of the leaderboard.
    """
    parts = []
    for section in sections:
        notes = section_notes(section)
        if names:
            columns, compact = chosen(_run_columns(section, every=True), names, section), []
            notes = [*notes[:1], *alike(columns, section), *notes[1:]]
        else:
            columns = _run_columns(section)
            compact = _compact(section, columns)
        parts.append(Block(section.title, columns, notes, _caption(section), compact))
        if section.published_here:
            parts.append(published_block(section))
    if sections and not any(section.published_here for section in sections):
        parts.append(published_block(sections[-1]))
    return parts


def csv(sections: Sequence[Section], names: Sequence[str] = ()) -> str:
    """Return every column of every row, scores as fractions; published rows follow with ``kind`` published.

    Args:
        sections: as they are shown.
        names: the columns; empty takes all.
    """
    parts = []
    for section in sections:
        reasons = ["; ".join(sentences) for sentences in section.rows["reasons"]]
        parts.append(section.rows.assign(kind="run", images=section.name, reasons=reasons))
    for section in sections[:1]:  # the section of the images of the published rows comes first
        rows = section.published
        scores = {f"{name}_mean": rows[name] / 100 for name in SCORE_TITLES}
        counts = {
            "parameters_total": rows["parameters_millions"] * 1e6,
            "parameters_trainable": rows["trainable_millions"] * 1e6,
        }
        given = rows[["rank", "source", "protocol", "comparable", "note"]]
        facts = {f"published_{name}": rows[name] for name in PROTOCOL_FACTS}
        parts.append(given.assign(kind="published", backbone=rows["model"], **scores, **counts, **facts))
    table = pd.concat(parts, ignore_index=True)
    first = ["kind", "rank", "backbone", "strategy"]
    ordered = table[[*first, *(name for name in table if name not in first)]]
    if names:
        own = [(name,) if name in ordered else sources(name, sections[0]) for name in names]
        ordered = ordered[list(dict.fromkeys(column for columns in own for column in columns))]
    return ordered.convert_dtypes().to_csv(index=False)  # so that counts stay whole beside missing values


def _run_columns(section: Section, *, every: bool = False) -> list[Column]:
    """Return the columns by which rows are compared; `_caption` has what is the same in all, and is no column.

    Args:
        section: the rows.
        every: return those too that are the same in all rows, or empty: they may be chosen by their titles.
    """
    rows = [row for _, row in section.rows.iterrows()]

    def names(title: str, text: Callable[[pd.Series], str]) -> Column:
        return Column(title, [text(row) for row in rows], right=False, key=title)

    def numbers(title: str, text: Callable[[pd.Series], str], drop: int) -> Column:
        return with_narrow(Column(title, [text(row) for row in rows], drop))

    columns = [
        Column("#", [_rank(row) for row in rows], key="rank"),
        *([names("method", lambda row: row_name(row, section.settings))] * every),
        names("backbone", lambda row: row["backbone"]),
        names("strategy", lambda row: _unless_classical(row, row["strategy"])),
    ]
    for name in section.settings:
        settings = Column(name, [setting(row, name) for row in rows], right=numeric(section.rows[name]), key=name)
        columns.append(replace(settings, narrow=replace(settings, title=name.replace(".", ".\n"))))
    if every or {"random"} < set(_weights(section)):
        columns.append(names("weights", lambda row: _unless_classical(row, row["weights"])))
    if every or section.rows["n_seeds"].nunique() > 1:
        columns.append(Column("seeds", [_unless_classical(row, str(row["n_seeds"])) for row in rows], key="seeds"))
    for drop, (name, title) in enumerate(SCORE_TITLES.items()):
        best = _best(section, name)
        columns.append(with_narrow(Column(title, [_mean_sd(row, name) for row in rows], drop, bold=best)))
        columns.append(numbers(f"{title} 95 % CI", partial(_interval, name=name), 5 if name == "pq" else 11))
    if every or not section.rows["complete"].all():
        of_seeds = "folds: of all seeds together." if (section.rows["n_seeds"] > 1).any() else ""
        columns.append(Column("folds", [_folds(row) for row in rows], key="folds", note=of_seeds))
    apart = every or section.encoder_apart
    total = 5 if apart else 3
    others = [
        *([numbers("trainable encoder", lambda row: count(row["parameters_trainable_encoder"]), 3)] * apart),
        numbers("trainable total", lambda row: count(row["parameters_trainable"]), total),
        numbers("parameters", lambda row: count(row["parameters_total"]), 6),
        _latency(section, rows),
        numbers("latency IQR", _latency_range, 6),
        numbers("peak GiB", lambda row: number(row["peak_bytes"] / 2**30, "{:.2f}"), 5),
        numbers("GFLOP", lambda row: number(row["flops"] / 1e9, "{:.1f}"), 8),
        numbers("GPU h", lambda row: number(row["gpu_seconds"] / 3600, "{:.2f}"), 7),
        numbers("pooled PQ", lambda row: percent(row["pooled_pq_mean"]), 9),
        numbers("PQ by nuclei", lambda row: percent(row["weighted_pq_mean"]), 10),
    ]
    columns += others
    return [column for column in columns if every or column.drop < 3 or any(cell != NONE for cell in column.cells)]


def _compact(section: Section, columns: Sequence[Column]) -> list[Column]:
    """Return the columns with all that names a row in one, ``method``; seeds and folds are left out first."""
    apart = ("weights",) * ({"random"} < set(_weights(section)))
    methods = []
    for _, row in section.rows.iterrows():
        weights = " random" if apart and row["weights"] == "random" and row["backbone"] != CLASSICAL else ""
        methods.append(row_name(row, section.settings) + weights + ("" if row["complete"] else " †"))
    named = {"backbone", "strategy", *section.settings, *apart}
    ranks, *others = [column for column in columns if column.key not in named]
    others = [replace(c, drop=MERELY_COUNTS) if c.key in ("seeds", "folds") else c for c in others]
    return [ranks, Column("method", methods, right=False), *others]


def _latency(section: Section, rows: Sequence[pd.Series]) -> Column:
    """Return the column of latencies, marked where a measurement is not to be relied on."""
    marks = [" ‡" if marked else "" for marked in busy(section.rows)]
    cells = [number(row["latency_ms"], "{:.1f}") + mark for row, mark in zip(rows, marks, strict=True)]
    note = f"‡: a latency that is not to be relied on: {RULE}. `bench measure` takes it again." if any(marks) else ""
    return with_narrow(Column("latency ms", cells, 4, note=note))


def _latency_range(row: pd.Series) -> str:
    low, high = number(row["latency_q1"], "{:.1f}"), number(row["latency_q3"], "{:.1f}")
    return NONE if low == NONE else f"{low}–{high}"


def _caption(section: Section) -> str:
    """Return a line with what is the same in all rows, and so has no column."""
    models = section.rows[section.rows["backbone"] != CLASSICAL]
    trained = models[models["trains"]]
    constants = []
    if len(set(models["weights"])) == 1:
        constants.append(f"weights {models['weights'].iloc[0]}")
    if models["image_size"].nunique() == 1:
        constants.append(f"images at {models['image_size'].iloc[0]} px")
    if "train.epochs" in trained and trained["train.epochs"].nunique(dropna=False) == 1:
        constants.append(f"epochs {trained['train.epochs'].iloc[0]:g}")
    if section.rows["complete"].all():
        of_seeds = " of each seed" if (section.rows["n_seeds"] > 1).any() else ""
        constants.append(f"folds {len(section.folds)}/{len(section.folds)}{of_seeds}")
    if models["seeds"].nunique() == 1:
        seeds = models["seeds"].iloc[0].split(" ")
        constants.append(f"seed{'s'[: len(seeds) > 1]} {', '.join(seeds)}")
    same = f"The same in all rows: {', '.join(constants)}." if constants else ""
    return " ".join(filter(None, (same, _empty_images(section))))


def _empty_images(section: Section) -> str:
    """Return the convention for images that are empty in truth and prediction, where a row has some; or nothing."""
    both, true = (section.rows[f"n_empty_{of}"].fillna(0).max() for of in ("both", "true"))
    if not both:
        return ""
    without = f"{math.ceil(true)} without a true nucleus" if true else "an unknown number without a true nucleus"
    return (
        f"Empty in truth and prediction: up to {math.ceil(both)} test images of a row ({without}); each counts 100 in "
        "every score. NucEval's scripts count 0 during training and 100 in metrics.py; other published rows do not say."
    )


def _weights(section: Section) -> pd.Series:
    """Return the weights of the rows that have any."""
    return section.rows.loc[section.rows["backbone"] != CLASSICAL, "weights"]


def _best(section: Section, name: str) -> frozenset[int]:
    """Return the row with the best ranked value if it is decisively better than every other one; else nothing."""
    values = section.rows.loc[section.rows["rank"].notna(), f"{name}_mean"]
    return frozenset(values.index[[int(values.argmax())]].tolist()) if section.decided.get(name) else frozenset()


def _unless_classical(row: pd.Series, text: str) -> str:
    return NONE if row["backbone"] == CLASSICAL else text


def _rank(row: pd.Series) -> str:
    if row["backbone"] == CLASSICAL and row["complete"]:
        return "ref"
    low, high = number(row["rank_low"], "{:.0f}"), number(row["rank_high"], "{:.0f}")
    rank = low if low == high else f"{low}–{high}"
    marks = may_have_seen.MARK * row["may_have_seen"] + tuning_budgets.MARK * row["unequal_tuning"]
    return f"{rank} {marks}" if marks else rank


def _folds(row: pd.Series) -> str:
    return f"{row['n_ok']}/{row['n_expected']}" + ("" if row["complete"] else " †")


def _mean_sd(row: pd.Series, name: str) -> str:
    mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
    return percent(mean) + (f" ± {percent(sd)}" if pd.notna(sd) else "")


def _interval(row: pd.Series, name: str) -> str:
    low, high = percent(row[f"{name}_low"]), percent(row[f"{name}_high"])
    return NONE if low == NONE else f"{low}–{high}"
