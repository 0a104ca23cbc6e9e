"""The terminal that people read."""

from __future__ import annotations


def console(stderr: bool = False):  # type: ignore[no-untyped-def]  # a rich Console, imported late
    """The console; rich obeys NO_COLOR and the width of the terminal."""
    from rich.console import Console

    return Console(stderr=stderr)
