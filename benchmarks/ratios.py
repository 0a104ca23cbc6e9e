"""Ratios that benchmarks measured, with their targets: reported one by one, shown together at the end of a session.

A benchmark measures, calls `report` and asserts nothing about time; `make bench` prints the table and writes the same
as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Ratio:
    """One measured number. `target` is None where it is shown without being judged.

    Attributes:
        name: what was measured, in a few words; the same number never under two names.
        value: in `unit`; None where it was not measured, with the reason in `detail`.
        target: the least (`better` "higher") or greatest ("lower") value aimed at.
        unit: ``×`` for a ratio, else s, MB, ….
        better: direction of improvement.
        detail: what stood on both sides of the ratio, threads, sizes.
    """

    name: str
    value: float | None
    target: float | None
    unit: str = "×"
    better: Literal["higher", "lower"] = "higher"
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target or a value."""
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


_REPORTED: list[Ratio] = []


def report(
    name: str,
    value: float | None,
    target: float | None,
    unit: str = "×",
    better: Literal["higher", "lower"] = "higher",
    detail: str = "",
) -> None:
    """Add a number to the table of this session; see `Ratio`.

    Raises:
        ValueError: an unknown direction.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f'better="{better}": allowed are "higher" and "lower".')
    _REPORTED.append(Ratio(name, None if value is None else float(value), target, unit, better, detail))


def reported() -> tuple[Ratio, ...]:
    """All ratios of this session, in the order in which they were measured."""
    return tuple(_REPORTED)


def best_seconds(
    *calls: Callable[[], Any], rounds: int = 3, warm_up: bool = True, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the best time of each call, measured in turns (A B A B …), so that other load meets all of them.

    Args:
        calls: what is compared.
        rounds: measurements of each.
        warm_up: call each once before.
        clock: gives seconds; of wall time, or of this process with `time.process_time`.
    """
    if warm_up:
        for call in calls:
            call()
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for number, call in enumerate(calls):
            start = clock()
            call()
            best[number] = min(best[number], clock() - start)
    return best


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, versions, accelerator."""
    import torch

    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "pandas")},
        "load_average": os.getloadavg()[0],
    }


def write(path: Path, ratios: Sequence[Ratio], broken: Sequence[str]) -> None:
    """Write machine, ratios (with `met`) and the names of benchmarks that broke as JSON."""
    values = {
        "machine": machine(),
        "ratios": [{**asdict(one), "met": one.met} for one in ratios],
        "broken": list(broken),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(ratios: Sequence[Ratio], broken: Sequence[str], console: Console) -> None:
    """Print the table; the last line names the targets that were missed."""
    facts = machine()
    console.print(
        f"{facts['processor']}, {facts['cores']} cores, torch {facts['versions']['torch']} with"
        f" {facts['torch_threads']} threads, {facts['gpu'] or 'no GPU'}, load average {facts['load_average']:.1f}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Measured")
    table.add_column("Value", justify="right", no_wrap=True)
    table.add_column("Target", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("Of what")
    marks = {True: "met", False: "MISSED", None: ""}
    for one in ratios:
        aim = "" if one.target is None else f"{'≥' if one.better == 'higher' else '≤'} {_number(one.target, one.unit)}"
        cells = (one.name, _value(one), aim, marks[one.met], one.detail)
        table.add_row(*(Text(cell) for cell in cells), style=None if one.met is not False else "bold")
    console.print(table)
    for name in broken:
        console.print(Text(f"Broken: {name}"))
    unmeasured = [one.name for one in ratios if one.value is None]
    if unmeasured:
        console.print(Text(f"Not measured here: {'; '.join(unmeasured)}."))
    aims = [one for one in ratios if one.target is not None and one.value is not None]
    missed = [one.name for one in aims if not one.met]
    met = f"{len(aims) - len(missed)} of {len(aims)} targets met"
    console.print(Text(f"{met}. Missed: {'; '.join(missed)}." if missed else f"{met}; none missed."))


def _value(one: Ratio) -> str:
    return "not measured" if one.value is None else _number(one.value, one.unit)


def _number(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
