"""How far a run is: a small file beside its claim, written at most once a second, read by whoever watches."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILENAME = "progress.json"
INTERVAL_S = 1.0


@dataclass
class ProgressWriter:
    """Writes progress; slow file systems are spared by the interval.

    Attributes:
        folder: the run's folder.
    """

    folder: Path
    _written: float = field(default=0.0, repr=False)
    _phase: str = field(default="", repr=False)

    def __call__(self, phase: str, values: Mapping[str, Any] | None = None) -> None:
        """Tell the phase (``preparing``, ``training``, ``evaluating``, ``measuring``) and its numbers."""
        now = time.time()
        if phase == self._phase and now - self._written < INTERVAL_S:
            return
        self._written, self._phase = now, phase
        path = self.folder / FILENAME
        temporary = path.with_name(f".{FILENAME}.{os.getpid()}.tmp")
        with suppress(OSError):  # a full disk must not end a run for the sake of its progress
            temporary.write_text(json.dumps({"phase": phase, "updated": now, **(values or {})}), encoding="utf-8")
            temporary.replace(path)

    def clear(self) -> None:
        """Remove the file: the run is over."""
        (self.folder / FILENAME).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """The last progress told, or None."""
    try:
        values = json.loads((folder / FILENAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None
