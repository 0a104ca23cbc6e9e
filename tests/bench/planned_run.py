"""A planned run for tests of estimates and packing."""

from __future__ import annotations

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
