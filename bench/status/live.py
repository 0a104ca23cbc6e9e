"""Live view of a command's runs: counts by state, reasons for waiting, and the running runs with their progress."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import PLAIN
from bench.grid import Run
from bench.results.index import Entry, Index
from bench.results.submissions import JobRef, Ledger
from bench.slurm.client import Queue
from bench.status import widgets
from bench.status.run_state import STATES, RunState, State, run_states
from bench.units import duration

if TYPE_CHECKING:
    from rich.console import Console, Group

ALWAYS: tuple[State, ...] = ("done", "running", "waiting", "failed")
"""States that are counted even where there is no run in them."""
MANY = 1000  # runs; a view of more is drawn more seldom, so that watching costs next to nothing


@dataclass
class View:
    """View of a plan's runs, from records, locks and progress files alone.

    Attributes:
        results: the results folder.
        runs: all runs of the plan.
        is_final: returns whether a failed run is not to be tried again under this command.
        console: where it is shown.
        index: of the records; its own by default. Nobody else may refresh it meanwhile.
        queue: SLURM's queue as it was read last; None where there is none, or no answer.
        ledger: the submissions; None where there are no jobs.
    """

    results: Path
    runs: Sequence[Run]
    is_final: Callable[[Entry], bool]
    console: Console
    index: Index | None = None
    queue: Queue | None = None
    ledger: Ledger | None = None
    _finished: dict[str, Entry] = field(default_factory=dict, repr=False)
    _open: dict[str, Run] = field(default_factory=dict, repr=False)
    _jobs: tuple[Ledger | None, dict[str, JobRef]] = field(default=(None, {}), repr=False)
    _started: float = field(default_factory=time.monotonic, repr=False)
    # rich draws from two threads, and a signal's handler that logs draws while its own thread does.
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _is_refreshing: bool = field(default=False, repr=False)
    _at_start: int = 0

    def __post_init__(self) -> None:
        self._index = self.index or Index(self.results)
        self._open = {run.id: run for run in self.runs}
        self.refresh()
        self._at_start = len(self._finished)

    def refresh(self) -> list[Entry]:
        """Read the records of runs that may have ended; returns the newly ended ones."""
        with self._lock:
            if self._is_refreshing:  # called by a signal's handler, in the midst of the same thread's refresh
                return []
            self._is_refreshing = True
            try:
                return self._refresh()
            finally:
                self._is_refreshing = False

    def _refresh(self) -> list[Entry]:
        self._index.refresh(self._open.keys())
        entries = ((run_id, self._index.entries.get(run_id)) for run_id in self._open)
        new = {
            run_id: entry
            for run_id, entry in entries
            if entry is not None and (entry.status == "ok" or self.is_final(entry))
        }
        self._finished |= new
        for run_id in new:
            del self._open[run_id]
        return list(new.values())

    def counts(self) -> dict[str, int]:
        """Numbers of runs done and failed so far, and of all."""
        failed = len(self.failures())
        return {"done": len(self._finished) - failed, "failed": failed, "all": len(self.runs)}

    def done(self) -> set[str]:
        """Ids of runs that are done."""
        return {run_id for run_id, entry in self._finished.items() if entry.status == "ok"}

    def finished(self) -> list[Entry]:
        """Runs that are done or failed for good, as they ended."""
        return list(self._finished.values())

    def failures(self) -> list[Entry]:
        """Runs that failed for good."""
        return [entry for entry in self._finished.values() if entry.status == "failed"]

    def states(self) -> list[RunState]:
        """States of the runs that are neither done nor failed for good."""
        if self._jobs[0] is not self.ledger:
            self._jobs = (self.ledger, self.ledger.latest() if self.ledger else {})
        return run_states(
            list(self._open.values()),
            results=self.results,
            entries=self._index.entries,
            jobs=self._jobs[1],
            cancelled=self.ledger.cancelled if self.ledger else (),
            queue=self.queue,
            is_final=self.is_final,
            queue_is_newer=False,
        )

    def print_new(self) -> None:
        """Print one line per newly finished run (where there is no live display)."""
        new = self.refresh()
        for number, entry in enumerate(new, start=len(self._finished) - len(new) + 1):
            total = len(self.runs)
            text = f"[{number:>{len(str(total))}}/{total}] {line(entry)}"
            self.console.print(text, **PLAIN)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self.refresh()
        unfinished, counts = self.states(), self.counts()
        numbers_by_state = Counter(run.state for run in unfinished) + Counter(
            {"done": counts["done"], "failed": counts["failed"]}
        )
        numbers: dict[State, int] = {
            state: numbers_by_state[state] for state in STATES if numbers_by_state[state] or state in ALWAYS
        }
        finished = counts["done"] + counts["failed"]
        elapsed = time.monotonic() - self._started
        fresh = finished - self._at_start
        spent = duration(elapsed)
        if fresh and finished < counts["all"]:
            spent += f", about {duration(elapsed / fresh * (counts['all'] - finished))} left"
        head = Table.grid()
        head.add_row(ProgressBar(total=max(1, counts["all"]), completed=finished, width=60))
        head.add_row(widgets.counts(numbers, self.console.width, spent))
        if queued := [run for run in unfinished if run.state == "queued"]:
            head.add_row(Text(widgets.queue(queued)))
        active = [run for run in unfinished if run.state == "running"]
        if not active:
            return Group(head)
        return Group(head, widgets.running(active, self.console.width, max(3, self.console.height - 6)))


@contextmanager
def shown(view: View) -> Iterator[None]:
    """Show the view while the block runs: live on a terminal, one line per finished run elsewhere."""
    if not view.console.is_terminal:
        finished = threading.Event()

        def print_regularly() -> None:
            while not finished.wait(1.0):
                view.print_new()

        printer = threading.Thread(target=print_regularly, daemon=True)
        printer.start()
        try:
            yield
        finally:
            finished.set()
            printer.join()
            view.print_new()
        return
    from rich.live import Live

    often = 2.0 if len(view.runs) <= MANY else 0.5
    with Live(view, console=view.console, refresh_per_second=often, transient=False):
        yield


def line(entry: Entry) -> str:
    """One finished run in one line."""
    name = f"{entry.backbone} {entry.strategy} fold {entry.fold}"
    if entry.status != "ok":
        return f"{entry.status:<6} {name}: {entry.reason}"
    scores = "  ".join(
        f"{title} {100 * (value or 0):.1f} %"
        for title, value in (("PQ", entry.pq), ("AJI", entry.aji), ("Dice", entry.dice))
    )
    spent = "" if entry.seconds is None else f"  ({duration(entry.seconds)})"  # not measured on a shared device
    return f"{entry.status:<6} {name}: {scores}{spent}"
