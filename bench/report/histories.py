"""Histories of all trainings as one DataFrame: a row per run and epoch, with the settings of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError, RecordError
from bench.report.frame import RUN_KEYS, record_frame
from bench.results import history, plans
from bench.results.record import HISTORY_FILENAME, RunRecord, folder, read_all

KEYS = ("id", "cell", "setting", "status")
ORDER = ["backbone", "strategy", "setting", "seed", "fold", "epoch"]


def history_frame(results: Path, unreadable: list[str] | None = None) -> pd.DataFrame:
    """Return the epochs of all runs that have a history; those still being trained are included.

    Args:
        results: the results folder.
        unreadable: a sentence for each record, plan or history that can't be read is added here; None raises at the
            first.

    Returns:
        Sorted by backbone, strategy, setting, seed, fold and epoch. Columns: id, cell and setting (see
        `bench.report.frame`), status (of the record; missing for a run without one), the settings, and those of
        `bench.results.history`; scores are fractions, missing is NaN. Without any history the frame has no rows. Runs
        with a second training have its epochs after those of the first, with 2 in the column ``training``.

    Raises:
        BenchError: a record, plan or history can't be read.
    """
    records, unfinished = list[RunRecord](), set[str]()
    epochs: dict[str, list[dict[str, Any]]] = {}
    for record, is_finished, rows in _histories(results, unreadable):
        records.append(replace(record, scores=None, cost=None))
        epochs[record.id] = rows
        unfinished |= set() if is_finished else {record.id}
    columns = history.columns([row for rows in epochs.values() for row in rows])
    if not epochs:
        return pd.DataFrame(columns=[*KEYS, *RUN_KEYS, *columns])
    settings = record_frame(records)
    settings["status"] = settings["status"].mask(settings["id"].isin(unfinished), None)
    prefixes = ("strategy.", "train.", "predict.")
    names = [n for n in map(str, settings) if n in (*KEYS, *RUN_KEYS) or n.startswith(prefixes)]
    table = _numbers(epochs, columns)
    order = [*ORDER[:-1], *(["training"] if "training" in table else []), ORDER[-1]]
    return settings[names].merge(table, on="id").sort_values(order, kind="stable", ignore_index=True)


def history_numbers(results: Path, names: Sequence[str], unreadable: list[str] | None = None) -> pd.DataFrame:
    """Return some numbers of `history_frame` without the settings, which are most of its work.

    They are those of the first training of each run, on whose validation images everything is chosen.

    Args:
        results: the results folder.
        names: the columns of numbers; NaN where no history has one.
        unreadable: see `history_frame`.

    Returns:
        Sorted by epoch, with the columns id, epoch and `names`.

    Raises:
        BenchError: a record, plan or history can't be read.
    """
    columns = ["epoch", *names]
    epochs = {
        record.id: [{name: row.get(name) for name in columns} for row in history.of_first_training(rows)]
        for record, _, rows in _histories(results, unreadable)
    }
    return _numbers(epochs, columns).sort_values("epoch", kind="stable", ignore_index=True)


def _numbers(epochs: Mapping[str, list[dict[str, Any]]], columns: Sequence[str]) -> pd.DataFrame:
    ids = [run_id for run_id, rows in epochs.items() for _ in rows]
    numbers = {name: [row.get(name) for rows in epochs.values() for row in rows] for name in columns}
    return pd.DataFrame({"id": ids, **numbers}).astype(dict.fromkeys(columns, float)).astype({"epoch": int})


def _histories(results: Path, unreadable: list[str] | None) -> Iterator[tuple[RunRecord, bool, list[dict[str, Any]]]]:
    """Yield every run that has a history: its record, whether it is finished, and its epochs."""
    for record, is_finished in _runs(results, unreadable):
        try:
            rows = history.read(folder(results, record.id)) or history.of_record(record.cost)
        except RecordError as error:
            _report(error, unreadable)
            continue
        if rows:
            yield record, is_finished, rows


def _runs(results: Path, unreadable: list[str] | None) -> Iterator[tuple[RunRecord, bool]]:
    """Yield every record, and a made-up one for every planned run that has a history but no record yet."""
    recorded = set()
    for record in read_all(results, unreadable):
        recorded.add(record.id)
        yield record, True
    try:
        saved_plans = plans.read_all(results)
    except BenchError as error:
        _report(error, unreadable)
        return
    planned = {run.id: run for plan in saved_plans for run in plan.runs if run.id not in recorded}
    for run_id, run in planned.items():
        if (folder(results, run_id) / HISTORY_FILENAME).exists():
            yield RunRecord(id=run_id, status="skipped", run=run.as_dict()), False


def _report(error: BenchError, unreadable: list[str] | None) -> None:
    if unreadable is None:
        raise error
    unreadable.append(str(error))
