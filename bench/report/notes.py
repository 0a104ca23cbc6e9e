"""Lines below the table of a section: protocol, order, incomplete rows, faults and devices."""

from __future__ import annotations

from bench.grid import CLASSICAL
from bench.report import may_have_seen, tuning_budgets
from bench.report.section import Section, row_name

MOST_HINTS = 5
"""Rows whose PQ of zero is explained below a table; `bench status RUN` explains that of every run."""


def section_notes(section: Section) -> list[str]:
    """Return the notes of a section, a sentence or two each; see `bench.report.leaderboard` for those of columns."""
    rows = section.rows
    seeds = " × seeds" if (rows["n_seeds"] > 1).any() else ""
    notes = [f"Mean ± sd over folds{seeds}, in percent; ranked by PQ.", *reversed(section.uncertainty)]
    if section.folder_differs:
        notes.append(f"{section.name}: images of the user, in the layout of {section.layout}.")
    if not section.official:  # otherwise the title says it
        notes += [f"Images: {sentence}." for sentence in section.verification]
    if rows["trains"].any() and not section.encoder_apart:
        notes.append(
            "These records don't tell the trainable parameters of encoder and decoder apart: the total is shown."
        )
    if section.classical_pq is not None:
        notes.append("ref: the classical pipeline, which learns nothing.")
    for _, row in rows[~rows["complete"]].iterrows():
        of_seeds = f" of {row['n_seeds']} seeds" if row["n_seeds"] > 1 else ""
        name, folds = row_name(row, section.settings), f"{row['n_ok']} of {row['n_expected']} folds{of_seeds}"
        notes.append(f"† {name}: {folds}, not ranked. {'; '.join(row['reasons'])}.")
    notes += may_have_seen.notes(rows)
    notes += tuning_budgets.notes(rows, [row_name(row, section.settings) for _, row in rows.iterrows()])
    for _, row in rows[rows["hint"] != ""].head(MOST_HINTS).iterrows():
        notes.append(f"{row_name(row, section.settings)}, {row['hint']}")
    if (rows["weights"] == "random").any():
        notes.append("random: no pre-trained weights. Such rows show that the harness works, nothing more.")
    below = [row_name(row, section.settings) for _, row in section.below_classical.iterrows()]
    if below and (section.below_classical["weights"] == "random").all():
        notes.append(_below_at_random(section))
    elif below:
        notes.append(
            f"Below the classical row on PQ: {', '.join(below)}. A trained row there is a fault to explain: "
            "`bench status RUN` shows the epochs of a run, its record.json the audit and the validation scores."
        )
    return [*notes, *_costs(section)]


def _below_at_random(section: Section) -> str:
    """Return how many of all rows, trained or not, complete or not, stay below the classical row."""
    others = section.rows[(section.rows["backbone"] != CLASSICAL) & section.rows["pq_mean"].notna()]
    n_below = int((others["pq_mean"] < (section.classical_pq or 0)).sum())
    share = f"All {len(others)}" if n_below == len(others) > 1 else f"{n_below} of {len(others)}"
    rows = "other rows stay" if len(others) > 1 else "other row stays"
    return f"{share} {rows} below the classical row on PQ, as random weights do when untrained or trained briefly."


def _costs(section: Section) -> list[str]:
    """Return notes on where costs were measured, and on trainings in smaller batches."""
    rows, notes = section.rows, []
    devices = sorted(set(rows.loc[rows["backbone"] != CLASSICAL, "device_name"]) - {""})
    if len(devices) > 1:
        notes.append(f"Costs were measured on {', '.join(devices)}: compare them within one device only.")
    elif devices:
        kind = "GPU memory" if "cuda" in set(rows["memory_kind"]) else "resident memory of the process"
        notes.append(f"Costs measured on {devices[0]}; the peak is {kind}.")
    # Row by row: a device of the runs of another row may be the one on which these were measured again.
    known = rows[(rows["backbone"] != CLASSICAL) & (rows["latency_device"] != "")]
    again = known[known["latency_device"] != known["device_name"]]
    for device, own in again.groupby("latency_device", sort=True):
        own_names = ", ".join(row_name(row, section.settings) for _, row in own.iterrows())
        of_rows = f" of {own_names}" if len(own) < len(known) else ""
        notes.append(f"Latencies{of_rows} were measured again on {device}.")
    notes += _latency_form(section)
    halved = rows[rows["micro_batch_halvings"].fillna(0) > 0]
    if len(halved):
        batches = zip(halved["train.batch_size"], halved["micro_batch_halvings"], strict=True)
        sizes = [f"{int(batch) >> int(times)} of {int(batch)}" for batch, times in batches]
        names = [row_name(row, section.settings) for _, row in halved.iterrows()]
        listed = ", ".join(f"{name} ({size})" for name, size in zip(names, sizes, strict=True))
        notes.append(f"These trained in micro-batches that fitted, and their peak is of these: {listed}.")
    return notes


def _latency_form(section: Section) -> list[str]:
    """Return a note on the form of the models whose latency was measured; none where all are as they were trained."""
    rows = section.rows[section.rows["backbone"] != CLASSICAL]
    forms = rows["latency_form"] if "latency_form" in rows else rows["backbone"].map(lambda _: "plain")
    if "inference" not in set(forms):
        return []
    others = [row_name(row, section.settings) for _, row in rows[forms != "inference"].iterrows()]
    kept = f", but as trained, at least in part, for {', '.join(others)}" if others else ""
    return [f"Latency is that of the model as it predicts, with BatchNorm folded and LoRA merged{kept}."]
