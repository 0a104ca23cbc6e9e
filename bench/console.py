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
