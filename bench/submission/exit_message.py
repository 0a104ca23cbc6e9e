"""Last lines of `bench run` and `bench retry`, and their exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import PLAIN, command
from bench.results import record, retry, submissions
from bench.results.hints import hint, is_zero
from bench.status import live
from bench.units import plural

MOST_HINTS = 3
"""Runs with a PQ of zero that are explained."""

if TYPE_CHECKING:
    from rich.console import Console

    from bench.submission.controller import Outcome


def print_detached(outcome: Outcome, results: Path, console: Console) -> int:
    """Say what was submitted by a command that doesn't follow it; returns the exit code."""
    if outcome.interrupted:
        console.print("Stopped while submitting; the same command submits what is missing.", highlight=False)
        return 130
    if outcome.refused:
        console.print(
            f"{plural(outcome.refused, 'run')} not taken. Give the same command again when there is room, or leave out "
            "--detach: then it does so by itself.",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    text = "" if outcome.submitted else "Nothing to submit: every run is done or in a job. "
    if outcome.elsewhere:
        text += f"{plural(outcome.elsewhere, 'run')} of these in jobs of another user or cluster. "
    console.print(f"{text}`{command('status', results)}` shows how they go.", highlight=False, soft_wrap=True)
    return 0


def print_end(view: live.View, results: Path, outcome: Outcome, console: Console, *, on_slurm: bool) -> int:
    """Say how many runs are done, what failed and what to do next; returns the exit code."""
    from rich.markup import escape

    counts = view.counts()
    for failed in view.failures() if console.is_terminal else ():
        console.print(f"[red]{escape(live.line(failed))}[/]", highlight=False, soft_wrap=True)
    for error in dict.fromkeys(outcome.errors):
        console.print(f"[red]error:[/] {escape(error)}", highlight=False, soft_wrap=True)
    if outcome.interrupted:
        going_on = (
            f"Detached: the jobs go on. `{command('status', results)}` shows them, the same command follows again, "
            f"`{command('cancel --all', results)}` ends them."
            if on_slurm
            else "Stopped. The same command continues where this one stopped."
        )
        done = f"{counts['done']} of {counts['all']} runs are done and kept."
        console.print(f"{done} {going_on}", highlight=False, soft_wrap=True)
        return 130
    cancelled = len((submissions.read_cancelled(results) & {run.id for run in view.runs}) - view.done())
    left = counts["all"] - counts["done"] - counts["failed"] - cancelled
    text = f"{counts['done']} of {counts['all']} runs are done, {counts['failed']} failed"
    text += f", {cancelled} cancelled" if cancelled else ""
    text += f", {left} left" if left else ""
    is_retried = any(entry.failures[-1] not in retry.FINAL for entry in view.failures())  # a missing file, say
    following = (
        "Fix that, and give the same command again."
        if outcome.errors
        else f"Next: {command('retry' if cancelled or left or is_retried else 'table', results)}"
    )
    console.print(f"{text}. {following}", highlight=False, soft_wrap=True)
    _print_hints(view, results, console)
    return 1 if outcome.errors or counts["done"] < counts["all"] else 0


def _print_hints(view: live.View, results: Path, console: Console) -> None:
    """Print what the records of finished runs know about a PQ of zero, of the first runs that have one."""
    zero = [entry for entry in view.finished() if entry.status == "ok" and is_zero(entry.pq)]
    for entry in zero[:MOST_HINTS]:
        stored = record.read_or_none(results, entry.id)
        if text := hint(stored) if stored else "":
            console.print(f"{entry.backbone} {entry.strategy} fold {entry.fold}: {text}", **PLAIN)
    if len(zero) > MOST_HINTS:
        more = command("status RUN", results)
        console.print(f"PQ is 0.000 in {len(zero) - MOST_HINTS} more runs; `{more}` explains each.", **PLAIN)
