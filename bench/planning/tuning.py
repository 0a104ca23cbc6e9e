"""Tuning of the encoder's learning rate: the rates that are tried, and the short trainings (trials) that try them.

Every backbone × strategy has the same budget: `TrainSettings.tune` rates, spaced by `FACTOR` around the rate that it
would take otherwise. A trial is a run of its own, on one fold and with one seed, that ends before its test fold is
read; its id follows from its settings, so that all runs that need a trial share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.grid import Run, TrainSettings, digest, neutral_values

FACTOR = math.sqrt(10)
"""Quotient of two neighbouring rates."""
MOST = 13
"""Largest number of rates; they then span seven orders of magnitude."""
SEED = 0
"""Seed of all trials: a rate is chosen for a method, not for a seed of it."""
SHARE = 6
"""By default, a trial has one epoch for so many of the training: six rates then cost as much as one fold."""
NAMES = ("tune", "tune_epochs", "tune_fold")


def resolved(train: Mapping[str, Any], *, freezes_encoder: bool) -> dict[str, Any]:
    """Return the training settings of a run with the number of a trial's epochs.

    Settings of tuning that are not read have their neutral values, so that they make no run of their own: without a
    budget, or where the encoder is frozen and has no rate. The decoder's rate is never tuned: it is one for all
    strategies.

    Args:
        train: settings of training; empty for a strategy that trains nothing.
        freezes_encoder: of the strategy.
    """
    if not train:
        return {}
    if not train["tune"] or freezes_encoder:
        return {**train, **{name: neutral_values(TrainSettings)[name] for name in NAMES}}
    return {**train, "tune_epochs": train["tune_epochs"] or math.ceil(train["epochs"] / SHARE)}


def is_tuned(run: Run) -> bool:
    """Return True if the encoder's rate of a run is chosen by trials."""
    return bool(run.train.get("tune"))


def rates(centre: float, count: int) -> tuple[float, ...]:
    """Return rates in the order in which they are tried: the centre, then outwards, the smaller of two first.

    A larger budget so contains the rates of a smaller one. Three digits, so that the ids of trials do not depend on
    the last bit of a power.

    Args:
        centre: rate that a run would take otherwise.
        count: of rates.
    """
    steps = [(-1) ** place * ((place + 1) // 2) for place in range(count)]
    return tuple(float(f"{centre * FACTOR**step:.3g}") if step else centre for step in steps)


def trials(run: Run, first_fold: int) -> tuple[Run, ...]:
    """Return the trials of a run in the order in which they are tried.

    Args:
        run: a tuned run.
        first_fold: the first fold that holds images.
    """
    fold = run.fold if run.train["tune_fold"] == "own" else first_fold
    return tuple(_trial(run, fold, rate) for rate in rates(run.train["encoder_lr"], run.train["tune"]))


def tuning_id(of_run: tuple[Run, ...]) -> str:
    """Return the id of a tuning, which is equal for runs with the same trials."""
    return digest({"trials": [trial.id for trial in of_run]})


def _trial(run: Run, fold: int, rate: float) -> Run:
    """Return the training of `run` on one fold with a rate, over fewer epochs, the last of which alone is validated."""
    epochs = run.train["tune_epochs"]
    changed = {"encoder_lr": rate, "epochs": epochs, "validate_every": epochs, "patience": 0, "refit": False}
    untuned = {name: neutral_values(TrainSettings)[name] for name in NAMES}
    return replace(run, fold=fold, seed=SEED, train={**run.train, **untuned, **changed})
