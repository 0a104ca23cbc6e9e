"""Planned runs, and the resources that they take, for the tests of several packages."""

from __future__ import annotations

from dataclasses import replace

from bench.estimate.resources import Resources
from bench.grid import CLASSICAL, Run

GIB = 2**30
RUN = Run(
    backbone="sam_nano",
    strategy="lora_qv",
    head="distance",
    dataset="synthetic",
    dataset_digest="0",
    fold=1,
    n_splits=5,
    fold_seed=19,
    validation_fraction=0.2,
    seed=0,
    weights="random",
    image_size=64,
    scale=None,
    options={"rank": 4},
    train={"epochs": 10, "batch_size": 8, "lr": 1e-3, "validate_every": 2},
)
CLASSICAL_RUN = Run(
    **{
        **RUN.as_dict(),
        "backbone": CLASSICAL,
        "strategy": CLASSICAL,
        "head": CLASSICAL,
        "options": {},
        "train": {},
        "validation_fraction": None,
    }
)
FULL_RUN = replace(RUN, strategy="full", options={})
FOLDS = [replace(FULL_RUN, fold=fold) for fold in (1, 2, 3)]
LORA = [replace(run, strategy="lora_qv") for run in FOLDS]
NO_GPU = Resources(1.0, 0, None, 400_000, 0, "no_gpu", "", 3.0)


def taking(minutes: float, gibibytes: float = 10, micro_batch: int = 8, state: int = 0) -> Resources:
    memory = int(gibibytes * GIB)
    return Resources(minutes, memory, micro_batch, 10**9, state, "counted", "25 % of 312 TFLOP/s", 3.0)
