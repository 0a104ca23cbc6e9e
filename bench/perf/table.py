"""Table of measured models, and the files it is written to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.columns import Column, fitted_table
from bench.errors import BenchError
from bench.perf.performance import PARTS, Performance
from bench.units import gigabytes, plural
from registry import atomic

if TYPE_CHECKING:
    from rich.table import Table

ENDINGS = (".json", ".csv", ".md")
TITLES = (
    "backbone",
    "strategy",
    "ms/step",
    *PARTS,
    "images/s",
    "ms/prediction",
    "FLOPs",
    "bytes",
    "memory",
    "× plain",
    "bound by",
)
"""Titles of the columns: the parts of a step are shares of it, FLOPs and bytes shares of the time at measured peaks."""
DROPS = {"× plain": 1, "FLOPs": 2, "bound by": 3, "bytes": 4, "memory": 5, "ms/prediction": 6}
DROPS |= {part: 7 + number for number, part in enumerate(PARTS)}


def rows(measured: Sequence[Performance]) -> list[tuple[str, ...]]:
    """Return the cells of each model, by `TITLES`; – is not applicable, ? unknown."""
    return [_cells(one) for one in measured]


def terminal_table(measured: Sequence[Performance], width: int) -> Table:
    """Return the table for a terminal; a narrow one loses columns, those of the parts first."""
    columns = [
        Column(title, list(cells), drop=DROPS.get(title, 0), right=title not in ("backbone", "strategy", "bound by"))
        for title, cells in zip(TITLES, zip(*rows(measured), strict=True), strict=True)
    ]
    return fitted_table(columns, width)


def ratio_lines(measured: Sequence[Performance]) -> list[str]:
    """Return a line per model with the time of its plain forms as a ratio to the time of the fast ones."""
    lines = []
    for one in measured:
        kinds = {"a prediction": one.prediction_ratios}
        if one.step:
            kinds = {"a step": one.ratios, **kinds}
        texts = [
            f"{kind} without {', '.join(f'{name} {ratio:.2f} ×' for name, ratio in sorted(ratios.items()))}"
            for kind, ratios in kinds.items()
            if ratios
        ]
        if texts:
            lines.append(f"{one.backbone} × {one.strategy}: {'; '.join(texts)}")
    return lines


def write(path: Path, measured: Sequence[Performance]) -> None:
    """Write the numbers (.json) or the table (.csv, .md).

    Raises:
        BenchError: another ending.
        OSError: the file can't be written.
    """
    check_ending(path)
    if path.suffix == ".json":
        text = json.dumps([one.as_dict() for one in measured], indent=1, ensure_ascii=False) + "\n"
    elif path.suffix == ".csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([TITLES, *rows(measured)])
        text = file.getvalue()
    else:
        lines = [TITLES, tuple("---" if t in ("backbone", "strategy", "bound by") else "---:" for t in TITLES)]
        text = "".join(f"| {' | '.join(line)} |\n" for line in [*lines, *rows(measured)])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)


def check_ending(path: Path) -> None:
    """Raise `BenchError` for a file that has none of `ENDINGS`."""
    if path.suffix not in ENDINGS:
        raise BenchError(f"{path}: allowed endings are {', '.join(ENDINGS)}; name another file.")


def setting_line(measured: Sequence[Performance]) -> str:
    """Return the device, its peaks, and the settings of the first model."""
    first = measured[0]
    images = f", {plural(first.images, 'image')} a step" if first.step else ""
    return (
        f"{first.device}: {first.peak_flops_per_s / 1e12:.3g} TFLOP/s in {first.dtype} and "
        f"{first.copy_bytes_per_s / 1e9:.3g} GB/s, measured; {first.settings['image_size']} px{images}, "
        f"embeddings {first.settings['embeddings']}, with {', '.join(first.fast_paths) or 'no fast path'}"
    )


def _cells(one: Performance) -> tuple[str, ...]:
    step = one.step
    parts = [f"{100 * step[part] / one.seconds:.0f} %" if step else "–" for part in PARTS]
    mark = "‡" if one.busy_because else ""
    plain = one.ratios.get("all")
    return (
        one.backbone,
        one.strategy,
        f"{1000 * one.seconds:.0f}{mark}" if step else "–",
        *parts,
        f"{one.images_per_s:.3g}{mark}",
        f"{1000 * one.predict_s:.0f}{mark}",
        f"{100 * one.utilisation:.0f} %",
        f"{100 * one.bandwidth_share:.0f} %",
        "?" if one.peak_bytes is None else gigabytes(one.peak_bytes),
        "–" if plain is None else f"{plain:.2f}",
        one.bound,
    )
