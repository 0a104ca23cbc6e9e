"""The terminal that people read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("results")
"""The results folder that commands mean when they are told nothing else."""


def console(stderr: bool = False) -> Console:
    """The console; rich obeys NO_COLOR and the width of the terminal."""
    from rich.console import Console

    return Console(stderr=stderr)


def command(words: str, results: Path) -> str:
    """A command to be given next about a results folder, as it would be typed here."""
    return f"bench {words}" + (
        "" if results.resolve() == RESULTS.resolve() else f" --results {shlex.quote(str(results))}"
    )


def plural(count: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count} {noun}" + "s" * (count != 1)


def span(seconds: object) -> str:
    """A duration as people write it: 42 s, 7 min, 3 h 05 min."""
    s = float(seconds)  # type: ignore[arg-type]
    if s < 100:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{s / 60:.0f} min"
    return f"{int(s // 3600)} h {int(s % 3600 // 60):02d} min"
