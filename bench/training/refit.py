"""Second training of a run with ``train.refit``: on training and validation images, for the epochs that were chosen.

It starts anew from the same seed. Its learning rates are those of the whole schedule, cut off after the chosen epoch:
that epoch was validated under these rates. A schedule compressed to the chosen epochs was refused, because nothing was
measured of it; where the last epoch is chosen, both are the same. No image is left to validate on, so the last
parameters are kept (with ``train.ema``, their averages), and post-processing is that of the first training.

The file of the state belongs to one of both trainings. That of the second one holds what the first one led to, so that
an interrupted run continues in the training that it was in, and repeats nothing of the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.grid import Run
from bench.results.history import FIRST_TRAINING
from bench.results.record import folder
from bench.training import checkpoint
from bench.training.split import Split

STATE = "state.pt"
PHASE = "training again"
"""Name of the second training among the phases of a run's progress."""
REFITTED = {"train_seconds": "refit_seconds", "train_steps": "refit_steps"}
"""Names that costs of the second training have in the record."""


@dataclass(frozen=True)
class Choice:
    """What the first training of a run led to, in plain values.

    Attributes:
        epoch: after which its checkpoint was taken.
        scores: block ``scores`` of the record, as far as it comes from the validation images.
        cost: block ``cost`` of the record so far.
        history: its epochs.
    """

    epoch: int
    scores: Mapping[str, Any]
    cost: Mapping[str, Any]
    history: list[dict[str, Any]]

    @classmethod
    def of(
        cls, scores: Mapping[str, Any], cost: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, epoch: int
    ) -> Choice:
        """Return a choice without the number types of NumPy, which a saved state can't hold."""
        known = [{name: value for name, value in row.items() if value is not None} for row in history]
        rows = [{"training": FIRST_TRAINING, **row} for row in known]
        return cls(**json.loads(json.dumps({"epoch": epoch, "scores": scores, "cost": cost, "history": rows})))


def begun(run: Run, results: Path) -> Choice | None:
    """Return what the first training of a run led to if the saved state is that of its second one; else None."""
    if not run.train.get("refit"):
        return None
    values = checkpoint.read_choice(folder(results, run.id) / STATE)
    return None if values is None else Choice(**values)


def joined(parts: Split) -> Split:
    """Return a split whose validation images are training images; none is left to validate on."""
    return replace(parts, train=[*parts.train, *parts.validation], validation=[])


def shortened(run: Run, choice: Choice | None) -> Run:
    """Return a run whose batches end after the chosen epoch; as it is without a choice.

    Batches of an epoch do not depend on the number of epochs. The id of the run does: only batches are made of this.
    """
    return run if choice is None else replace(run, train={**run.train, "epochs": choice.epoch})


def costs(choice: Choice, second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block ``cost`` of both trainings.

    Args:
        choice: has that of the first.
        second: that of the second, as `bench.training.fit.fit` returns it. Its seconds and steps have names of their
            own, ``refit_seconds`` and ``refit_steps``, and ``refit_epochs`` is their number of epochs.
    """
    peaks = [cost["train_peak_bytes"] for cost in (choice.cost, second) if cost.get("train_peak_bytes") is not None]
    taken = {REFITTED[name]: value for name, value in second.items() if name in REFITTED}
    return {**choice.cost, **taken, "refit_epochs": choice.epoch, "train_peak_bytes": max(peaks, default=None)}


def plain(choice: Choice | None) -> dict[str, Any] | None:
    """Return a choice as the state keeps it."""
    return None if choice is None else asdict(choice)
