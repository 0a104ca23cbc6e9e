"""`bench perf`: measure models on this machine, show what bounds them, and keep the numbers for `bench plan`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import PLAIN
from bench.errors import BenchError
from bench.estimate import flops, step_measurements
from bench.perf import table
from bench.perf.performance import BOUND_RULE, Performance
from bench.perf.subject import Subject, subjects
from bench.units import duration, plural
from registry.errors import RegistryError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from bench.perf.peaks import Peaks

STOPPED = 130
ASSUMED_SHARE = 0.3
"""Share of the measured peak that the forecast of the duration assumes."""

logger = logging.getLogger(__name__)


def perf(
    backbone: str | None,
    strategy: str | None,
    *,
    assignments: Sequence[str],
    device: str,
    used_paths: frozenset[str],
    images: int | None,
    rounds: int,
    force: bool,
    outputs: Sequence[Path],
    plugins: Sequence[Path],
    console: Console,
) -> int:
    """Measure models one after the other, print the table, write the files and keep the numbers.

    Args:
        backbone, strategy, assignments, images: see `bench.perf.subject.subjects`.
        device: ``auto``, ``cpu`` or ``cuda``.
        used_paths: names of the faster forms in use.
        rounds: turns of each form.
        force: also on a machine that is busy; the numbers are marked then, and not kept.
        outputs: files to write: .json, .csv or .md.
        plugins: folders and .py files that register further names.
        console: to print on.

    Returns:
        The exit code: 0 if everything was measured, 1 if something was not, 130 if stopped; what was measured is shown
        and written all the same.

    Raises:
        BenchError: unknown names or settings, no GPU where one is wanted, or a busy machine without `force`.
    """
    import torch

    from bench.perf.peaks import measure_peaks
    from bench.planning import plugins as plugin_files
    from bench.training import load
    from bench.training.precision import autocast

    for path in outputs:
        table.check_ending(path)
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda: there is no GPU that can be used here; give --device cpu, or none.")
    chosen = torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
    plugin_files.load(plugins)
    wanted = subjects(backbone, strategy, assignments=assignments, device=chosen, images=images)
    if phrases := load.disturbance(chosen):
        text = f"the machine is busy: {' and '.join(phrases)}. Times measured now would be too long, and marked as such"
        if not force:
            raise BenchError(f"{text}. Wait until it is quiet, or add --force.")
        console.print(f"{text}.", **PLAIN)
    with autocast(chosen):
        enabled = torch.is_autocast_enabled(chosen.type)
    peaks = measure_peaks(chosen, torch.bfloat16 if enabled else torch.float32)
    if len(wanted) > 1:
        console.print(_forecast(wanted, peaks, used_paths, rounds), **PLAIN)
    measured: list[Performance] = []
    code = _measure_all(wanted, chosen, peaks, used_paths, rounds, tuple(phrases), measured, console)
    if measured:
        _show(measured, console)
        for path in outputs:
            table.write(path, measured)
    return code


def _measure_all(
    wanted: Sequence[Subject],
    device: torch.device,
    peaks: Peaks,
    used_paths: frozenset[str],
    rounds: int,
    busy_because: tuple[str, ...],
    measured: list[Performance],
    console: Console,
) -> int:
    """Measure models, add them to `measured`, and return the exit code."""
    import torch

    from bench.perf.trial import as_step_measurement, trial

    workers = min(8, len(os.sched_getaffinity(0))) if device.type == "cuda" else 0
    code = 0
    with _progress(console, len(wanted)) as advance:
        try:
            for subject in wanted:
                name = f"{subject.run.backbone} × {subject.run.strategy}"
                advance(name)
                try:
                    one = trial(
                        subject,
                        device=device,
                        peaks=peaks,
                        used_paths=used_paths,
                        loader_workers=workers,
                        rounds=rounds,
                        busy_because=busy_because,
                    )
                except (BenchError, RegistryError, torch.OutOfMemoryError, RuntimeError) as error:
                    code = 1
                    console.print(f"{name}: not measured, {' '.join(str(error).split())[:200]}", **PLAIN)
                    continue
                measured.append(one)
                if not one.busy_because:
                    step_measurements.keep(subject.run, used_paths, as_step_measurement(subject, one))
        except KeyboardInterrupt:
            console.print(f"Stopped; {plural(len(measured), 'model')} of {len(wanted)} measured.", **PLAIN)
            return STOPPED
    return code


def _forecast(wanted: Sequence[Subject], peaks: Peaks, used_paths: frozenset[str], rounds: int) -> str:
    """Return how many models are measured and about how long that takes, as far as their FLOPs are known already."""
    known = [(subject, cost) for subject in wanted if (cost := flops.cached_step_cost(subject.run))]
    text = f"{plural(len(wanted), 'model')}"
    if not known:
        return f"{text}; their FLOPs are counted as well, which takes a while the first time."
    turns = 3 + rounds * (2 + len(used_paths))
    work = sum(turns * cost.train_flops * subject.images + 2 * rounds * cost.infer_flops for subject, cost in known)
    seconds = work * len(wanted) / len(known) / (peaks.flops_per_s * ASSUMED_SHARE)
    return f"{text}, about {duration(seconds)} in all"


def _show(measured: Sequence[Performance], console: Console) -> None:
    console.print(table.setting_line(measured), **PLAIN)
    console.print(table.terminal_table(measured, console.width))
    for one in measured:
        console.print(f"{one.backbone} × {one.strategy}: {one.sentence}", **PLAIN)
    for line in table.ratio_lines(measured):
        console.print(line, **PLAIN)
    notes = [
        "FLOPs, bytes: share of the time that the model's FLOPs take at the measured peak of matrix products, and the "
        "bytes that operations read and write at the measured speed of a copy (above 100 % where caches keep them).",
        f"bound by: {BOUND_RULE}",
        "× plain: time without any of the faster forms by the time with them, measured in turns in one process.",
    ]
    busy = dict.fromkeys(phrase for one in measured for phrase in one.busy_because)
    if busy:
        notes.append(f"‡ {' and '.join(busy)}: too long, not kept.")
    if not all(one.busy_because for one in measured):
        notes.append("`bench plan` uses these numbers for the same device, model and settings (basis: bench perf).")
    for note in notes:
        console.print(note, style="dim", **PLAIN)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    """Show a bar while models are measured, on a terminal; give a function that is called with each one's name."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, started = bar.add_task("", total=total), [0]

        def advance(name: str) -> None:
            bar.update(task, completed=started[0], description=name)
            started[0] += 1

        yield advance
