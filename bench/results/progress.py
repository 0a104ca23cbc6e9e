"""Progress of a run: a small file beside its lock, written at most once a second and read by the status page."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry import atomic

FILENAME = "progress.json"
INTERVAL_S = 1.0
"""Shortest time between two writes within a phase: slow file systems are spared."""


@dataclass
class ProgressWriter:
    """Writer of a run's progress file.

    Attributes:
        folder: the run's folder.
    """

    folder: Path
    _written: float = field(default=0.0, repr=False)
    _phase: str = field(default="", repr=False)

    def __call__(self, phase: str, values: Mapping[str, Any] | None = None) -> None:
        """Write the phase (``preparing``, ``training``, ``evaluating``, ``measuring``) and its numbers."""
        now = time.time()
        if phase == self._phase and now - self._written < INTERVAL_S:
            return
        self._written, self._phase = now, phase
        text = json.dumps({"phase": phase, "updated": now, **(values or {})})
        with suppress(OSError):  # a full disk must not end a run for the sake of its progress
            atomic.write_text(self.folder / FILENAME, text, sync=False)

    def clear(self) -> None:
        """Remove the file: the run is over."""
        with suppress(OSError):
            (self.folder / FILENAME).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """The last progress that was written, or None."""
    try:
        values = json.loads((folder / FILENAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
