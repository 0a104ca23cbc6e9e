"""Costs that scores are drawn against: their columns, units and names, and where they were measured."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.report.fold_stats import BETWEEN


@dataclass(frozen=True)
class Cost:
    """A cost of the rows of a leaderboard.

    Attributes:
        column: of `bench.report.frame.leaderboard_frame`.
        factor: from the column's unit to that of the axis.
        title: its name.
        unit: of the axis; empty for a number.
        device: column with the device on which it was measured; empty for what is counted.
        per_run: the column is a sum over the runs of a row, and the axis shows a run's.
    """

    column: str
    factor: float
    title: str
    unit: str = ""
    device: str = ""
    per_run: bool = False

    @property
    def label(self) -> str:
        """Name of the axis, with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


COSTS = {
    "parameters": Cost("parameters_trainable_encoder", 1.0, "trainable parameters of the encoder"),
    "total": Cost("parameters_trainable", 1.0, "trainable parameters in all"),
    "latency": Cost("latency_ms", 1.0, "latency", "ms", "latency_device"),
    "memory": Cost("peak_bytes", 2.0**-30, "peak memory", "GiB", "device_name"),
    "gpu-hours": Cost("gpu_seconds", 1 / 3600, "GPU-hours per run", device="device_name", per_run=True),
}


def cost_values(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return a cost of each row in the unit of the axis; NaN where it is unknown.

    GPU-hours are those of one run: a sum would make a row dearer for every fold and seed that it was repeated with.

    Args:
        rows: of a leaderboard.
        name: one of `COSTS`.
    """
    cost = COSTS[name]
    values = pd.to_numeric(rows[cost.column], errors="coerce") * cost.factor
    return values / rows["n_ok"].where(rows["n_ok"] > 0) if cost.per_run else values


def devices(rows: pd.DataFrame, name: str) -> list[str]:
    """Return the devices on which a cost of these rows was measured; none for what is counted or unknown."""
    column = COSTS[name].device
    if not column or column not in rows:
        return []
    return sorted({device for text in rows[column] for device in str(text).split(BETWEEN)} - {""})


def device_notes(rows: pd.DataFrame, name: str) -> list[str]:
    """Return a sentence on the devices on which a cost was measured, with a warning where there are several."""
    known = devices(rows, name)
    if len(known) < 2:
        return [f"Measured on {device}." for device in known]
    listed = f"{', '.join(known[:-1])} and {known[-1]}"
    return [f"Measured on {listed}: compare points of one device only; the front mixes them."]


def unknown_load_notes(rows: pd.DataFrame) -> list[str]:
    """Return a sentence on the rows of which it is unknown whether the machine was busy when latency was measured."""
    unknown = int(rows["latency_busy"].isna().sum()) if "latency_busy" in rows else len(rows)
    if not unknown:
        return []
    return [
        f"Whether the machine was busy is unknown for {unknown} of {len(rows)} rows; the front takes them as measured "
        "on a quiet one."
    ]
