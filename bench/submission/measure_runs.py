"""`bench measure`: take the latencies of runs that are done again, on this machine, when it is quiet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import PLAIN, command, progress_bar
from bench.errors import BenchError, RecordError
from bench.grid import CLASSICAL
from bench.planning import plugins
from bench.results import plans, record
from bench.results.measurement import LATENCIES
from bench.results.plans import SavedPlan
from bench.results.record import RunRecord
from bench.status import run_names
from bench.submission.results_folder import check_writable
from bench.units import plural
from bench.worker.settings import WorkerSettings
from registry.errors import RegistryError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Places:
    """Places that take precedence over those of the plan that a run is of.

    Attributes:
        data: the dataset's folder; None takes the plan's, or the one that the record names.
        weights: folder of the official checkpoints; None takes the plan's, or the cache.
        plugins: files and folders that register names which the runs use, beside those of the plan.
    """

    data: Path | None = None
    weights: Path | None = None
    plugins: tuple[Path, ...] = ()


def measure_runs(
    results: Path, names: Sequence[str], *, everything: bool, places: Places, device: str, force: bool, console: Console
) -> int:
    """Measure runs again, one after the other, and print a line for each.

    Args:
        results: the results folder.
        names: as `bench.status.run_names.find` takes them.
        everything: all runs that are done.
        places: of images, checkpoints and plug-ins.
        device: ``auto``, ``cpu`` or ``cuda``.
        force: also on a machine that is busy.
        console: to print on.

    Returns:
        The exit code: 0 if every run that is done was measured; 1 if a run was not measured that is done or has a
        damaged record, or that was named.

    Raises:
        BenchError: neither names nor `everything`, unknown names, no run that is done, a folder that can't be written
            to, no GPU where one is wanted, or a busy machine without `force`.
    """
    import torch

    from bench.training import load

    if not names and not everything:
        raise BenchError("nothing is measured: name runs (their ids, or BACKBONE/STRATEGY/FOLD), or pass --all.")
    check_writable(results)
    done, left_out, damaged = _done(results, names)
    for sentence in (*left_out, *damaged):
        _print(console, sentence)
    if not done:
        raise BenchError(f"no run in {results} that is done was named; `{command('status', results)}` shows them.")
    planned = {run.id: plan for plan in plans.read_all(results) for run in plan.runs}
    plugins.load(tuple(dict.fromkeys([*places.plugins, *_plugins(planned, done)])))
    chosen = _device(device)
    load.check_quiet(torch.device(chosen), "Latencies taken", force=force, say=partial(_print, console))
    failed = _measure_all(results, done, planned, places, chosen, device == "auto", console)
    _print(console, f"Measured {plural(len(done) - failed, 'run')}; `{command('table', results)}` shows the latencies.")
    return int(bool(failed or damaged or (names and left_out)))


def _done(results: Path, names: Sequence[str]) -> tuple[list[RunRecord], list[str], list[str]]:
    """Return the records of runs that are done, and sentences: for each run that is not, for each damaged record."""
    ids = [run_names.find(results, name) for name in names] or sorted(record.folders(results))
    done, left_out, damaged = [], [], []
    for run_id in dict.fromkeys(ids):
        try:
            stored = record.read(results, run_id, history=False)
        except RecordError as error:
            damaged.append(f"{run_id}: not measured, {error}")
            continue
        if stored is not None and stored.status == "ok":
            done.append(stored)
        else:
            state = f"{stored.status}: {stored.reason or 'no reason recorded'}" if stored else "it has no record"
            left_out.append(f"{_name(run_id, stored)}: not measured, because it is not done ({state}).")
    return sorted(done, key=_order), left_out, damaged


def _order(done: RunRecord) -> tuple[Any, ...]:
    return done.run["backbone"], done.run["strategy"], done.run["fold"], done.id


def _name(run_id: str, stored: RunRecord | None) -> str:
    run: Mapping[str, Any] = {} if stored is None else stored.run
    return f"{run_id} ({run['backbone']}/{run['strategy']}/{run['fold']})" if run else run_id


def _plugins(planned: Mapping[str, SavedPlan], done: Sequence[RunRecord]) -> Iterator[Path]:
    for stored in done:
        if stored.id in planned:
            yield from planned[stored.id].plugins


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda: there is no GPU that can be used here; give --device cpu, or none.")
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _measure_all(
    results: Path,
    done: Sequence[RunRecord],
    planned: Mapping[str, SavedPlan],
    places: Places,
    device: str,
    is_automatic: bool,
    console: Console,
) -> int:
    """Measure runs; return the number of those that could not be."""
    from bench.worker.measure_again import SampleLists, measure_again

    samples, failed = SampleLists({}), 0
    with progress_bar(console, len(done)) as advance:
        for stored in done:
            advance(_name(stored.id, stored))
            try:
                if is_automatic:
                    _check_same_device(stored, device)
                settings = _settings(results, stored, planned.get(stored.id), places, device)
                renewed = measure_again(stored.id, settings, samples)
            except (BenchError, RegistryError, OSError, RuntimeError) as error:  # of PyTorch: out of memory
                failed += 1
                text = " ".join(str(error).split())
                _print(console, f"{_name(stored.id, stored)}: not measured, {text}")
            else:
                _print(console, f"{_name(stored.id, stored)}: {_comparison(stored.cost or {}, renewed.cost or {})}")
    return failed


def _check_same_device(done: RunRecord, device: str) -> None:
    """Refuse to put latencies of one kind of device beside memory and hours of the other, unless that is wanted.

    The classical pipeline runs on the CPU wherever it is measured.
    """
    gpu = (done.provenance or {}).get("gpu")  # of a run on the CPU too, where there was one
    used = str((done.cost or {}).get("device") or ("cuda" if gpu else "")).partition(":")[0]
    if not used or used == device or done.run["backbone"] == CLASSICAL:
        return
    if device == "cpu":
        where = gpu or "a GPU"
        raise BenchError(f"its other costs were measured on {where}, and there is no GPU here; --device cpu insists.")
    raise BenchError(
        "its other costs were measured on the CPU, and there is a GPU here; --device cpu measures on the CPU again, "
        "--device cuda insists on the GPU."
    )


def _settings(results: Path, done: RunRecord, plan: SavedPlan | None, places: Places, device: str) -> WorkerSettings:
    root = ((done.provenance or {}).get("dataset") or {}).get("root")
    data = places.data or (plan.data if plan else None) or (Path(root) if root else None)
    if data is None:
        raise BenchError("nothing tells where its images are; give --data DIR.")
    weights = places.weights or (plan.weights if plan else None)
    used = tuple(dict.fromkeys([*places.plugins, *(plan.plugins if plan else ())]))
    used_device = "cpu" if done.run["backbone"] == CLASSICAL else device
    return WorkerSettings(results=results, data=data, weights=weights, device=used_device, plugins=used)


def _comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the latency before and after, and why it is marked."""
    old, new = _total(before), _total(after)
    text = f"{new:.1f} ms" if new is not None else "no latency"
    text += f", before {old:.1f} ms" if old is not None else ", not measured before"
    reasons = after.get("latency_busy_because")
    return text + (f"; marked: {' and '.join(reasons)}" if reasons else "") + "."


def _total(cost: Mapping[str, Any]) -> float | None:
    known = [cost[name] for name in LATENCIES if name in cost]
    return None if not known or None in known else sum(latency["median"] for latency in known)


def _print(console: Console, text: str) -> None:
    console.print(text, **PLAIN)
