"""The page that `bench plan` prints: runs, job arrays, GPU-hours, memory and disk space of a plan."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import fast_paths
from bench.columns import Column, fitted_table
from bench.estimate import estimator, packing, summary
from bench.estimate.packing import JobArray
from bench.estimate.resources import Resources, kept_bytes
from bench.estimate.summary import BASIS_TITLES, CostLine, CostSummary
from bench.grid import Run
from bench.results.kept_files import DEFAULT_KEPT
from bench.results.record import RunRecord
from bench.slurm.profile import ClusterProfile
from bench.units import gibibytes, gigabytes, hours, plural
from registry.contract import Sample

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show(
    runs: Sequence[Run],
    *,
    done: frozenset[str],
    skipped: Iterable[tuple[Run, str]],
    samples: Sequence[Sample],
    n_images: int,
    profile: ClusterProfile,
    results: Path,
    console: Console,
    records: Iterable[RunRecord] = (),
    max_array_size: int = 1000,
    keep_predictions: int | None = DEFAULT_KEPT,
    used_paths: frozenset[str] = fast_paths.DEFAULT,
) -> CostSummary:
    """Print what a plan would cost, and return the sums; nothing is submitted or written.

    Args:
        runs: all planned runs, in the grid's order.
        done: ids of those with an ``ok`` record.
        skipped: impossible runs with the reason.
        samples: images of the dataset; empty if they are not downloaded yet.
        n_images: number of images of the dataset.
        profile: cluster profile.
        results: results folder, for the free space on its disk.
        console: where to print; 100 columns are enough.
        records: records so far, with measurements.
        max_array_size: largest number of jobs in one array.
        keep_predictions: number of first test images whose predictions each run keeps; None for all.
        used_paths: names of the faster forms that runs use (see `bench.fast_paths`).
    """
    pending = [run for run in runs if run.id not in done]
    resources = estimate_with_progress(
        pending, samples, profile=profile, console=console, records=records, n_images=n_images, used_paths=used_paths
    )
    arrays = packing.pack(pending, resources, profile, max_array_size)
    kept = kept_bytes(pending, n_images, keep_predictions)
    costs = summary.summarise(runs, done, resources, arrays, profile, kept)
    free = _free_bytes(results)
    console.print(_table(costs.lines, profile, console.width))
    console.print()
    console.print(_totals(costs, profile, free, results))
    reasons = dict.fromkeys(f"{run.backbone} × {run.strategy}: {reason}" for run, reason in skipped)
    notes = [("skipped", text) for text in reasons]
    notes += [("warning", text) for text in summary.warnings(costs, profile, free)]
    if notes:
        console.print()
        console.print(_titled_texts(notes, style="yellow"))
    console.print()
    console.print(_titled_texts(summary.basis_notes(costs.lines, profile)))
    return costs


def estimate_with_progress(
    runs: Sequence[Run],
    samples: Sequence[Sample],
    *,
    profile: ClusterProfile,
    console: Console,
    records: Iterable[RunRecord],
    n_images: int,
    used_paths: frozenset[str] = fast_paths.DEFAULT,
) -> dict[str, Resources]:
    """Return the resources of runs by their id (see `estimate_resources`); a status line shows what is counted."""
    status = console.status("")

    def show_progress(model: str, counted: int, total: int) -> None:
        status.update(f"counting FLOPs and memory of {model}, {counted + 1} of {total} (kept for later)")
        status.start()

    tiled = any(run.scale is not None for run in runs)
    try:
        return estimator.estimate_resources(
            runs,
            records=records,
            profile=profile,
            n_images=n_images,
            image_shape=_image_shape(samples[0]) if tiled and samples else None,
            progress=show_progress,
            used_paths=used_paths,
        )
    finally:
        status.stop()


def _table(lines: Sequence[CostLine], profile: ClusterProfile, width: int) -> Table:
    """Return a table with a row per line of costs; a narrow terminal loses columns, never letters of a name."""
    previous = ["", *(line.backbone for line in lines)]
    names = ["" if line.backbone == before else line.backbone for before, line in zip(previous, lines, strict=False)]
    cells = list(zip(*(_cells(line, profile) for line in lines), strict=True)) or [()] * 5
    gpu_hours, duration, memory, batch, basis = (list(column) for column in cells)
    return fitted_table(
        [
            Column("backbone", names, right=False),
            Column("strategy", [line.strategy for line in lines], right=False),
            Column("settings", [line.settings for line in lines], right=False, cut=True),
            Column("to do", [str(line.pending) for line in lines]),
            Column("done", [str(line.done) for line in lines], drop=2),
            Column("≈ GPU-hours", gpu_hours),
            Column("≈ a run", duration),
            Column("≈ GPU memory", memory, drop=1),
            Column("batch", batch, drop=4),
            Column("basis", basis, drop=3, right=False),
        ],
        width,
    )


def _cells(line: CostLine, profile: ClusterProfile) -> tuple[str, str, str, str, str]:
    """Return GPU-hours, time and memory of a run, batch and basis; ? means unknown, – not applicable."""
    resources = line.resources
    if resources is None:
        return ("–", "–", "–", "–", "done")
    gpu_hours = "?" if line.gpu_hours is None else f"{line.gpu_hours:.1f}" if line.gpu_hours >= 0.05 else "< 0.1"
    memory = "?" if resources.gpu_memory_bytes is None else gibibytes(resources.gpu_memory_bytes)
    if not profile.gpus or resources.gpu_memory_bytes == 0:
        gpu_hours = memory = "–"
    duration = "?" if resources.minutes is None else hours(resources.minutes / 60)
    return (gpu_hours, duration, memory, _batch(line), BASIS_TITLES[resources.basis])


def _batch(line: CostLine) -> str:
    """Return the batch size, or the micro-batch and the batch size if they differ; ↻: see `basis_notes`."""
    micro = line.resources.micro_batch if line.resources else None
    if micro is None or line.batch_size is None:
        return "–"
    text = f"{micro} of {line.batch_size}" if summary.is_batch_split(line) else str(micro)
    return f"{text} ↻" if line.resources and line.resources.is_recomputed else text


def _totals(costs: CostSummary, profile: ClusterProfile, free: int | None, results: Path) -> Table:
    n_jobs = sum(len(array.jobs) for array in costs.arrays)
    pending, done = sum(line.pending for line in costs.lines), sum(line.done for line in costs.lines)
    others = f", and {plural(costs.unknown, 'run')} of unknown" if costs.unknown else ""
    unknown_length, unknown_size = (f"{others} length", f"{others} size") if others else ("", "")
    rows = [("runs", f"{pending} to do, {done} done; {plural(n_jobs, 'job')} in {plural(len(costs.arrays), 'array')}")]
    rows += [("" if i else "arrays", _array(array, profile)) for i, array in enumerate(costs.arrays)]
    if profile.gpus:
        rows.append(("GPU-hours", f"≈ {costs.gpu_hours:.0f} in all{unknown_length}"))
    if costs.tuning:
        rows.append(("tuning", costs.tuning))
    parallel = plural(min(profile.array_parallelism, n_jobs), "GPU" if profile.gpus else "job")
    wall_clock = (
        f"≈ {hours(costs.wall_hours)} if {parallel} at once (array_parallelism) are free throughout{unknown_length}"
    )
    free_space = "" if free is None else f"; {gigabytes(free)} are free at {results}"
    disk = (
        f"≈ {gigabytes(costs.disk_bytes)} to stay, ≈ {gigabytes(costs.state_bytes)} more while jobs run, for the "
        f"states of training{unknown_size}{free_space}"
    )
    rows += [("wall-clock", wall_clock), ("disk", disk)]
    if costs.cache_bytes:
        rows.append(("embeddings", f"≈ {gigabytes(costs.cache_bytes)} in the cache, which has {_cache_limit()}"))
    return _titled_texts(rows)


def _cache_limit() -> str:
    from bench.cache import store

    return f"a limit of {gigabytes(store.limit_bytes())} ({store.LIMIT}); what does not fit is computed again"


def _array(array: JobArray, profile: ClusterProfile) -> str:
    largest = max(len(job) for job in array.jobs)
    runs = "1 run each" if largest == 1 else f"up to {largest} runs each"
    shared = ""
    if array.runs_at_once > 1:
        shared = f", {array.runs_at_once} at once" + (" on its GPU" if profile.gpus else "")
    return f"{plural(len(array.jobs), 'job')} of at most {hours(array.time_limit_min / 60)}, {runs}{shared}"


def _titled_texts(rows: Sequence[tuple[str, str]], style: str = "bold") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in rows:
        table.add_row(Text(title, style=style), Text(text))
    return table


def _free_bytes(results: Path) -> int | None:
    for folder in (results.absolute(), *results.absolute().parents):
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return None


def _image_shape(sample: Sample) -> tuple[int, int] | None:
    """Return (h, w) from an image's header; None if it can't be read or is too large, which the run reports."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(sample.image_path) as image:
                return image.height, image.width
    except (OSError, Image.DecompressionBombError):
        return None
