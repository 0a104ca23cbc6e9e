"""Records and sentences without what tells of a computer or its user: absolute paths, logins and host names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from bench.results.measurement import EARLIER, MEASUREMENT

HOST_KEYS = ("host", "node")
FREE_TEXT = ("reason", "text", "traceback")
"""Fields of a record, of its attempts and of its failure that are sentences. Host names are replaced in these only: a
host may be called like a word of the schema, e.g. ``gpu`` or ``ok``."""
_QUOTED = re.compile(r"""(["'])((?:/(?!/)|[A-Za-z]:[\\/])[^"'\n]*)\1""")
_BARE = re.compile(
    r"""(?<![\w./…])(?:/(?!/)|\b[A-Za-z]:[\\/](?!/))(?:[^\s/\\"':,;()\[\]<>]+[/\\]+)+[^\s/\\"':,;()\[\]<>]*"""
)
_FILE_URL = re.compile(r"""\bfile:/+[^\s"'<>]*""")
_LOGIN = re.compile(r"""(?<=://)[^\s/@"'<>]+(?=@)|\b[\w.+-]+@[\w.-]+(?=:)""")
_HOME = re.compile(r"(?:[A-Za-z]:)?[/\\]+(?:home|Users)[/\\]+[^/\\]+", re.IGNORECASE)
_JOB = re.compile(r"\bjobs? \d+(?:[_.]\d+)* on ([A-Za-z0-9][\w.-]*\w)")
"""Sentence of `bench.submission.reconcile` and `bench.worker.job` that names a job's node."""


class Redaction:
    """Replaces paths, logins and host names in the records of one results folder; a host has one number in all of them.

    Call `collect` with each record before the first one is redacted: a record may name the host of another.

    Args:
        root: a folder, usually the results folder, whose files keep their path below it in sentences.
    """

    def __init__(self, root: Path | None = None) -> None:
        whole = {str(path) for path in (root, root.absolute(), root.resolve())} if root else ()
        self._roots = {f"{path}/": f"{Path(path).name}/" for path in whole if Path(path).is_absolute() and path != "/"}
        self._hosts: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def collect(self, values: Mapping[str, Any]) -> None:
        """Note the hosts that a record names, in its fields and in its sentences on jobs."""
        for origin in _origins(values):
            for key in HOST_KEYS:
                if isinstance(host := origin.get(key), str) and host:
                    self._add(host)
        for sentence in _sentences(values):
            for host in _JOB.findall(sentence):
                self._add(host)

    def record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record's values with the last part of each path only, and hosts as ``host-1``, ``host-2``, ….

        The block ``run`` stays as it is, because its digest is the id of the run.
        """
        self.collect(values)
        return {key: value if key == "run" else self._entry(key, value) for key, value in values.items()}

    def value(self, value: Any) -> Any:
        """Return a value of JSON without paths, in its keys too, and with null for NaN and infinity."""
        if isinstance(value, Mapping):
            return {without_paths(str(key)): self._entry(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return without_paths(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Return a sentence without paths, logins and known hosts."""
        for path in sorted(self._roots, key=len, reverse=True):
            text = text.replace(path, self._roots[path])
        text = without_paths(text)
        if self._pattern is None and self._hosts:
            names = "|".join(re.escape(host) for host in sorted(self._hosts, key=len, reverse=True))
            self._pattern = re.compile(rf"(?<![\w.-])(?:{names})(?![\w-])")
        return self._pattern.sub(lambda match: self._hosts[match[0]], text) if self._pattern else text

    def _add(self, host: str) -> None:
        """Give a host a number; SLURM calls by its first label what the host itself calls by its whole name."""
        if host in self._hosts:
            return
        label = host.partition(".")[0]
        number = self._hosts.get(label) or f"host-{len(set(self._hosts.values())) + 1}"
        self._hosts[host] = number
        if label and not label.isdecimal():  # of an address
            self._hosts.setdefault(label, number)
        self._pattern = None

    def _entry(self, key: str, value: Any) -> Any:
        if key in HOST_KEYS and isinstance(value, str):
            return self._hosts.get(value) or self.text(value)
        return self.text(value) if key in FREE_TEXT and isinstance(value, str) else self.value(value)


def without_paths(text: str) -> str:
    """Return a text with the last part of each absolute path only, and without the user of a login."""
    if _is_path(text):
        return _last_part(text)
    if "@" in text:
        text = _LOGIN.sub("…", text)
    if "/" in text or "\\" in text:
        text = _FILE_URL.sub(lambda match: f"file:…/{_last_part(match[0])}", text)
        text = _QUOTED.sub(lambda match: f"{match[1]}…/{_last_part(match[2])}{match[1]}", text)
        text = _BARE.sub(lambda match: f"…/{_last_part(match[0])}", text)
    return text


def _origins(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a record that name hosts: `bench measure` may have run on another one."""
    cost = _mapping(values.get("cost"))
    measured = [cost, *_mappings(cost.get(EARLIER))]
    yield _mapping(values.get("provenance"))
    yield from _mappings(values.get("attempts"))
    yield from (_mapping(measurement.get(MEASUREMENT)) for measurement in measured)


def _sentences(values: Mapping[str, Any]) -> Iterator[str]:
    for attempt in (values, *_mappings(values.get("attempts"))):
        for part in (attempt, _mapping(attempt.get("failure"))):
            yield from (part[key] for key in FREE_TEXT if isinstance(part.get(key), str))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _is_path(text: str) -> bool:
    return "\n" not in text and (PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute())


def _last_part(path: str) -> str:
    """Return the last part of a path; nothing of a home folder, which is the user's name."""
    path = re.sub(r"^file:/+", "/", path).rstrip("/\\")
    return "" if _HOME.fullmatch(path) else re.split(r"[/\\]+", path)[-1]
