"""The versioned RunRecord, and its file. Tables and plots use nothing but what it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bench.errors import RecordError
from bench.results.failure import FailureKind, kind_of_attempt
from registry import atomic

SCHEMA_VERSION = 1
FILENAME = "record.json"
SCORES_FILENAME = "scores.parquet"
HISTORY_FILENAME = "history.parquet"
_LIST = b'\n  "history": ['
_END = b"\n  ]"


@dataclass(frozen=True)
class RunRecord:
    """Question, result and cost of one run. Missing is None.

    Attributes:
        schema_version: leads the file.
        id: the run's id, and the name of its folder.
        status: ``ok``, ``failed`` or ``skipped``.
        reason: one line for whatever is not ``ok``, for people.
        failure: of a failed run: ``kind``, one of `bench.results.failure.FailureKind`.
        run: the `Run` as plain values.
        scores: means over the fold's images, and the post-processing that was chosen.
        cost: parameters, bytes, FLOPs, latencies in ms, peak memory in bytes, seconds.
        audit: counts and names of the trainable parameters (see `bench.training.audit`).
        tuning: choice of the encoder's rate, with its trials (see `bench.training.tuning`); None without one.
        provenance: commit, versions, device, host, dataset, checkpoint digest, times.
        traceback: of a failed run.
        attempts: earlier attempts at this run: status, reason, failure, start and end of each.
    """

    id: str
    status: Literal["ok", "failed", "skipped"]
    run: Mapping[str, Any]
    reason: str | None = None
    failure: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    traceback: str | None = None
    attempts: list[Mapping[str, Any]] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def failures(self) -> tuple[FailureKind, ...]:
        """Kinds of the failed attempts, oldest first, this one included."""
        return failures_of(vars(self))


def failures_of(values: Mapping[str, Any]) -> tuple[FailureKind, ...]:
    """Kinds of all failed attempts in a record's values, oldest first; the last is the record's own if it failed."""
    attempts = [*(values.get("attempts") or ()), values]
    return tuple(kind_of_attempt(attempt) for attempt in attempts if attempt.get("status") == "failed")


def folder(results: Path, run_id: str) -> Path:
    """The folder of everything about one run."""
    return results / "runs" / run_id


def write(results: Path, record: RunRecord) -> Path:
    """Write ``runs/<id>/record.json``: whole, or not at all.

    Raises:
        OSError: no room or no permission; an earlier record then still stands.
    """
    values = asdict(record)
    ordered = {"schema_version": values.pop("schema_version"), **values}
    path = folder(results, record.id) / FILENAME
    atomic.write_text(path, json.dumps(ordered, indent=1, allow_nan=False) + "\n")
    return path


def read(results: Path, run_id: str, *, history: bool = True) -> RunRecord | None:
    """The record of a run, or None where there is none.

    Args:
        results: the results folder.
        run_id: the run's.
        history: False leaves the training history empty, see `without_history`.

    Raises:
        RecordError: a file that is no record, or of a newer schema.
    """
    path = folder(results, run_id) / FILENAME
    try:
        text = path.read_bytes()
        values = json.loads(text if history else without_history(text))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} can't be read as a record ({error}); move it away and run again.") from error
    return _parse(values, path)


def read_or_none(results: Path, run_id: str) -> RunRecord | None:
    """The record of a run; None where there is none or it can't be read: the next attempt replaces a damaged one."""
    try:
        return read(results, run_id)
    except RecordError:
        return None


def without_history(text: bytes) -> bytes:
    """A record's JSON with an empty training history, which is nine tenths of a record of 60 epochs.

    Raw line breaks never stand within a JSON string, so the list ends at the first line that is indented like its
    name and closes one. Text of another layout is returned as it is.
    """
    start = text.find(_LIST)
    is_empty = text.startswith(b"]", start + len(_LIST))  # the next list to end would be another one
    end = text.find(_END, start) if start >= 0 and not is_empty else -1
    return text[: start + len(_LIST)] + text[end + len(_END) - 1 :] if end >= 0 else text


def folders(results: Path) -> set[str]:
    """Ids of all runs that were ever started; one listing of one folder."""
    try:
        return {entry.name for entry in os.scandir(results / "runs") if entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def read_all(results: Path, unreadable: list[str] | None = None, *, history: bool = True) -> Iterator[RunRecord]:
    """All records below a results folder, by id; folders without a record (unfinished runs) are passed over.

    Args:
        results: the results folder.
        unreadable: a sentence for each record that can't be read is added here; None raises `RecordError` at the first.
        history: False leaves the training histories empty.
    """
    for name in sorted(folders(results)):
        try:
            record = read(results, name, history=history)
        except RecordError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            continue
        if record is not None:
            yield record


def _parse(values: Any, path: Path) -> RunRecord:
    if not isinstance(values, dict) or not isinstance(values.get("schema_version"), int):
        raise RecordError(f"{path} is not a run record (no schema_version); move it away and run again.")
    if values["schema_version"] > SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema {values['schema_version']}, this version reads up to {SCHEMA_VERSION}; "
            "update nuclei-bench."
        )
    known = {f.name for f in fields(RunRecord)}
    missing = {"id", "status", "run"} - values.keys()
    if missing:
        raise RecordError(f"{path} lacks {', '.join(sorted(missing))}; move it away and run again.")
    return RunRecord(**{key: value for key, value in values.items() if key in known})
