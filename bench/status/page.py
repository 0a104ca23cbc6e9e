"""Page that `bench status` prints: counts, a row per backbone × strategy, running and failed runs, next commands."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.columns import Column, fitted_table, total_width
from bench.console import PLAIN, command
from bench.planning.setting_labels import setting_labels
from bench.results.retry import FINAL
from bench.slurm import never_starts
from bench.status import widgets
from bench.status.run_state import STATES, RunState
from bench.status.summary import Status
from bench.status.widgets import SHOWN_ID, STATE_STYLES
from bench.units import plural

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 60
MAX_FAILURES_SHOWN = 20
APART = ("run", "needs_final_state")
"""Fields of `RunState` that `--json` leaves out or writes in another way."""


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
    if failed := status.of("failed", "lost"):
        console.print()
        _show_failures(failed, console, full)
    _show_skipped(status.of("skipped"), console, full)
    for sentence in status.unreadable:
        console.print(sentence, style="red", **PLAIN)
    if status.runs:
        console.print()
    for line in hints(status):
        console.print(line, **PLAIN)


def hints(status: Status) -> list[str]:
    """Commands to give next, a line each."""

    def bench(words: str) -> str:
        return command(words, status.results)

    numbers = status.counts()
    lines = []
    if numbers.get("failed"):
        run_id = status.of("failed")[0].id[:SHOWN_ID]
        # `failure` is None for records without a plan.
        is_plain_retry = all(run.failure is not None and run.failure not in FINAL for run in status.of("failed"))
        again = bench("retry" if is_plain_retry else "retry --failed")
        lines.append(f"failed: {bench(f'logs {run_id}')} tells why; {again} does them again")
    reasons = {
        str(run.pending_reason) for run in status.of("queued") if never_starts.is_permanent(str(run.pending_reason))
    }
    if reasons:
        lines.append(f"queued for {never_starts.advice(reasons, status.results)}")
    stopped = [state for state in STATES if state in ("interrupted", "cancelled", "lost") and numbers.get(state)]
    if stopped:
        lines.append(f"{', '.join(stopped)}: {bench('retry')} goes on with them")
    if numbers.get("waiting") and not numbers.get("running") and not numbers.get("queued") and not stopped:
        lines.append(f"waiting: {bench('retry')} submits them")
    if n_retries := sum(run.is_retry for run in status.of("waiting")):
        lines.append(f"waiting: {n_retries} of {numbers['waiting']} to be tried again after a failure")
    if numbers.get("done"):
        lines.append(f"done: {bench('table')}")
    if status.unplanned:
        lines.append(
            f"{status.unplanned} more records belong to no plan in {status.results}; bench table shows them too"
        )
    if status.runs and not status.grids:
        lines.append("no plan here tells what is still to be done: bench run writes one")
    return lines


def as_json(status: Status) -> str:
    """The status for programs: ``counts``, ``runs`` and the other fields of `Status`; missing is null."""
    values = {
        "schema_version": 1,
        "results": str(status.results),
        "grids": status.grids,
        "counts": status.counts(),
        "slurm_answers": not status.silent,
        "unplanned": status.unplanned,
        "unreadable": status.unreadable,
        "runs": [as_values(run) for run in status.runs],
    }
    return json.dumps(values, indent=1)


def as_values(run: RunState) -> dict[str, Any]:
    """Return the state of a run as plain values."""
    values = {name: getattr(run, name) for name in RunState.__dataclass_fields__ if name not in APART}
    values["detail"] = run.detail or None
    return values | {"progress": dict(run.progress), "run": run.run.as_dict() if run.run else None}


def _show_rows(runs: Sequence[RunState], console: Console, full: bool) -> None:
    """Print the table per backbone × strategy; of hundreds of rows those that are not complete."""
    labels = setting_labels(run.run for run in runs if run.run is not None)
    rows: dict[tuple[str, str, str], list[RunState]] = {}
    for run in runs:
        rows.setdefault((run.backbone, run.strategy, labels.get(run.id, "")), []).append(run)
    shown, complete, more = list(rows.items()), 0, 0
    if len(shown) > MOST_ROWS and not full:
        shown = [row for row in shown if any(run.state not in ("done", "skipped") for run in row[1])]
        complete, more = len(rows) - len(shown), max(0, len(shown) - MOST_ROWS)
        shown = shown[:MOST_ROWS]
    if shown:
        console.print(_rows(shown, console.width))
    hidden = [f"{complete} complete"] * bool(complete) + [f"{more} other"] * bool(more)
    if hidden:
        console.print(f"… rows not shown: {', '.join(hidden)}; --full shows them", **PLAIN)


def _rows(rows: Sequence[tuple[tuple[str, str, str], list[RunState]]], width: int) -> Any:
    counts = [Counter(run.state for run in members) for _, members in rows]
    scores = [[run.pq for run in members if run.pq is not None] for _, members in rows]
    names = [
        Column(name, [key[i] for key, _ in rows], right=False, cut=name == "settings")
        for i, name in enumerate(("backbone", "strategy", "settings"))
    ]
    # Folds without images are skipped: a row without them is done. Of a pair that can't run at all, all runs count.
    done = [f"{count['done']}/{count.total() - count['skipped'] or count.total()}" for count in counts]
    pq = Column("PQ, %", [f"{100 * fmean(values):.1f}" if values else "" for values in scores])
    others = [state for state in STATES if state != "done" and any(count[state] for count in counts)]

    def columns(symbols: bool) -> list[Column]:
        middle = [
            Column(
                STATE_STYLES[state][0] if symbols else state,
                [str(count[state] or "") for count in counts],
                style=STATE_STYLES[state][1],
            )
            for state in others
        ]
        return [*names, Column("done", done, style="green"), *middle, pq]

    # The line of counts above is the legend of the symbols.
    words = columns(symbols=False)
    fits = total_width([column for column in words if any(column.cells)]) <= width
    return fitted_table(words if fits else columns(symbols=True), width)


def _show_failures(failed: Sequence[RunState], console: Console, full: bool) -> None:
    shown = failed if full else failed[:MAX_FAILURES_SHOWN]
    columns = [
        Column("state", [f"{STATE_STYLES[run.state][0]} {run.state}" for run in shown], right=False, style="red"),
        Column("run", [run.id[:SHOWN_ID] for run in shown], right=False),
        Column("", [f"{run.backbone} {run.strategy} fold {run.fold}" for run in shown], right=False),
        Column("why", [" ".join(run.detail.split()) for run in shown], right=False, cut=True),
    ]
    console.print(fitted_table(columns, console.width, header=False))
    if len(failed) > len(shown):
        console.print(f"… and {len(failed) - len(shown)} more; --full shows them", **PLAIN)


def _show_skipped(skipped: Sequence[RunState], console: Console, full: bool) -> None:
    pairs: dict[str, list[str]] = {}
    for run in skipped:
        pairs.setdefault(run.detail, []).append(f"{run.backbone} × {run.strategy}")
    reasons = []
    for detail, names in pairs.items():
        of_pairs = list(dict.fromkeys(names))
        reasons.append(f"{of_pairs[0] if len(of_pairs) == 1 else plural(len(of_pairs), 'pair')}: {detail}")
    most = len(reasons) if full else 5
    if reasons:
        console.print()
    for reason in reasons[:most]:
        console.print(f"skipped {reason}", **PLAIN)
    if len(reasons) > most:
        console.print(f"… and {len(reasons) - most} more reasons; --full shows them", **PLAIN)
