"""Log of a run, ``runs/<id>/log.txt``: a line per phase and epoch, over all its jobs, nodes and attempts."""

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
    """Writer that appends lines to a run's log.

    Attributes:
        folder: the run's folder.
    """

    folder: Path
    _last: tuple[Any, ...] = field(default=(), repr=False)

    def __call__(self, text: str) -> None:
        """Append a line with the time, UTC; a longer text keeps its lines."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        # A full disk must not end a run for the sake of its log.
        with suppress(OSError), (self.folder / FILENAME).open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{stamp} {text.rstrip()}\n")

    def phase(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        """Append a line for each new phase, and for each new epoch while training."""
        numbers = dict(values or {})
        current = (name, numbers.get("rate"), numbers.get("epoch"))
        if current == self._last:
            return
        self._last = current
        if "epoch" in numbers:
            left = f", about {duration(numbers['eta_s'])} left" if "eta_s" in numbers else ""
            rate = f"rate {numbers['rate']}/{numbers['rates']}, " if "rate" in numbers else ""
            self(f"{name}: {rate}epoch {numbers['epoch']}/{numbers['epochs']}, loss {numbers['loss']:.4f}{left}")
        elif "image" not in numbers or numbers["image"] <= 1:
            self(name)
