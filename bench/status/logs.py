"""`bench logs`: a run's own log, and what its last job left on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import PLAIN
from bench.results import plans, record, run_lock, run_log, submissions
from bench.results.index import Index
from bench.results.plans import SavedPlan
from bench.status import run_names, summary
from bench.status.run_state import run_states

if TYPE_CHECKING:
    from rich.console import Console

STDERR_LINES = 20


def show(
    results: Path,
    text: str,
    console: Console,
    *,
    follow: bool | None = None,
    poll_s: float = 1.0,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Print a run's log and, if its last job left words on stderr, the last lines of them.

    The log is one file over all jobs and attempts, so a requeue changes nothing for who follows it.

    Args:
        results: the results folder.
        text: see `run_names.find`.
        console: where to print.
        follow: go on until the run is over; None does so on a terminal.
        poll_s: seconds between two looks at the files.
        pause: waits so long.

    Returns:
        The exit code: 0, or 130 if Ctrl-C ended the following (the run goes on).

    Raises:
        BenchError: no such run, or several.
    """
    run_id = run_names.find(results, text)
    path = record.folder(results, run_id) / run_log.FILENAME
    offset = _print_from(path, 0, console)
    going_on = console.is_terminal if follow is None else follow
    if not offset:
        state = summary.of_run(results, run_id)
        detail = f" ({state.detail})" if state and state.detail else ""
        _print(f"{run_id} has no log yet; it is {state.state if state else 'in no plan'}{detail}", console)
        going_on = going_on and state is not None and state.state in ("running", "queued", "waiting")
    try:
        index = Index(results)
        saved = plans.read_all(results) if going_on else []
        planned = next((plan for plan in reversed(saved) if any(run.id == run_id for run in plan.runs)), None)
        while going_on:
            over = _is_over(index, run_id, planned)  # before the last look at the log, so that nothing is missed
            offset = _print_from(path, offset, console)
            if over:
                break
            pause(poll_s)
    except KeyboardInterrupt:
        return 130
    last = record.read_or_none(results, run_id)
    if last is None or last.status != "ok":  # of a job that did it, the rest is about its other runs
        _print_stderr(results, run_id, console)
    return 0


def _is_over(index: Index, run_id: str, planned: SavedPlan | None) -> bool:
    """Return whether nothing more is to come: the run is done, failed for good or cancelled, and nobody works on it."""
    results = index.results
    if run_lock.holder(record.folder(results, run_id)) is not None:
        return False
    index.refresh([run_id])
    run = next((run for run in planned.runs if run.id == run_id), None) if planned else None
    if planned is None or run is None:
        return run_id in index.entries
    ledger = submissions.read(results)
    (state,) = run_states(
        [run],
        results=results,
        entries=index.entries,
        jobs=ledger.latest(),
        cancelled=ledger.cancelled,
        queue=None,
        is_final=lambda entry: summary.is_final(entry, run, planned.profile),
    )
    return state.state in ("done", "failed", "cancelled", "skipped")


def _print_from(path: Path, offset: int, console: Console) -> int:
    """Print what stands behind `offset`, whole lines only; returns the new offset. A file that shrank is read anew."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = offset if offset <= size else 0
            file.seek(start)
            text = file.read()
    except FileNotFoundError:
        return 0
    whole = text[: text.rfind(b"\n") + 1]
    if whole:
        _print(whole.decode("utf-8", errors="replace").rstrip("\n"), console)
    return start + len(whole)


def _print_stderr(results: Path, run_id: str, console: Console) -> None:
    reference = submissions.read(results).latest().get(run_id)
    if reference is None:
        return
    path = reference.submission.log(reference.task, "err")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    if lines:
        shown = lines[-STDERR_LINES:]
        _print(f"\nlast {len(shown)} of {len(lines)} lines of {path}:\n" + "\n".join(shown), console)


def _print(text: str, console: Console) -> None:
    console.print(text, **PLAIN)
