"""Index of the records of a results folder; a record is read again only where its file changed."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import RecordError
from bench.results import record
from bench.results.failure import FailureKind
from bench.results.measurement import held_seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """Summary of one record, for the status page. Missing is None.

    Attributes:
        id: the run's id.
        status: ``ok``, ``failed`` or ``skipped``.
        reason: one line for whatever is not ``ok``.
        failures: kinds of all failed attempts, oldest first; the last is this record's own if it failed.
        backbone, strategy, fold: as in the run.
        ended: end of the last attempt, UTC, ISO 8601.
        seconds: training and evaluation together.
        pq, aji, dice: fold means in [0, 1].
        node: where the last attempt ran.
        job: its SLURM job.
    """

    id: str
    status: str
    reason: str | None
    failures: tuple[FailureKind, ...]
    backbone: str
    strategy: str
    fold: int
    ended: str | None
    seconds: float | None
    pq: float | None
    aji: float | None
    dice: float | None
    node: str | None
    job: str | None


@dataclass
class Index:
    """The records below a results folder; empty until `refresh`.

    Attributes:
        results: the results folder.
        entries: summaries of the records that can be read, by run id.
        unreadable: a sentence for each record that can't, by the name of its folder.
    """

    results: Path
    entries: dict[str, Entry] = field(default_factory=dict, init=False)
    unreadable: dict[str, str] = field(default_factory=dict, init=False)
    _versions: dict[str, tuple[int, int, int]] = field(default_factory=dict, init=False, repr=False)

    def refresh(self, ids: Collection[str] | None = None) -> list[Entry]:
        """Read records that are new or changed, and forget those that are gone.

        Costs one listing of the folder of all runs, and one `stat` of each record that is not ``ok`` yet: done runs are
        never done again. Only records that changed are read.

        Args:
            ids: of the runs to refresh; None refreshes all there are.

        Returns:
            The new and changed entries, by id.
        """
        open_ids = None if ids is None else {name for name in ids if not self._is_done(name)}
        if open_ids is not None and not open_ids:
            return []
        present = record.folders(self.results)
        for name in (self._versions.keys() | self.unreadable.keys()) - present:
            if open_ids is None or name in open_ids:
                self._forget(name)
        names = present if open_ids is None else present & open_ids
        changed = (self._refresh_one(name) for name in sorted(names) if not self._is_done(name))
        return [entry for entry in changed if entry is not None]

    def done(self) -> set[str]:
        """Ids of runs that are done."""
        return {name for name in self.entries if self._is_done(name)}

    def _is_done(self, name: str) -> bool:
        entry = self.entries.get(name)
        return entry is not None and entry.status == "ok"

    def _forget(self, name: str) -> None:
        for by_name in (self.entries, self.unreadable, self._versions):
            by_name.pop(name, None)

    def _refresh_one(self, name: str) -> Entry | None:
        """The entry of a run whose record is new or has changed."""
        path = record.folder(self.results, name) / record.FILENAME
        try:
            if name in self._versions and self._versions[name] == _version(path.stat()):
                return None
            version, text = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            self._forget(name)
            return None
        except OSError as error:  # without a version it is read again at the next refresh
            self._forget(name)
            self.unreadable[name] = f"{path} can't be read ({error})."
            return None
        self._forget(name)
        self._versions[name] = version
        try:
            entry = _entry(_values(text) or vars(record.read(self.results, name)))
        except RecordError as error:
            self.unreadable[name] = str(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.unreadable[name] = (
                f"{path} is not a run record ({type(error).__name__}: {error}); move it away and run again."
            )
        else:
            self.entries[name] = entry
            return entry
        return None


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[tuple[int, int, int], bytes]:
    """A file's version and content, both of the same file though another may take its place meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        version = _version(os.fstat(descriptor))
        return version, os.read(descriptor, version[1] + 1)
    finally:
        os.close(descriptor)


def _values(text: bytes) -> dict[str, Any] | None:
    """A record's values without its history; None for a text that `bench.results.record` has to judge."""
    try:
        values = json.loads(record.without_history(text))
    except ValueError:
        return None
    sound = isinstance(values, dict) and values.get("schema_version") == record.SCHEMA_VERSION
    return values if sound and {"id", "status", "run"} <= values.keys() else None


def _entry(values: Mapping[str, Any]) -> Entry:
    run, scores, cost = values["run"], values.get("scores") or {}, values.get("cost") or {}
    provenance = values.get("provenance") or {}
    return Entry(
        id=values["id"],
        status=values["status"],
        reason=values.get("reason"),
        failures=record.failures_of(values),
        backbone=run["backbone"],
        strategy=run["strategy"],
        fold=int(run["fold"]),
        ended=provenance.get("ended"),
        seconds=held_seconds(cost),
        pq=scores.get("pq"),
        aji=scores.get("aji"),
        dice=scores.get("dice"),
        node=provenance.get("node") or provenance.get("host"),
        job=provenance.get("slurm_job_id"),
    )
