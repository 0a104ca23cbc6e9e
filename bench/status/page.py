"""What `bench status` prints: counts, a table per backbone × strategy, what runs, what failed, what to do next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.columns import Column, fitted, needed
from bench.console import command
from bench.status import variant, widgets
from bench.status.run_state import STATES, TRIED, RunState
from bench.status.summary import Status
from bench.status.widgets import SHOWN_ID, STATE_STYLES

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 60
MOST_ENDS = 20
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


def show(status: Status, console: Console, *, full: bool = False) -> None:
    """Print a status.

    Args:
        status: what to print.
        console: its width decides how much there is room for.
        full: all rows and all failures, however many.
    """
    if not status.runs:
        console.print(f"No runs in {status.results} yet. Next: bench run --grid quick", **PLAIN)
    else:
        name = ", ".join(status.grids) or "records without a plan"
        console.print(f"{name}: {len(status.runs)} runs in {status.results}", **PLAIN)
        console.print(widgets.counts(status.counts(), console.width))
        if queued := status.of("queued"):
            console.print(widgets.queue(queued), **PLAIN)
        if status.silent:
            console.print("SLURM does not answer: what it had last is shown as queued.", style="yellow", **PLAIN)
        console.print()
        _show_rows(status.runs, console, full)
    if active := status.of("running"):
        console.print()
        console.print(widgets.running(active, console.width))
    if ends := status.of("failed", "lost"):
        console.print()
        _show_ends(ends, console, full)
    _show_skipped(status.of("skipped"), console, full)
    for sentence in status.unreadable:
        console.print(sentence, style="red", **PLAIN)
    if status.runs:
        console.print()
    for line in hints(status):
        console.print(line, **PLAIN)


NEVER = frozenset(
    (
        "PartitionConfig",
        "BadConstraints",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
    )
)
"""SLURM's reasons that do not pass by themselves."""


def hints(status: Status) -> list[str]:
    """What to do next, a line each."""

    def say(words: str) -> str:
        return command(words, status.results)

    numbers = status.counts()
    lines = []
    if numbers.get("failed"):
        first = status.of("failed")[0].id[:SHOWN_ID]
        lines.append(f"failed: {say(f'logs {first}')} tells why; {say('retry --failed')} does them again")
    if stuck := sorted({one.detail for one in status.of("queued") if one.detail in NEVER}):
        lines.append(
            f"queued for {', '.join(stuck)}: no node can take these; mend the profile, then {say('cancel --all')} "
            f"and {say('retry --profile NAME')}"
        )
    again = [state for state in STATES if state in ("interrupted", "cancelled", "lost") and numbers.get(state)]
    if again:
        lines.append(f"{', '.join(again)}: {say('retry')} goes on with them")
    if numbers.get("waiting") and not numbers.get("running") and not numbers.get("queued") and not again:
        lines.append(f"waiting: {say('retry')} submits them")
    if retries := [one for one in status.of("waiting") if one.detail.startswith(TRIED)]:
        lines.append(f"waiting: {len(retries)} of {numbers['waiting']} to be tried again after a failure")
    if numbers.get("done"):
        lines.append(f"done: {say('table')}")
    if status.unplanned:
        lines.append(
            f"{status.unplanned} more records belong to no plan in {status.results}; bench table shows them too"
        )
    if status.runs and not status.grids:
        lines.append("no plan here tells what is still to be done: bench run writes one")
    return lines


def as_json(status: Status) -> str:
    """The status for programs: ``counts`` and ``runs``, and what else `Status` holds; missing is null."""
    runs = []
    for one in status.runs:
        values = {name: getattr(one, name) for name in RunState.__dataclass_fields__ if name != "run"}
        values["detail"] = one.detail or None
        runs.append(values | {"told": dict(one.told), "run": asdict(one.run) if one.run else None})
    values = {
        "schema_version": 1,
        "results": str(status.results),
        "grids": status.grids,
        "counts": status.counts(),
        "slurm_answers": not status.silent,
        "unplanned": status.unplanned,
        "unreadable": status.unreadable,
        "runs": runs,
    }
    return json.dumps(values, indent=1)


def _show_rows(runs: Sequence[RunState], console: Console, full: bool) -> None:
    """The table per backbone × strategy; a study of hundreds of rows shows those that are not complete."""
    labels = variant.setting_labels(one.run for one in runs if one.run is not None)
    rows: dict[tuple[str, str, str], list[RunState]] = {}
    for one in runs:
        rows.setdefault((one.backbone, one.strategy, labels.get(one.id, "")), []).append(one)
    shown, complete, more = list(rows.items()), 0, 0
    if len(shown) > MOST_ROWS and not full:
        shown = [row for row in shown if any(one.state != "done" for one in row[1])]
        complete, more = len(rows) - len(shown), max(0, len(shown) - MOST_ROWS)
        shown = shown[:MOST_ROWS]
    if shown:
        console.print(_rows(shown, console.width))
    hidden = [f"{complete} complete"] * bool(complete) + [f"{more} other"] * bool(more)
    if hidden:
        console.print(f"… rows not shown: {', '.join(hidden)}; --full shows them", **PLAIN)


def _rows(rows: Sequence[tuple[tuple[str, str, str], list[RunState]]], width: int) -> Any:
    counted = [Counter(one.state for one in members) for _, members in rows]
    scores = [[one.pq for one in members if one.pq is not None] for _, members in rows]
    names = [
        Column(name, [key[i] for key, _ in rows], right=False, cut=name == "settings")
        for i, name in enumerate(("backbone", "strategy", "settings"))
    ]
    done = [f"{found['done']}/{len(members)}" for found, (_, members) in zip(counted, rows, strict=True)]
    pq = Column("PQ", [f"{fmean(one):.3f}" if one else "" for one in scores])
    others = [state for state in STATES if state != "done" and any(found[state] for found in counted)]

    def columns(symbols: bool) -> list[Column]:
        middle = [
            Column(
                STATE_STYLES[state][0] if symbols else state,
                [str(found[state] or "") for found in counted],
                style=STATE_STYLES[state][1],
            )
            for state in others
        ]
        return [*names, Column("done", done, style="green"), *middle, pq]

    # The line of counts above is the legend of the symbols.
    words = columns(symbols=False)
    fits = needed([one for one in words if any(one.cells)]) <= width
    return fitted(words if fits else columns(symbols=True), width)


def _show_ends(ends: Sequence[RunState], console: Console, full: bool) -> None:
    shown = ends if full else ends[:MOST_ENDS]
    columns = [
        Column("state", [f"{STATE_STYLES[one.state][0]} {one.state}" for one in shown], right=False, style="red"),
        Column("run", [one.id[:SHOWN_ID] for one in shown], right=False),
        Column("", [f"{one.backbone} {one.strategy} fold {one.fold}" for one in shown], right=False),
        Column("why", [" ".join(one.detail.split()) for one in shown], right=False, cut=True),
    ]
    console.print(fitted(columns, console.width, header=False))
    if len(ends) > len(shown):
        console.print(f"… and {len(ends) - len(shown)} more; --full shows them", **PLAIN)


def _show_skipped(skipped: Sequence[RunState], console: Console, full: bool) -> None:
    reasons = list(dict.fromkeys(f"{one.backbone} × {one.strategy}: {one.detail}" for one in skipped))
    most = len(reasons) if full else 5
    if reasons:
        console.print()
    for reason in reasons[:most]:
        console.print(f"skipped {reason}", **PLAIN)
    if len(reasons) > most:
        console.print(f"… and {len(reasons) - most} more skipped pairs; --full shows them", **PLAIN)
