"""What one sees while runs go on: counts, why runs wait, and what runs, with epoch, loss, speed and time left."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Reads records, claims and progress files; knows nothing of the processes that write them.

    Attributes:
        results: the results folder.
        runs: all runs of the plan.
        is_final: whether a failed run is not to be tried again under this command.
        console: where it is shown.
        index: of the records; its own by default. Nobody else may refresh it meanwhile.
        queue: SLURM's queue, as whoever follows the jobs saw it last; None where there is none, or no answer.
        ledger: what was submitted; None where no jobs are.
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
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # rich draws from two threads
    _at_start: int = 0

    def __post_init__(self) -> None:
        self._index = self.index or Index(self.results)
        self._open = {run.id: run for run in self.runs}
        self.refresh()
        self._at_start = len(self._finished)

    def refresh(self) -> list[Entry]:
        """Look for runs that have come to their end; returns those that are new."""
        with self._lock:
            self._index.refresh(self._open.keys())
            found = ((run_id, self._index.entries.get(run_id)) for run_id in self._open)
            new = {
                run_id: entry
                for run_id, entry in found
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
        return {run_id for run_id, found in self._finished.items() if found.status == "ok"}

    def failures(self) -> list[Entry]:
        """Runs that failed for good."""
        return [found for found in self._finished.values() if found.status == "failed"]

    def states(self) -> list[RunState]:
        """Where the runs stand that are neither done nor failed for good."""
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

    def tell_new(self) -> None:
        """Print one line per newly finished run (where there is no live display)."""
        new = self.refresh()
        for number, found in enumerate(new, start=len(self._finished) - len(new) + 1):
            total = len(self.runs)
            text = f"[{number:>{len(str(total))}}/{total}] {line(found)}"
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self.refresh()
        unfinished, counts = self.states(), self.counts()
        found = Counter(one.state for one in unfinished) + Counter({"done": counts["done"], "failed": counts["failed"]})
        numbers: dict[State, int] = {state: found[state] for state in STATES if found[state] or state in ALWAYS}
        finished = counts["done"] + counts["failed"]
        elapsed = time.monotonic() - self._started
        fresh = finished - self._at_start
        spent = duration(elapsed)
        if fresh and finished < counts["all"]:
            spent += f", about {duration(elapsed / fresh * (counts['all'] - finished))} left"
        head = Table.grid()
        head.add_row(ProgressBar(total=max(1, counts["all"]), completed=finished, width=60))
        head.add_row(widgets.counts(numbers, self.console.width, spent))
        if queued := [one for one in unfinished if one.state == "queued"]:
            head.add_row(Text(widgets.queue(queued)))
        active = [one for one in unfinished if one.state == "running"]
        if not active:
            return Group(head)
        return Group(head, widgets.running(active, self.console.width, max(3, self.console.height - 6)))


@contextmanager
def shown(view: View) -> Iterator[None]:
    """Show the view while the block runs: live on a terminal, one line per finished run elsewhere."""
    if not view.console.is_terminal:
        over = threading.Event()

        def tell() -> None:
            while not over.wait(1.0):
                view.tell_new()

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
            view.tell_new()
        return
    from rich.live import Live

    often = 2.0 if len(view.runs) <= MANY else 0.5
    with Live(view, console=view.console, refresh_per_second=often, transient=False):
        yield


def line(found: Entry) -> str:
    """One finished run in one line."""
    name = f"{found.backbone} {found.strategy} fold {found.fold}"
    if found.status != "ok":
        return f"{found.status:<6} {name}: {found.reason}"
    scores = f"PQ {found.pq or 0:.3f}  AJI {found.aji or 0:.3f}  Dice {found.dice or 0:.3f}"
    return f"{found.status:<6} {name}: {scores}  ({duration(found.seconds or 0)})"
