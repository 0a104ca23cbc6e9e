"""Files of the tuning of encoder rates: a result per trial, which runs share, and the choice in each run's folder.

Trials have folders of their own below ``tuning/`` of a results folder, as runs have: ``tuning/runs/<id>/`` with lock,
training state, history and ``trial.json``. No trial has a ``record.json``: it was never tested, and is in no table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from registry import atomic

FOLDER, FILENAME, TRIAL_FILENAME = "tuning", "tuning.json", "trial.json"
SCORES = ("pq", "aji", "dice")


@dataclass(frozen=True)
class TrialResult:
    """Result of one short training.

    Attributes:
        encoder_lr: the rate that was tried.
        status: ``ok`` or ``diverged``, which counts as tried.
        pq, aji, dice: means over the inner validation images, under the post-processing that was chosen on them; None
            where the training diverged.
        seconds: that it held its device, of all attempts; None where other runs shared the device.
        gpu_seconds: that it used a GPU (see `bench.training.measure.gpu_seconds`); None on a CPU.
        reason: one line for a trial that diverged.
        device: ``cpu`` or ``cuda``.
    """

    encoder_lr: float
    status: Literal["ok", "diverged"]
    pq: float | None = None
    aji: float | None = None
    dice: float | None = None
    seconds: float | None = None
    gpu_seconds: float | None = None
    reason: str | None = None
    device: str | None = None


def trials_folder(results: Path) -> Path:
    """Return the folder that takes the place of a results folder for trials."""
    return results / FOLDER


def write_trial(folder: Path, result: TrialResult) -> None:
    """Write ``trial.json`` to the folder of a trial: whole, or not at all."""
    atomic.write_text(folder / TRIAL_FILENAME, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_trial(folder: Path) -> TrialResult | None:
    """Return the result of a trial; None where there is none, or none that can be read: then it is trained anew."""
    values = _read(folder / TRIAL_FILENAME)
    try:
        return TrialResult(**values) if values is not None else None
    except TypeError:
        return None


def best(results: Sequence[TrialResult], centre: float) -> TrialResult | None:
    """Return the result of best PQ, then AJI, then Dice; of equal ones, that nearest to the centre, then the smaller.

    Args:
        results: of all trials of a tuning.
        centre: rate that the run would take otherwise.

    Returns:
        None where every trial diverged.
    """
    valid = [result for result in results if result.status == "ok"]

    def key(result: TrialResult) -> tuple[float, ...]:
        scores = (getattr(result, name) or 0.0 for name in SCORES)
        apart = max(result.encoder_lr, centre) / min(result.encoder_lr, centre)
        return (*scores, -round(apart, 2), -result.encoder_lr)

    return max(valid, key=key, default=None)


def write(folder: Path, block: Mapping[str, Any]) -> None:
    """Write the choice of a run to its folder, so that it is kept whatever becomes of the trials."""
    atomic.write_text(folder / FILENAME, json.dumps(block, indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """Return the choice of a run, the block ``tuning`` of its record; None before it is made."""
    return _read(folder / FILENAME)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
