"""Lines of a run's page about the tuning of its encoder rate: a small table, and a bar for each rate's PQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.status.sparkline import sparkline
from bench.units import SCORE_TITLES, duration, plural

CHOSEN = "← chosen"


def lines(block: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return labels and texts; none where nothing is known of a tuning.

    Args:
        block: ``tuning`` of a record, or of the file that a run leaves while it goes on.
    """
    if not block:
        return []
    candidates: Sequence[Mapping[str, Any]] = block.get("candidates") or ()
    if not candidates:
        return [("tuning", f"none: {block['reason']}")] if block.get("reason") else []
    seconds = block.get("seconds")
    took = f", {duration(seconds)} together" if seconds is not None else ""
    each = f"{plural(block['epochs'], 'epoch')} each{took}"
    first = f"{plural(len(candidates), 'encoder rate')} on fold {block['fold']}, {each}"
    known = [candidate["pq"] for candidate in candidates if candidate.get("pq") is not None]
    bars = iter(sparkline(known, len(known)))
    rows = [("rate", "", *(f"{title}, %" for title in SCORE_TITLES.values()), "")]
    for candidate in candidates:
        bar = next(bars) if candidate.get("pq") is not None else ""
        rows.append((f"{candidate['encoder_lr']:g}", bar, *_scores(candidate), _remark(candidate, block)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    shown = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
    return [("tuning", first), *(("", text) for text in shown)]


def _scores(candidate: Mapping[str, Any]) -> list[str]:
    return [f"{100 * value:.1f}" if (value := candidate.get(name)) is not None else "" for name in SCORE_TITLES]


def _remark(candidate: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    if candidate["encoder_lr"] == block.get("chosen") and block.get("tied"):
        return f"{CHOSEN} (others are equal, so the one nearest to the strategy's own: raise train.tune_epochs)"
    if candidate["encoder_lr"] == block.get("chosen"):
        edge = " (at the edge of those tried: a larger --tune tries beyond it)"
        return CHOSEN + edge * bool(block.get("at_edge"))
    return "" if candidate["status"] == "ok" else str(candidate["status"])
