"""Rows of a training's history, made of sums over the steps of each epoch; see `bench.results.history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
    """Add the time that a step and the loading of its batch took to the sums of the current epoch."""
    _add(state, {"seconds": seconds})


def _add(state: State, values: Mapping[str, float]) -> None:
    if state.epoch_sums is None:  # the first steps of this epoch are not known
        return
    for name, value in values.items():
        state.epoch_sums[name] = state.epoch_sums.get(name, 0.0) + value


def end_epoch(state: State, *, epoch: int, lr: float, scores: Mapping[str, float]) -> None:
    """Append the row of the epoch that ends with the current step.

    Args:
        state: of the training.
        epoch: its number, from 1.
        lr: learning rate of its last step.
        scores: on the validation images; empty where the epoch was not validated.
    """
    row = {"epoch": epoch, "step": state.step, "lr": lr, **scores, "peak_bytes": state.peak_bytes}
    if sums := state.epoch_sums:
        row |= {name: value / sums["images"] for name, value in sums.items() if name.partition("_")[0] == "loss"}
        row["grad_norm"] = sums["grad_norm"] / sums["steps"]
        if not state.shared:  # on a shared device, timings say nothing
            row |= {"seconds": sums["seconds"], "images_per_s": sums["images"] / max(sums["seconds"], 1e-9)}
    state.history.append(row)
