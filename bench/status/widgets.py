"""What `bench run` and `bench status` both show: the counts by state, and the table of what runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.columns import Column, fitted
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
    """How many runs there are in each state, ``✓ 12 done · ▸ 3 running``, in lines of at most `width` characters.

    Args:
        numbers: of runs.
        width: of the console.
        more: what else is to be said at the end.
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
    """Why runs wait in the queue, the most frequent reason first: ``37 queued: Priority 30, Resources 7``."""
    reasons = Counter(one.detail for one in queued).most_common()
    return f"{sum(n for _, n in reasons)} queued: " + ", ".join(f"{reason} {n}" for reason, n in reasons)


def running(active: Sequence[RunState], width: int, limit: int | None = None) -> Table:
    """Runs that are being done, one row each, in as many columns as there is room for.

    Args:
        active: runs in the state `running`.
        width: of the console, in characters.
        limit: rows at most; a last one tells how many more there are.
    """
    shown = list(active[:limit])
    hidden = len(active) - len(shown)
    in_jobs = any(one.job for one in active)  # otherwise all are here, and the node says nothing
    told = [one.told for one in shown]
    columns = [
        Column("running", [one.id[:SHOWN_ID] for one in shown], right=False),
        Column("", [f"{one.backbone} {one.strategy}" for one in shown], right=False, cut=True),
        Column("fold", [str(one.fold) for one in shown]),
        Column("job", [one.job or "" for one in shown], drop=3, right=False),
        Column("node", [(one.node or "") if in_jobs else "" for one in shown], drop=1, right=False),
        Column("phase", [_phase(one) for one in told], right=False, cut=True),
        Column("loss", [_number(one, "loss", ".3f") for one in told], drop=4),
        Column("img/s", [_number(one, "images_per_s", ".1f") for one in told], drop=5),
        Column("left", [duration(one["eta_s"]) if "eta_s" in one else "" for one in told]),
        Column("job left", ["" if one.job_left_s is None else duration(one.job_left_s) for one in shown], drop=2),
    ]
    table = fitted(columns, width)
    if hidden:
        table.add_row("…", f"and {hidden} more")
    return table


def _phase(told: Mapping[str, Any]) -> str:
    """The phase, with the epoch or the image that it has come to."""
    phase = str(told.get("phase", "starting"))
    for at, of in (("image", "images"), ("epoch", "epochs")):
        if at in told and of in told:
            return f"{phase} {told[at]}/{told[of]}"
    return phase


def _number(told: Mapping[str, Any], name: str, form: str) -> str:
    return format(told[name], form) if name in told else ""
