"""A run's own log, ``runs/<id>/log.txt``: one line per phase and epoch, whatever job and node it is on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.units import duration

FILENAME = "log.txt"


@dataclass
class RunLog:
    """Appends lines; told the same phases and numbers as `bench.results.progress`.

    Attributes:
        folder: the run's folder.
    """

    folder: Path
    _last: tuple[str, Any] = field(default=("", None), repr=False)

    def __call__(self, text: str) -> None:
        """Append a line with the time, UTC; a longer text keeps its lines."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with suppress(OSError), (self.folder / FILENAME).open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {text.rstrip()}\n")  # a full disk must not end a run for the sake of its log

    def phase(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        """A line for each new phase, and for each new epoch while training."""
        told = dict(values or {})
        now = (name, told.get("epoch"))
        if now == self._last:
            return
        self._last = now
        if "epoch" in told:
            left = f", about {duration(told['eta_s'])} left" if "eta_s" in told else ""
            self(f"{name}: epoch {told['epoch']}/{told['epochs']}, loss {told['loss']:.4f}{left}")
        elif "image" not in told or told["image"] <= 1:
            self(name)
