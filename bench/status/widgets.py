"""Widgets that the live view and the status page share: the counts by state, and the table of running runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.columns import Column, fitted_table
from bench.status.run_state import RunState, State
from bench.units import duration

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

STATE_STYLES: dict[State, tuple[str, str]] = {
    "done": ("✓", "green"),
    "running": ("▸", "cyan"),
    "queued": ("≡", "blue"),
    "waiting": ("○", ""),
    "interrupted": ("‖", "yellow"),
    "cancelled": ("⊘", "magenta"),
    "lost": ("?", "red"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
}
"""Symbol and colour of each state; the word always stands beside them somewhere on the page."""
SHOWN_ID = 8
"""Digits of a run's id that are shown: `bench logs` takes any beginning that is unique."""


def counts(numbers: Mapping[State, int], width: int, more: str = "") -> Text:
    """Numbers of runs by state, ``✓ 12 done · ▸ 3 running``, in lines of at most `width` characters.

    Args:
        numbers: of runs.
        width: of the console.
        more: further text for the end.
    """
    from rich.text import Text

    parts = [
        (f"{STATE_STYLES[state][0]} {number} {state}", STATE_STYLES[state][1]) for state, number in numbers.items()
    ]
    parts += [(more, "")] if more else []
    text, used = Text(), 0
    for part, style in parts:
        between = " · " if used and used + 3 + len(part) <= width else "\n" if used else ""
        used = len(part) + (used + 3 if between == " · " else 0)
        text.append(between).append(part, style=style)
    return text


def queue(queued: Iterable[RunState]) -> str:
    """Reasons why runs wait in the queue, the most frequent first: ``37 queued: Priority 30, Resources 7``."""
    reasons = Counter(run.detail for run in queued).most_common()
    return f"{sum(n for _, n in reasons)} queued: " + ", ".join(f"{reason} {n}" for reason, n in reasons)


def running(active: Sequence[RunState], width: int, limit: int | None = None) -> Table:
    """Table of running runs, a row each, in as many columns as there is room for.

    Args:
        active: runs in the state `running`.
        width: of the console, in characters.
        limit: rows at most; a last one says how many more there are.
    """
    shown = list(active[:limit])
    hidden = len(active) - len(shown)
    in_jobs = any(run.job for run in active)  # otherwise all are here, and the node says nothing
    columns = [
        Column("running", [run.id[:SHOWN_ID] for run in shown], right=False),
        Column("", [f"{run.backbone} {run.strategy}" for run in shown], right=False, cut=True),
        Column("fold", [str(run.fold) for run in shown]),
        Column("job", [run.job or "" for run in shown], drop=3, right=False),
        Column("node", [(run.node or "") if in_jobs else "" for run in shown], drop=1, right=False),
        Column("phase", [_phase(run.progress) for run in shown], right=False, cut=True),
        Column("loss", [_number(run.progress, "loss", ".3f") for run in shown], drop=4),
        Column("img/s", [_number(run.progress, "images_per_s", ".1f") for run in shown], drop=5),
        Column("left", [duration(run.progress["eta_s"]) if "eta_s" in run.progress else "" for run in shown]),
        Column("job left", ["" if run.job_left_s is None else duration(run.job_left_s) for run in shown], drop=2),
    ]
    table = fitted_table(columns, width)
    if hidden:
        table.add_row("…", f"and {hidden} more")
    return table


def _phase(progress: Mapping[str, Any]) -> str:
    """The phase, with the number of the current epoch or image."""
    phase = str(progress.get("phase", "starting"))
    for number, total in (("image", "images"), ("epoch", "epochs")):
        if number in progress and total in progress:
            return f"{phase} {progress[number]}/{progress[total]}"
    return phase


def _number(progress: Mapping[str, Any], name: str, form: str) -> str:
    return format(progress[name], form) if name in progress else ""
