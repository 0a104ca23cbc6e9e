"""Block of the published rows: what is known of how they came about, and why they have no rank."""

from __future__ import annotations

import pandas as pd

from bench.columns import Column
from bench.report.cells import count, number, percent, with_narrow
from bench.report.section import Section
from bench.report.strata import listed
from bench.report.table import Block
from bench.units import SCORE_TITLES

UNVERIFIED = "?: not checked against the source."
PROTOCOL_FACTS = ("folds", "folds_note", "selected_on_test", "selected_on_test_note", "trained_on_folds", "scoring")
"""Columns of a published row that say how far its protocol is known; in CSV after ``published_``."""


def published_block(section: Section) -> Block:
    """Return the published rows beside a section, with the facts that tell whether they may be ranked with it."""
    rows = section.published
    keys = list(zip(rows["source"], rows["protocol"], strict=True))
    numbers = {key: place for place, key in enumerate(dict.fromkeys(keys), 1)}
    ranks = [Column("#", [number(rank, "{:.0f}") for rank in rows["rank"]])] if rows["rank"].notna().any() else []
    columns = [*ranks, Column("model", [str(name) for name in rows["model"]], right=False)]
    for name, title in SCORE_TITLES.items():
        columns.append(Column(title, [percent(v / 100) for v in rows[name]]))
    sure = rows["parameters_verified"] | rows["trainable_millions"].isna()
    trainable = [count(v * 1e6) for v in rows["trainable_millions"]]
    marked = [text if ok else f"{text}?" for text, ok in zip(trainable, sure, strict=True)]
    columns += [
        with_narrow(Column("PQ corrected", [percent(v / 100) for v in rows["pq_corrected"]], drop=5)),
        with_narrow(Column("trainable", marked, drop=2, note="" if sure.all() else UNVERIFIED)),
        Column("folds", rows["folds"].tolist(), drop=1, right=False),
        with_narrow(Column("chosen on test", rows["selected_on_test"].tolist(), drop=1, right=False)),
        with_narrow(Column("folds trained on", [number(n, "{:.0f}") for n in rows["trained_on_folds"]], drop=4)),
        Column("source", [f"[{numbers[key]}]" for key in keys], right=False),
    ]
    dataset = section.published_on
    if section.shares_ranks:
        title = f"Published on {dataset}: rows that are known to agree in protocol share the ranks above"
    elif section.published_here:
        title = (
            f"Published on {dataset}, the same images; no row is known to agree in protocol: not ranked with the above"
        )
    else:
        title = f"Published on {dataset}, on other images than above: for orientation only, not ranked"
    notes = [f"[{n}] {source}. Protocol: {protocol}." for (source, protocol), n in numbers.items()]
    facts = pd.Series([_known_facts(row) for _, row in rows.iterrows()], rows.index, dtype=object)
    for sentences in (facts, rows["note"]):
        for sentence, models in rows.groupby(sentences, sort=False)["model"]:
            notes.append(f"{listed(models)}: {sentence}.")
    return Block(title, columns, notes)


def _known_facts(row: pd.Series) -> str:
    """Return what is known of the folds of a published row and of the choice of its checkpoint, with the reasons."""
    facts = ("folds", "folds"), ("selected_on_test", "chosen on the test fold")
    reasons = ["" if pd.isna(row[f"{name}_note"]) else f" ({row[f'{name}_note']})" for name, _ in facts]
    return "; ".join(f"{title}: {row[name]}{reason}" for (name, title), reason in zip(facts, reasons, strict=True))
