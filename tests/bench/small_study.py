"""A small study made up for tests of tables and figures: two backbones, a sweep of ranks, two folds, two seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from fabricated import record, run

from bench.results import history
from bench.results.record import folder, write

ORGANS = ("brain", "human liver", "mouse kidney")
N_IMAGES = 3
"""Test images of an organ in each fold."""


def write_study(results: Path, organs: tuple[str, ...] = ORGANS) -> None:
    """Write seven rows with image scores and histories: LoRA of two ranks, adapter, zero-shot."""
    for place, backbone in enumerate(("mobile_sam", "tiny_sam")):
        for seed in (0, 1):
            for fold in (1, 2):
                add(results, backbone, "adapter", fold, 0.42 + 0.05 * place, organs, seed=seed)
                add(results, backbone, "lora_qv", fold, 0.50 + 0.02 * place, organs, seed=seed, options={"rank": 4})
                add(results, backbone, "lora_qv", fold, 0.55, organs, seed=seed, options={"rank": 8})
    for fold in (1, 2):
        add(results, "mobile_sam", "zero_shot", fold, 0.30, organs)


def add(
    results: Path, backbone: str, strategy: str, fold: int, level: float, organs: tuple[str, ...] = ORGANS, **run_: Any
) -> str:
    """Write a run whose PQ on an image depends on level, organ, image and seed, and return its id."""
    settings = run(backbone, strategy, fold, **{"n_splits": 2, **run_})
    images = pd.DataFrame(
        [
            _image(organ, fold, number, level + 0.03 * place + 0.017 * number + 0.004 * fold + 0.002 * settings["seed"])
            for place, organ in enumerate(organs)
            for number in range(N_IMAGES)
        ]
    )
    means = images[["pq", "aji", "dice"]].mean()
    one = record(settings, dice=means["dice"], aji=means["aji"], pq=means["pq"], official=False)
    one = replace(one, scores={**(one.scores or {}), "n_images": len(images)})
    write(results, one)
    images.to_parquet(folder(results, one.id) / "scores.parquet")
    if settings["train"]:
        epochs = [
            {"epoch": epoch, "step": 8 * epoch, "loss": 2.0 / epoch, "lr": 1e-3, "pq": level * (1 - 1 / (epoch + fold))}
            for epoch in range(1, 6)
        ]
        history.write(folder(results, one.id), epochs, sync=False)
    return one.id


def _image(organ: str, fold: int, number: int, pq: float) -> Mapping[str, Any]:
    scores = {"pq": pq, "aji": pq + 0.05, "dice": pq + 0.2, "sq": 0.75, "dq": pq / 0.75}
    counts = {"n_true": 40.0, "n_pred": 38.0, "tp": 30.0}
    return {"stem": f"{organ}_{fold}_{number}", "organ": organ, "fold": fold, **scores, **counts}
