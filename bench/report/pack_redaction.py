"""Records without what tells of a computer or its user: absolute paths and host names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from bench.results.measurement import EARLIER, MEASUREMENT

HOST_KEYS = ("host", "node")
_QUOTED = re.compile(r"""(["'])(/(?!/)|[A-Za-z]:[\\/])([^"'\n]*)\1""")
_BARE = re.compile(
    r"""(?<![\w./…<])(?:/(?!/)|\b[A-Za-z]:[\\/](?!/))(?:[^\s/\\"':,;()\[\]<>]+[/\\]+)+([^\s/\\"':,;()\[\]<>]*)"""
)


class Redaction:
    """Replaces paths and host names in the records of one results folder; one host has one number in all of them."""

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}

    def record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record's values with the last part of each path only, and hosts as ``host-1``, ``host-2``, ….

        The block ``run`` stays as it is, because its digest is the id of the run.
        """
        cost = values.get("cost") or {}
        measured = [cost, *(cost.get(EARLIER) or ())]  # `bench measure` may have run on another host
        origins = [
            values.get("provenance"),
            *(values.get("attempts") or ()),
            *(one.get(MEASUREMENT) for one in measured),
        ]
        for origin in origins:
            for key in HOST_KEYS:
                if isinstance(origin, Mapping) and isinstance(host := origin.get(key), str) and host:
                    self._hosts.setdefault(host, f"host-{len(self._hosts) + 1}")
        return {key: value if key == "run" else self.value(value) for key, value in values.items()}

    def value(self, value: Any) -> Any:
        """Return a value of JSON without paths and known hosts, in its keys too."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._entry(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Return a text without paths and known hosts."""
        if _is_path(text):
            return _last_part(text)
        if "/" in text or "\\" in text:
            text = _QUOTED.sub(lambda match: f"{match[1]}…/{_last_part(match[2] + match[3])}{match[1]}", text)
            text = _BARE.sub(lambda match: f"…/{match[1]}", text)
        for host in sorted(self._hosts, key=len, reverse=True):
            if host in text:
                text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", self._hosts[host], text)
        return text

    def _entry(self, key: str, value: Any) -> Any:
        if key in HOST_KEYS and isinstance(value, str):
            return self._hosts.get(value, value)
        return self.value(value)


def _is_path(text: str) -> bool:
    return "\n" not in text and (PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute())


def _last_part(path: str) -> str:
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]
