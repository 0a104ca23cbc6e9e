"""`bench plan`: runs, arrays, GPU-hours, memory and disk before anything is submitted, and what they rest on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import units
from bench.columns import Column, fitted_table
from bench.estimate import estimator, packing, summary
from bench.estimate.estimator import POSTPROCESSING_S
from bench.estimate.packing import JobArray
from bench.estimate.resources import COUNTED_FACTOR, MEASURED_FACTOR, Resources
from bench.estimate.summary import CostLine, CostSummary
from bench.results.record import RunRecord
from bench.slurm.profile import ClusterProfile
from bench.units import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.grid import Run
    from bench.submission.prepare import Prepared
    from registry.contract import Sample


def show(
    prepared: Prepared,
    profile: ClusterProfile,
    results: Path,
    console: Console,
    *,
    records: Iterable[RunRecord] = (),
    max_array_size: int = 1000,
) -> CostSummary:
    """Print what a plan would cost; nothing is submitted or written.

    Args:
        prepared: the plan with its inputs.
        profile: the cluster's.
        results: the results folder, for the room on its disk.
        console: where to print; 100 columns are enough.
        records: what was measured so far.
        max_array_size: largest number of jobs in one array.

    Returns:
        The sums that were printed.
    """
    pending = prepared.pending
    needs = estimate_with_progress(
        pending, prepared.samples, profile=profile, console=console, records=records, n_images=prepared.n_images
    )
    arranged = packing.pack(pending, needs, profile, max_array_size)
    done = frozenset(run.id for run in prepared.done)
    sums = summary.summarise(prepared.plan.runs, done, needs, arranged, profile)
    free = _free_bytes(results)
    console.print(_table(sums.lines, profile, console.width))
    console.print()
    console.print(_facts(sums, profile, free, results))
    reasons = dict.fromkeys(f"{run.backbone} × {run.strategy}: {why}" for run, why in prepared.plan.skipped)
    notes = [("skipped", text) for text in reasons]
    notes += [("warning", text) for text in summary.warnings(sums, profile, free)]
    if notes:
        console.print()
        console.print(_pairs(notes, style="yellow"))
    console.print()
    console.print(_pairs(_bases(sums.lines, profile)))
    return sums


def estimate_with_progress(
    runs: Sequence[Run],
    samples: Sequence[Sample],
    *,
    profile: ClusterProfile,
    console: Console,
    records: Iterable[RunRecord],
    n_images: int,
) -> dict[str, Resources]:
    """Needs of runs by their id; shows what is being counted while that takes its time (see `estimate.needs`)."""
    tiled = any(run.scale is not None for run in runs)
    with ExitStack() as shown:
        status = None

        def tell(what: str, done: int, total: int) -> None:
            nonlocal status
            text = f"counting FLOPs and memory of {what}, {done + 1} of {total}; once, then it is remembered"
            if status is None:
                status = shown.enter_context(console.status(text))
            status.update(text)

        return estimator.estimate_resources(
            runs,
            records=records,
            profile=profile,
            n_images=n_images,
            image_shape=_shape(samples[0]) if tiled and samples else None,
            progress=tell,
        )


def _table(lines: Sequence[CostLine], profile: ClusterProfile, width: int) -> Table:
    """A row per backbone and strategy; a narrow terminal loses columns, never letters of a name."""
    before = ["", *(line.backbone for line in lines)]
    names = ["" if line.backbone == last else line.backbone for last, line in zip(before, lines, strict=False)]
    cells = list(zip(*(_cells(line, profile) for line in lines), strict=True)) or [()] * 5
    hours, minutes, memory, batch, basis = (list(column) for column in cells)
    return fitted_table(
        [
            Column("backbone", names, right=False),
            Column("strategy", [line.strategy for line in lines], right=False),
            Column("to do", [str(line.todo) for line in lines]),
            Column("done", [str(line.done) for line in lines], drop=2),
            Column("≈ GPU-hours", hours),
            Column("≈ a run", minutes),
            Column("≈ GPU memory", memory, drop=1),
            Column("batch", batch, drop=4),
            Column("basis", basis, drop=3, right=False),
        ],
        width,
    )


def _cells(line: CostLine, profile: ClusterProfile) -> tuple[str, ...]:
    """GPU-hours, time and memory of a run, batch and basis; ? is unknown, – does not apply."""
    need = line.need
    if need is None:
        return ("–", "–", "–", "–", "done")
    gpu_hours = "?" if line.gpu_hours is None else f"{line.gpu_hours:.1f}" if line.gpu_hours >= 0.05 else "< 0.1"
    memory = "?" if need.gpu_memory_bytes is None else f"{need.gpu_memory_bytes / 2**30:.1f} GiB"
    if not profile.gpus or need.gpu_memory_bytes == 0:
        gpu_hours = memory = "–"
    minutes = "?" if need.minutes is None else units.hours(need.minutes / 60)
    return (gpu_hours, minutes, memory, _batch(line), need.kind)


def _batch(line: CostLine) -> str:
    """The micro-batch, and of what batch, where they differ."""
    micro = line.need.micro_batch if line.need else None
    if micro is None or line.batch_size is None:
        return "–"
    return str(micro) if micro >= line.batch_size else f"{micro} of {line.batch_size}"


def _facts(sums: CostSummary, profile: ClusterProfile, free: int | None, results: Path) -> Table:
    jobs = sum(len(array.jobs) for array in sums.arrays)
    todo, done = sum(line.todo for line in sums.lines), sum(line.done for line in sums.lines)
    unit = "GPU-hours" if profile.gpus else "hours"
    but = f", and {sums.unknown} runs of unknown length" if sums.unknown else ""
    facts = [("runs", f"{todo} to do, {done} done; {plural(jobs, 'job')} in {plural(len(sums.arrays), 'array')}")]
    facts += [("" if i else "arrays", _array(array)) for i, array in enumerate(sums.arrays)]
    if profile.gpus:
        facts.append((unit, f"≈ {sums.gpu_hours:.0f} in all{but}"))
    places = f"{min(profile.array_parallelism, jobs)} {'GPUs' if profile.gpus else 'jobs'}"
    facts.append(
        (
            "wall-clock",
            f"≈ {units.hours(sums.wall_hours)} if {places} at once (array_parallelism) are free throughout{but}",
        )
    )
    room = "" if free is None else f"; {units.gigabytes(free)} are free at {results}"
    facts.append(
        (
            "disk",
            f"≈ {units.gigabytes(sums.disk_bytes)} to stay, ≈ {units.gigabytes(sums.state_bytes)} more while jobs run, "
            f"for the states of training{room}",
        )
    )
    return _pairs(facts)


def _array(array: JobArray) -> str:
    largest = max(len(job) for job in array.jobs)
    each = "1 run each" if largest == 1 else f"up to {largest} runs each"
    shared = f", {array.runs_at_once} at once on its GPU" if array.runs_at_once > 1 else ""
    return f"{plural(len(array.jobs), 'job')} of at most {units.hours(array.time_limit_min / 60)}, {each}{shared}"


def _bases(lines: Sequence[CostLine], profile: ClusterProfile) -> list[tuple[str, str]]:
    """What each kind of basis means, for those that occur."""
    needs = [line.need for line in lines if line.need]
    told: dict[str, str] = {}
    for basis in dict.fromkeys(need.basis for need in needs if need.kind in ("measured", "scaled", "unknown")):
        kind, _, text = basis.partition(": ")
        told[kind] = f"{told[kind]}; {text}" if kind in told else text
    for kind in ("measured", "scaled"):
        if kind in told:
            told[kind] += f". Time limits grant {MEASURED_FACTOR:g} × that."
    if any(need.kind == "FLOPs" for need in needs):
        told["FLOPs"] = (
            f"forward and backward of one image were counted under each strategy, without computing them; times "
            f"images and epochs, at {profile.utilisation * 100:.0f} % of the {profile.gpu_tflops:.0f} TFLOP/s that "
            f"the profile states. Post-processing adds {POSTPROCESSING_S * 1000:.0f} ms for each image validated or "
            "tested. Reading images is not in it, which small models may have to wait for; nor is early stopping, "
            f"which shortens runs. Time limits grant {COUNTED_FACTOR:g} × that."
        )
    if any(line.need and line.need.micro_batch and (line.batch_size or 0) > line.need.micro_batch for line in lines):
        told["batch"] = (
            f"the largest micro-batch that fits {profile.gpu_memory_gb} GiB; training halves it by itself, and an "
            "optimiser step sees the whole batch all the same."
        )
    return list(told.items())


def _pairs(pairs: Sequence[tuple[str, str]], style: str = "bold") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(Text(name, style=style), Text(text))
    return table


def _free_bytes(results: Path) -> int | None:
    for folder in (results.absolute(), *results.absolute().parents):
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return None


def _shape(sample: Sample) -> tuple[int, int] | None:
    """(h, w) of an image, from its header; None if it can't be read, which the run will say."""
    from PIL import Image

    try:
        with Image.open(sample.image_path) as image:
            return image.height, image.width
    except OSError:
        return None
