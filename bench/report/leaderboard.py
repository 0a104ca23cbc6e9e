"""What the leaderboard shows of each section: columns, marks and the lines below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from bench.grid import CLASSICAL
from bench.report.section import Section, row_name, setting
from bench.report.table import Block, Column
from bench.units import significant

NONE = "–"
UNVERIFIED = "?: not checked against the source."
HEADLINE = {"pq": "PQ", "aji": "AJI", "dice": "Dice"}


def blocks(sections: Sequence[Section]) -> list[Block]:
    """Each section's rows, and the published rows: beside official sections, or once at the end."""
    found = []
    for section in sections:
        found.append(Block(section.title, _run_columns(section), _notes(section)))
        if section.official:
            found.append(_published_block(section))
    if sections and not any(section.official for section in sections):
        found.append(_published_block(sections[-1]))
    return found


def organ_blocks(organs: pd.DataFrame, sections: Sequence[Section]) -> list[Block]:
    """For each section: organs down, rows of the leaderboard across, mean PQ in percent."""
    found = []
    for section in sections:
        here = organs[organs["cell"].isin(section.rows["cell"])] if len(organs) else organs
        if here.empty:
            continue
        totals = here.groupby("organ")[["n_images", "n_true"]].max()
        columns = [
            Column("organ", [str(name) for name in totals.index]),
            Column("images", [str(n) for n in totals["n_images"]], right=True),
            Column("nuclei", [f"{n:.0f}" for n in totals["n_true"]], right=True),
        ]
        for place, (_, row) in enumerate(section.rows.iterrows()):
            scores = here[here["cell"] == row["cell"]].set_index("organ")["pq"].reindex(totals.index)
            if scores.notna().any():
                title = row_name(row, section.settings) + ("" if row["complete"] else " †")
                title = title.replace(" ", "\n")  # names are long, and the numbers below them short
                note = "" if row["complete"] else "† Folds are missing."
                cells = [_percent(v) for v in scores]
                columns.append(Column(title, cells, drop=place, right=True, note=note))
        note = "Mean PQ in percent over an organ's test images of all folds, best row first."
        found.append(Block(f"PQ per organ. {section.title}", columns, [note]))
    return found


def csv(sections: Sequence[Section]) -> str:
    """Every column of every row, scores as fractions; published rows follow with ``kind`` published."""
    parts = []
    for section in sections:
        reasons = ["; ".join(sentences) for sentences in section.rows["reasons"]]
        parts.append(section.rows.assign(kind="run", reasons=reasons))
    for section in sections[:1]:  # official ones come first, and only they give published rows a rank
        rows = section.published
        scores = {f"{name}_mean": rows[name] / 100 for name in HEADLINE}
        counts = {
            "parameters_total": rows["parameters_millions"] * 1e6,
            "parameters_trainable": rows["trainable_millions"] * 1e6,
        }
        given = rows[["rank", "source", "protocol", "comparable", "note"]]
        parts.append(given.assign(kind="published", backbone=rows["model"], **scores, **counts))
    table = pd.concat(parts, ignore_index=True)
    first = ["kind", "rank", "backbone", "strategy"]
    ordered = table[[*first, *(name for name in table if name not in first)]]
    return ordered.convert_dtypes().to_csv(index=False)  # so that counts stay whole beside missing values


def _run_columns(section: Section) -> list[Column]:
    rows = [row for _, row in section.rows.iterrows()]

    def column(title: str, text: Callable[[pd.Series], str], drop: int = 0) -> Column:
        return Column(title, [text(row) for row in rows], drop=drop, right=drop > 0)

    columns = [
        Column("#", [_rank(row) for row in rows], right=True),
        column("backbone", lambda row: row["backbone"]),
        column("strategy", lambda row: _unless_classical(row, row["strategy"])),
    ]
    for name in section.settings:
        columns.append(Column(name, [setting(row, name) for row in rows]))
    if (section.rows["weights"] == "random").any():
        columns.append(column("weights", lambda row: _unless_classical(row, row["weights"])))
    for drop, (name, title) in enumerate(HEADLINE.items()):
        cells = [_mean_sd(row, name) for row in rows]
        bold = _best(section, section.rows, section.rows[f"{name}_mean"], name)
        columns.append(Column(title, cells, bold, drop, right=True))
    complete = section.rows["complete"].all()
    beside = [
        column("pooled PQ", lambda row: _percent(row["pooled_pq_mean"]), 10),
        column("PQ by nuclei", lambda row: _percent(row["weighted_pq_mean"]), 11),
    ]
    costs = [
        column("trainable", lambda row: _count(row["parameters_trainable"]), 4),
        column("parameters", lambda row: _count(row["parameters_total"]), 7),
        column("latency ms", lambda row: _number(row["latency_ms"], "{:.1f}"), 5),
        column("peak GiB", lambda row: _number(row["peak_bytes"] / 2**30, "{:.2f}"), 6),
        column("GFLOP", lambda row: _number(row["flops"] / 1e9, "{:.1f}"), 9),
        column("GPU h", lambda row: _number(row["gpu_seconds"] / 3600, "{:.2f}"), 8),
    ]
    return [
        *columns,
        Column("folds", [_folds(row) for row in rows], drop=3 if complete else 0, right=True),
        *(one for one in (*costs, *beside) if any(cell != NONE for cell in one.cells)),
    ]


def _published_block(section: Section) -> Block:
    rows = section.published
    keys = list(zip(rows["source"], rows["protocol"], strict=True))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), 1)}
    columns = [
        Column("#", [_number(rank, "{:.0f}") for rank in rows["rank"]], right=True),
        Column("model", [str(name) for name in rows["model"]]),
    ]
    for name, title in HEADLINE.items():
        cells, bold = [_percent(v / 100) for v in rows[name]], _best(section, rows, rows[name] / 100, name)
        columns.append(Column(title, cells, bold, right=True))
    sure = rows["parameters_verified"] | rows["trainable_millions"].isna()
    trainable = [_count(v * 1e6) for v in rows["trainable_millions"]]
    marked = [text if ok else f"{text}?" for text, ok in zip(trainable, sure, strict=True)]
    columns += [
        Column("PQ corrected", [_percent(v / 100) for v in rows["pq_corrected"]], drop=3, right=True),
        Column("trainable", marked, drop=2, right=True, note="" if sure.all() else UNVERIFIED),
        Column("folds", ["official" if c else "other" for c in rows["comparable"]], drop=1),
        Column("source", [f"[{numbers[key]}]" for key in keys]),
    ]
    if section.official:
        title = "Published on NuInsSeg: rows with the official folds share the ranks above"
    else:
        title = "Published on NuInsSeg, on other images than above: for orientation only, not ranked"
    notes = [f"[{n}] {source}. Protocol: {protocol}." for (source, protocol), n in numbers.items()]
    return Block(title, columns, notes)


def _notes(section: Section) -> list[str]:
    rows = section.rows
    notes = ["Mean ± sd over folds, in percent; ranked by PQ."]
    if section.classical_pq is not None:
        notes.append("ref: the classical pipeline, which learns nothing.")
    for _, row in rows[~rows["complete"]].iterrows():
        name, folds = row_name(row, section.settings), f"{row['n_ok']} of {row['n_expected']} folds"
        notes.append(f"† {name}: {folds}, not ranked. {'; '.join(row['reasons'])}.")
    if (rows["weights"] == "random").any():
        notes.append("random: no pre-trained weights. Such rows show that the harness works, nothing more.")
    below = [row_name(row, section.settings) for _, row in section.below_classical.iterrows()]
    if below and (section.below_classical["weights"] == "random").all():
        notes.append(
            f"{len(below)} rows stay below the classical row on PQ, as random weights do when trained briefly."
        )
    elif below:
        notes.append(
            f"Below the classical row on PQ: {', '.join(below)}. A trained row there is a fault to explain: "
            "see audit, history and validation scores in the record.json of its runs."
        )
    if empty := int(rows["n_both_empty"].fillna(0).max() if len(rows) else 0):
        notes.append(f"Up to {empty} images a row are empty in truth and prediction; each counts as 100.")
    devices = sorted(set(rows.loc[rows["backbone"] != CLASSICAL, "device_name"]) - {""})
    if len(devices) > 1:
        notes.append(f"Costs were measured on {', '.join(devices)}: compare them within one device only.")
    elif devices:
        kind = "GPU memory" if "cuda" in set(rows["memory_kind"]) else "resident memory of the process"
        notes.append(f"Costs measured on {devices[0]}; the peak is {kind}.")
    halved = rows[rows["micro_batch_halvings"].fillna(0) > 0]
    if len(halved):
        batches = zip(halved["train.batch_size"], halved["micro_batch_halvings"], strict=True)
        sizes = [f"{int(batch) >> int(times)} of {int(batch)}" for batch, times in batches]
        names = [row_name(row, section.settings) for _, row in halved.iterrows()]
        listed = ", ".join(f"{name} ({size})" for name, size in zip(names, sizes, strict=True))
        notes.append(f"These trained in micro-batches that fitted, and their peak is of these: {listed}.")
    return notes


def _best(section: Section, rows: pd.DataFrame, values: pd.Series, name: str) -> frozenset[int]:
    """Rows that hold the best ranked value, over runs and whatever published rows share their ranks."""
    own = section.rows.loc[section.rows["rank"].notna(), f"{name}_mean"].max()
    published = section.published.loc[section.published["rank"].notna(), name].max() / 100
    best = pd.Series([own, published]).max()
    return frozenset(values.index[rows["rank"].notna() & (values >= best)].tolist())


def _unless_classical(row: pd.Series, text: str) -> str:
    return NONE if row["backbone"] == CLASSICAL else text


def _rank(row: pd.Series) -> str:
    return "ref" if row["backbone"] == CLASSICAL and row["complete"] else _number(row["rank"], "{:.0f}")


def _folds(row: pd.Series) -> str:
    return f"{row['n_ok']}/{row['n_expected']}" + ("" if row["complete"] else " †")


def _mean_sd(row: pd.Series, name: str) -> str:
    mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
    return _percent(mean) + (f" ± {_percent(sd)}" if pd.notna(sd) else "")


def _percent(fraction: float) -> str:
    return _number(fraction * 100, "{:.1f}")


def _number(value: float, pattern: str) -> str:
    return NONE if pd.isna(value) else pattern.format(value)


def _count(value: float) -> str:
    return NONE if pd.isna(value) else significant(value)
