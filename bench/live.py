"""What one sees while runs go on: counts, running runs with epoch, loss, speed and time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import claim, progress, record
from bench.errors import RecordError
from bench.grid import Run
from bench.record import RunRecord

if TYPE_CHECKING:
    from rich.console import Console, Group


@dataclass
class View:
    """Reads records and progress files; knows nothing of the processes that write them.

    Attributes:
        results: the results folder.
        runs: all runs of the plan.
        redo_failed_before: failures older than this moment (UTC, ISO 8601) count as pending.
    """

    results: Path
    runs: Sequence[Run]
    redo_failed_before: str
    console: Console
    _finished: dict[str, RunRecord] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _at_start: int = 0

    def __post_init__(self) -> None:
        self.refresh()
        self._at_start = len(self._finished)

    def refresh(self) -> list[RunRecord]:
        """Look for new records; returns those that are new."""
        new = []
        started = record.folders(self.results)
        for run in self.runs:
            if run.id not in self._finished and run.id in started:
                try:
                    found = record.read(self.results, run.id)
                except RecordError:
                    continue  # being replaced, or damaged: a later look will tell
                if found is not None and not found.wants_retry(self.redo_failed_before):
                    self._finished[run.id] = found
                    new.append(found)
        return new

    def counts(self) -> dict[str, int]:
        """Numbers of runs done and failed so far, and of all."""
        failed = sum(found.status == "failed" for found in self._finished.values())
        return {"done": len(self._finished) - failed, "failed": failed, "all": len(self.runs)}

    def failures(self) -> list[RunRecord]:
        """Records of failed runs."""
        return [found for found in self._finished.values() if found.status == "failed"]

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
        counts = self.counts()
        running = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
        for name, justify in (("running", "left"), ("fold", "right"), ("phase", "left"), ("epoch", "right"),
                              ("loss", "right"), ("img/s", "right"), ("left", "right")):  # fmt: skip
            running.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        active = 0
        for run, told in self._running():
            active += 1
            epoch = f"{told['epoch']}/{told['epochs']}" if "epoch" in told else ""
            if "image" in told:
                epoch = f"image {told['image']}/{told['images']}"
            running.add_row(
                f"{run.backbone} {run.strategy}", str(run.fold), told["phase"], epoch,
                f"{told['loss']:.3f}" if "loss" in told else "",
                f"{told['images_per_s']:.1f}" if "images_per_s" in told else "",
                span(told["eta_s"]) if "eta_s" in told else "",
            )  # fmt: skip
        finished = counts["done"] + counts["failed"]
        waiting = counts["all"] - finished - active
        elapsed = time.monotonic() - self._started
        fresh = finished - self._at_start
        left = (
            f", about {span(elapsed / fresh * (counts['all'] - finished))} left"
            if fresh and finished < counts["all"]
            else ""
        )
        failed = f"[red]{counts['failed']} failed[/]" if counts["failed"] else "0 failed"
        text = Text.from_markup(
            f"[green]{counts['done']} done[/] · {active} running · {failed} · {waiting} waiting · {span(elapsed)}{left}"
        )
        bar = ProgressBar(total=max(1, counts["all"]), completed=finished, width=60)
        head = Table.grid()
        head.add_row(bar)  # a bar ends without a newline of its own
        head.add_row(text)
        return Group(head, running) if active else Group(head)

    def _running(self) -> Iterator[tuple[Run, dict[str, Any]]]:
        started = record.folders(self.results)
        for run in self.runs:
            if run.id not in self._finished and run.id in started:
                folder = record.folder(self.results, run.id)
                told = progress.read(folder)
                if told is not None and claim.held(folder) is not None:
                    yield run, told


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

    with Live(view, console=view.console, refresh_per_second=2, transient=False):
        yield


def line(found: RunRecord) -> str:
    """One finished run in one line."""
    run = found.run
    name = f"{run['backbone']} {run['strategy']} fold {run['fold']}"
    if found.status == "ok":
        scores = found.scores or {}
        seconds = sum((found.cost or {}).get(key) or 0 for key in ("train_seconds", "evaluate_seconds"))
        detail = (
            f"PQ {scores['pq']:.3f}  AJI {scores['aji']:.3f}  Dice {scores['dice']:.3f}  ({span(seconds)})"
        )
    else:
        detail = str(found.reason)
    return f"{found.status:<6} {name}: {detail}"


def span(seconds: object) -> str:
    """A duration as people write it: 42 s, 7 min, 3 h 05 min."""
    s = float(seconds)  # type: ignore[arg-type]
    if s < 100:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{s / 60:.0f} min"
    return f"{int(s // 3600)} h {int(s % 3600 // 60):02d} min"
