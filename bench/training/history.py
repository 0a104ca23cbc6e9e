"""Rows of a training's history, made of sums over the steps of each epoch; see `bench.results.history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.training.checkpoint import State
    from bench.training.step import StepResult


def add_step(state: State, result: StepResult, *, images: int, seconds: float, starts_epoch: bool) -> None:
    """Add a step to the sums of the current epoch.

    Args:
        state: of the training.
        result: of the step.
        images: of the step's batch.
        seconds: that the step and the loading of its batch took.
        starts_epoch: whether the step is the first of an epoch.
    """
    if starts_epoch:
        state.epoch_sums = {}
    if state.epoch_sums is None:  # the first steps of this epoch are not known
        return
    terms = {f"loss_{name}": value * images for name, value in result.terms.items()}
    added = {"loss": result.loss * images, **terms, "grad_norm": result.grad_norm}
    for name, value in {**added, "steps": 1, "images": images, "seconds": seconds}.items():
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
