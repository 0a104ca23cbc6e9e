"""Page that `bench status RUN` prints: state, epoch, loss, a sparkline of the validation PQ, and the best epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import PLAIN, command
from bench.errors import BenchError, RecordError
from bench.results import history, record, tuning
from bench.results.hints import hint
from bench.status import run_names, summary, tuning_lines
from bench.status.page import as_values
from bench.status.run_state import RunState
from bench.status.sparkline import sparkline
from bench.status.widgets import STATE_STYLES
from bench.units import SCORE_TITLES, duration, gibibytes

if TYPE_CHECKING:
    from rich.console import Console

LABEL = 8
"""Characters of the column of labels."""


@dataclass(frozen=True)
class RunPage:
    """State of a run, and the history of its training.

    Attributes:
        results: the results folder.
        state: of the run.
        seed: of the run; None where it is not known.
        epochs: of the whole training; None for a run that trains nothing, or where the number is not known.
        rows: of the history, see `bench.results.history`.
        problem: a sentence if record or history can't be read; otherwise empty.
        tuning: of the encoder's rate, see `bench.training.tuning`; None before the choice, and without one.
        hint: sentences on a PQ of zero, see `bench.results.hints`; mostly empty.
    """

    results: Path
    state: RunState
    seed: int | None
    epochs: int | None
    rows: tuple[Mapping[str, Any], ...]
    problem: str = ""
    tuning: Mapping[str, Any] | None = None
    hint: str = ""

    @property
    def exit_code(self) -> int:
        """0 unless the run failed or was lost, or its files can't be read."""
        return int(bool(self.problem) or self.state.state in ("failed", "lost"))

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The epoch whose checkpoint is kept so far: that of the best PQ, then AJI, then Dice; of equals the last."""
        validated = [row for row in self.rows if _is_number(row.get("pq"))]
        return max(
            validated, key=lambda row: (*(row.get(name) or 0.0 for name in SCORE_TITLES), row["epoch"]), default=None
        )


def read(results: Path, text: str) -> RunPage:
    """Read the state of a run and its history.

    Args:
        results: the results folder.
        text: see `run_names.find`.

    Raises:
        BenchError: no such run, or several; a damaged plan.
    """
    run_id = run_names.find(results, text)
    problem, rows, stored = "", [], None
    try:
        stored = record.read(results, run_id)
        rows = history.read(record.folder(results, run_id)) or history.of_record(stored.cost if stored else None)
    except RecordError as error:
        problem = str(error)
    state = summary.of_run(results, run_id)
    if state is None:
        raise BenchError(problem or f"{run_id} is in no plan in {results} and has no record; bench logs {run_id}")
    settings: Mapping[str, Any] = stored.run if stored else state.run.as_dict() if state.run else {}
    epochs = (settings.get("train") or {}).get("epochs")
    tuned = (stored.tuning if stored else None) or tuning.read(record.folder(results, run_id))
    text = hint(stored) if stored else ""
    return RunPage(results, state, settings.get("seed"), epochs, tuple(rows), problem, tuned, text)


def show(page: RunPage, console: Console) -> None:
    """Print a run's page; its lines are as wide as the console, but for sentences."""
    state = page.state
    seed = "" if page.seed is None else f", seed {page.seed}"
    console.print(f"{state.id}  {state.backbone} {state.strategy} fold {state.fold}{seed}", **PLAIN)
    symbol, style = STATE_STYLES[state.state]
    console.print(f"{'state':<{LABEL}}{symbol} {state.state}{_where(state)}", style=style, **PLAIN)
    if detail := " ".join(state.detail.split()):
        console.print(f"{'why':<{LABEL}}{detail}", **PLAIN)
    for label, text in _lines(page, console.width - LABEL):
        console.print(f"{label:<{LABEL}}{text}", **PLAIN)
    if page.problem:
        console.print(page.problem, style="red", **PLAIN)
    if state.state == "done" and state.pq is not None:
        console.print(f"{'test':<{LABEL}}PQ {100 * state.pq:.1f} %", **PLAIN)
    if page.hint:
        console.print(f"{'hint':<{LABEL}}{page.hint}", **PLAIN)
    if state.state in ("running", "failed", "lost"):
        console.print(f"next: {command(f'logs {state.id}', page.results)}", **PLAIN)


def as_json(page: RunPage) -> str:
    """The page for programs: ``run`` as in `bench status --json`, ``history`` by epoch, ``best_epoch``, ``tuning``."""
    values = {
        "schema_version": 1,
        "results": str(page.results),
        "run": as_values(page.state),
        "history": [
            {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
            for row in page.rows
        ],
        "best_epoch": page.best["epoch"] if page.best else None,
        "tuning": page.tuning,
        "problem": page.problem or None,
        "hint": page.hint or None,
    }
    return json.dumps(values, indent=1)


def _where(state: RunState) -> str:
    parts = [state.node or "", f"job {state.job}" if state.job else ""]
    if state.restarts:
        parts.append(f"restarted {state.restarts} ×")
    return "".join(f" · {part}" for part in parts if part)


def _lines(page: RunPage, width: int) -> list[tuple[str, str]]:
    """Return labels and texts of what is known about the training."""
    lines, now = [], page.state.progress
    if now:
        lines.append(("now", _now(now)))
    lines += tuning_lines.lines(page.tuning)
    if not page.rows:
        return [*lines, ("epochs", "none yet" if page.epochs else "nothing is trained")]
    rows, best = history.of_first_training(page.rows), page.best
    last, again = rows[-1], page.rows[len(rows) :]
    total = f" of {page.epochs}" if page.epochs else ""
    lines.append(("epoch", f"{last['epoch']}{total}{_speed(last)}"))
    if spent := _spent(page.rows):
        lines.append(("time", spent))
    losses = [row["loss"] for row in rows if _is_number(row.get("loss"))]
    if losses:
        lines.append(("loss", _course(losses, width)))
    if terms := {name: last[name] for name in last if name.startswith("loss_") and _is_number(last[name])}:
        lines.append(("", ", ".join(f"{_printable(name[5:])} {value:.3f}" for name, value in terms.items())))
    if best is None:
        return [*lines, ("PQ", "not validated yet")]
    lines += _second_training(again, width)
    lines.append(("PQ, %", _course([100 * row["pq"] for row in page.rows if _is_number(row.get("pq"))], width, 1)))
    scores = ", ".join(
        f"{title} {100 * best[name]:.1f}" for name, title in SCORE_TITLES.items() if _is_number(best.get(name))
    )
    # Model cards and reports give the validation scores of the chosen parameters, which are higher.
    return [*lines, ("best", f"epoch {best['epoch']}: {scores} % (validation, before post-processing is chosen)")]


def _second_training(rows: Sequence[Mapping[str, Any]], width: int) -> list[tuple[str, str]]:
    """Return the line of the training on training and validation images, if it has begun."""
    losses = [row["loss"] for row in rows if _is_number(row.get("loss"))]
    return [("again", f"epoch {rows[-1]['epoch']}, loss {_course(losses, width - 18)}")] if losses else []


def _now(progress: Mapping[str, Any]) -> str:
    text = str(progress.get("phase", "starting"))
    for noun in ("rate", "epoch", "image"):
        if noun in progress:
            text += f", {noun} {progress[noun]} of {progress.get(f'{noun}s', '?')}"
    return text + (f", {duration(progress['eta_s'])} left" if _is_number(progress.get("eta_s")) else "")


def _speed(row: Mapping[str, Any]) -> str:
    speed, peak = row.get("images_per_s"), row.get("peak_bytes")
    text = f", {speed:.1f} images/s" if _is_number(speed) else ""
    return text + (f", peak memory {gibibytes(int(peak))}" if peak is not None and _is_number(peak) else "")


def _spent(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the seconds of all epochs by what was done; empty where validations were not told apart."""
    parts = {"training": "seconds", "validation": "validation_seconds", "post-processing": "post_processing_seconds"}
    sums = {part: sum(row[name] for row in rows if _is_number(row.get(name))) for part, name in parts.items()}
    if not sums["validation"]:
        return ""
    return ", ".join(f"{part} {duration(seconds)}" for part, seconds in sums.items())


def _course(values: Sequence[float], width: int, digits: int = 3) -> str:
    """Return a sparkline with its first, lowest, highest and last value."""
    first, last, low, high = (f"{value:.{digits}f}" for value in (values[0], values[-1], min(values), max(values)))
    numbers = f"{first} → {last} (lowest {low}, highest {high})"
    return f"{sparkline(values, max(8, width - len(numbers) - 2))}  {numbers}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
