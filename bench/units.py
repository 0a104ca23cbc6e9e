"""Numbers as people read them: durations, sizes, counts, the ticks of a logarithmic axis; and titles of scores."""

from __future__ import annotations

SCORE_TITLES = {"pq": "PQ", "aji": "AJI", "dice": "Dice"}
"""Titles of the scores that tables and figures show, the one that rows are ranked by first."""


def setting_text(value: object) -> str:
    """Return the value of a setting as it is typed on the command line."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 job``, ``2 jobs``."""
    return f"{count} {noun}" + "s" * (count != 1)


def duration(seconds: float) -> str:
    """Return a duration in seconds as text: 42 s, 7 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def hours(value: float) -> str:
    """Return an estimated duration in hours, rounded: 12 min, 2.5 h, 80 h."""
    if value < 1:
        return f"{max(1, round(60 * value))} min"
    return f"{value:.1f} h" if value < 10 and value != round(value) else f"{value:.0f} h"


def gigabytes(n_bytes: int) -> str:
    """Return bytes on a disk, in powers of ten: 1.6 GB, 40 MB."""
    return f"{n_bytes / 10**9:.1f} GB" if n_bytes >= 10**8 else f"{n_bytes / 10**6:.0f} MB"


def gibibytes(n_bytes: int) -> str:
    """Return bytes of memory, in powers of two: 33.3 GiB."""
    return f"{n_bytes / 2**30:.1f} GiB"


def millions(count: int) -> str:
    """Return a number of parameters with one decimal: 93.7 M, 29.7 k, 0."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)


def significant(count: float) -> str:
    """Return a number of parameters with three digits: 4.06 M, 147 k, 0."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            value = count / size
            return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + unit  # .3g would write 1000 as 1e+03
    return f"{count:.0f}"


def tick(value: float) -> str:
    """Return the label of a tick, with all its digits: 1.5 M, 300 k, 0.2."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
