"""Rows of a training's history, of sums over the steps of each epoch (see `bench.results.history`), and its costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.results.history import SECOND_TRAINING, TIMINGS
from bench.results.measurement import POST_PROCESSING_PARTS

if TYPE_CHECKING:
    from bench.training.checkpoint import State
    from bench.training.step_result import StepResult


def begin_epoch(state: State) -> None:
    """Set the sums of an epoch to nothing, before its first step."""
    state.epoch_sums = {}


def add_step(state: State, result: StepResult, *, images: int) -> None:
    """Add the numbers of a step to the sums of the current epoch.

    Args:
        state: of the training.
        result: of the step.
        images: of the step's batch.
    """
    terms = {f"loss_{name}": value * images for name, value in result.terms.items()}
    _add(state, {"loss": result.loss * images, **terms, "grad_norm": result.grad_norm, "steps": 1, "images": images})


def add_seconds(state: State, seconds: float) -> None:
    """Add the time that a step and the wait for its batch took, to the training's and to the current epoch's."""
    state.seconds += seconds
    _add(state, {"seconds": seconds})


def _add(state: State, values: Mapping[str, float]) -> None:
    if state.epoch_sums is None:  # the first steps of this epoch are not known
        return
    for name, value in values.items():
        state.epoch_sums[name] = state.epoch_sums.get(name, 0.0) + value


def end_epoch(state: State, *, epoch: int, rates: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Append the row of the epoch that ends with the current step.

    Args:
        state: of the training.
        epoch: its number, from 1.
        rates: learning rates of its last step by name, see `bench.results.history`.
        scores: on the validation images, and the seconds that they took; empty where the epoch was not validated.
    """
    row = {"epoch": epoch, "step": state.step, **rates, **scores, "peak_bytes": state.peak_bytes}
    row |= {"training": SECOND_TRAINING} if state.choice else {}
    if state.shared:  # on a shared device, timings say nothing
        row = {name: value for name, value in row.items() if name not in TIMINGS}
    if sums := state.epoch_sums:
        row |= {name: value / sums["images"] for name, value in sums.items() if name.partition("_")[0] == "loss"}
        row["grad_norm"] = sums["grad_norm"] / sums["steps"]
        if not state.shared:
            row |= {"seconds": sums["seconds"], "images_per_s": sums["images"] / max(sums["seconds"], 1e-9)}
    state.history.append(row)


def training_cost(state: State, *, batch_size: int) -> dict[str, Any]:
    """Return what a finished training gives to the block ``cost`` of a record.

    Seconds are those of all attempts, as far as their work was kept: optimiser steps with the wait for their batches,
    predictions of validation images, and what post-processing and scores of these took alone. All are None where an
    attempt shared its device.

    Args:
        state: at the end of the training.
        batch_size: images in an optimiser step.
    """
    validating, waiting = (
        sum(row.get(name) or 0.0 for row in state.history) for name in ("validation_seconds", "post_processing_seconds")
    )
    return {
        "train_seconds": None if state.shared else state.seconds,
        "validation_seconds": None if state.shared else validating,
        POST_PROCESSING_PARTS: {"validation": waiting},
        "train_steps": state.step,
        "best_step": state.best_step,
        "best_epoch": next((row["epoch"] for row in state.history if row["step"] == state.best_step), None),
        "micro_batch": state.micro_batch,
        "checkpointed": state.checkpointed,
        "micro_batch_halvings": (batch_size // state.micro_batch).bit_length() - 1,
        "train_peak_bytes": state.peak_bytes,
    }
