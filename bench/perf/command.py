"""`bench perf`: measure models on this machine, show what bounds them, and keep the numbers for `bench plan`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import PLAIN, progress_bar
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
    from bench.training import load, precision

    for path in outputs:
        table.check_ending(path)
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda: there is no GPU that can be used here; give --device cpu, or none.")
    chosen = torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
    plugin_files.load(plugins)
    wanted = subjects(backbone, strategy, assignments=assignments, device=chosen, images=images)
    phrases = load.check_quiet(chosen, "Times measured", force=force, say=partial(console.print, **PLAIN))
    dtype = getattr(torch, precision.name(partial(precision.autocast, chosen), chosen))
    peaks = measure_peaks(chosen, dtype)
    if len(wanted) > 1:
        console.print(_forecast(wanted, peaks, used_paths, rounds), **PLAIN)
    measured: list[Performance] = []
    code = _measure_all(wanted, chosen, peaks, used_paths, rounds, phrases, measured, console)
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
    from bench.training.load import n_cores

    workers = min(8, n_cores()) if device.type == "cuda" else 0
    code = 0
    with progress_bar(console, len(wanted)) as advance:
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
