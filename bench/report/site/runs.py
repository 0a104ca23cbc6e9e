"""Tables about single runs: audit and provenance of each, versions of the software, failures with their reasons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.columns import Column
from bench.grid import named_settings
from bench.report.site.parts import Entry, Table, table_of
from bench.report.table import Block
from bench.results.failure import kind_of_attempt
from bench.results.record import RunRecord
from bench.units import significant

NONE = "–"
MOST_TRACEBACKS = 50
"""Tracebacks that the page holds; the others are in the records."""
_TRACEBACK = 4_000
"""Characters kept of a traceback, from its end, where the error stands."""


def audit_table(records: Sequence[RunRecord], environments: Mapping[str, int]) -> Table:
    """Return a row for each run: what was trained, as the audit counted it, and where its numbers come from."""
    settings = [_settings(record) for record in records]
    swept = {name: {own[name] for own in settings if name in own} for name in sorted(set().union(*settings))}
    names = [name for name, values in swept.items() if len(values) > 1]
    rows = [
        _audit_row(record, {name: own.get(name) for name in names}, environments)
        for record, own in zip(records, settings, strict=True)
    ]
    return _table("audit-table", rows, ("backbone", "strategy", "status"))


def _settings(record: RunRecord) -> dict[str, str]:
    """Return the settings of a run by their names in `--set`: of the strategy, and of training."""
    return {name: str(value) for name, value in named_settings(record.run).items()}


def _audit_row(record: RunRecord, swept: Mapping[str, str | None], environments: Mapping[str, int]) -> dict[str, Any]:
    audit, origin, cost = record.audit or {}, record.provenance or {}, record.cost or {}
    data = origin.get("dataset") or {}
    count = cost.get("parameters_trainable")
    return {
        **_name(record),
        **swept,
        "status": record.status,
        "audit": _audit(audit),
        "trainable": significant(count) if isinstance(count, int | float) else NONE,
        "parameters held": _of(audit.get("n_held"), audit.get("n_asked")),
        "commit": _commit(origin),
        "environment": environments.get(_versions(record), NONE),
        "device": origin.get("gpu") or origin.get("device"),
        "CUDA": origin.get("cuda"),
        "checkpoint": _digest(origin.get("checkpoint_digest")),
        "images": _digest(record.run.get("dataset_digest")),
        "images verified": data.get("verified") or ("official names" if data.get("official") else NONE),
        "folds": _digest(origin.get("folds_digest")),
        "job": origin.get("slurm_job_id"),
        "started": _time(origin.get("started")),
        "ended": _time(origin.get("ended")),
        "attempts": len(record.attempts) + 1,
    }


def environments(records: Iterable[RunRecord]) -> dict[str, int]:
    """Return a number for each set of package versions, in the order of the records, by its JSON."""
    texts = dict.fromkeys(text for record in records if (text := _versions(record)))
    return {text: number for number, text in enumerate(texts, 1)}


def environment_table(numbers: Mapping[str, int]) -> Table | None:
    """Return a column for each set of package versions; None where no record has any."""
    if not numbers:
        return None
    sets: list[dict[str, Any]] = [json.loads(text) for text in numbers]
    names = sorted({name for versions in sets for name in versions})
    columns = [Column("package", names, right=False)]
    for number, versions in zip(numbers.values(), sets, strict=True):
        columns.append(Column(f"environment {number}", [_text(versions.get(name)) for name in names], right=False))
    return table_of(Block("", columns), "environments", title="Versions of packages")


def failures(records: Sequence[RunRecord]) -> tuple[Table | None, list[Entry]]:
    """Return a row for each run that is not ok, with its reason; and the tracebacks that are recorded."""
    bad = [record for record in records if record.status != "ok"]
    if not bad:
        return None, []
    rows = [
        {**_name(record), "status": record.status, "kind": _kind(record), "reason": record.reason or "not recorded"}
        | {"attempts": len(record.attempts) + 1}
        for record in bad
    ]
    entries = [
        Entry(f"{record.id}: {_place(record)}", record.traceback[-_TRACEBACK:])
        for record in bad
        if isinstance(record.traceback, str) and record.traceback
    ]
    return _table("failures-table", rows, ("backbone", "strategy", "kind")), entries[:MOST_TRACEBACKS]


def _kind(record: RunRecord) -> str:
    return kind_of_attempt(vars(record)) if record.status == "failed" else record.status


def _name(record: RunRecord) -> dict[str, Any]:
    run = record.run
    names = {"run": record.id, "backbone": run.get("backbone"), "strategy": run.get("strategy")}
    return {**names, "fold": run.get("fold"), "seed": run.get("seed")}


def _place(record: RunRecord) -> str:
    run = record.run
    return f"{run.get('backbone')}/{run.get('strategy')}, fold {run.get('fold')}, seed {run.get('seed')}"


def _table(name: str, rows: Sequence[Mapping[str, Any]], choices: Sequence[str]) -> Table:
    numeric = {"fold", "seed", "trainable", "attempts", "environment"}
    columns = [Column(key, [_text(row[key]) for row in rows], right=key in numeric) for key in rows[0]]
    shown = [column for column in columns if any(cell != NONE for cell in column.cells)]
    return table_of(Block("", shown), name, choices=choices)


def _text(value: Any) -> str:
    return NONE if value is None or value == "" else str(value)


def _audit(audit: Mapping[str, Any]) -> str:
    ok = audit.get("ok")
    return NONE if ok is None else "passed" if ok else "failed"


def _of(held: Any, named: Any) -> str:
    return NONE if held is None or named is None else f"{held} of {named}"


def _commit(origin: Mapping[str, Any]) -> str:
    commit = origin.get("commit")
    return NONE if not commit else f"{str(commit)[:10]}{' (changed)' if origin.get('dirty') else ''}"


def _digest(value: Any) -> str:
    return NONE if not value else str(value)[:12]


def _time(value: Any) -> str:
    return NONE if not value else str(value)[:16].replace("T", " ")


def _versions(record: RunRecord) -> str:
    versions = (record.provenance or {}).get("versions")
    return json.dumps(versions, sort_keys=True) if isinstance(versions, dict) and versions else ""
