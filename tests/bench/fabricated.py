"""Records made up for tests of the reporting chain: their numbers are chosen, not measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bench.grid import CLASSICAL, RULES_VERSION, digest
from bench.results.record import FILENAME, RunRecord, folder

TRAIN = {"epochs": 60, "batch_size": 8, "lr": 0.005}
# encoder, everything else: the public counts (in parameters)
ENCODERS = {
    "sam_vit_b": 89_670_912,
    "sam_vit_l": 308_278_272,
    "sam_vit_h": 637_026_048,
    "mobile_sam": 6_065_532,
    "tiny_sam": 6_065_532,
    "efficient_sam_ti": 6_163_840,
    "efficient_sam_s": 22_353_664,
}
LITE_MEDSAM = 5_726_740  # not among those that fabricated studies go through
DECODER = 4_058_340


def run(backbone: str = "mobile_sam", strategy: str = "lora_qv", fold: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the block `run` of a record; `changes` override single keys."""
    untrained = strategy in ("zero_shot", CLASSICAL)
    return {
        "backbone": backbone,
        "strategy": strategy,
        "head": "everything" if untrained else "distance",
        "dataset": "nuinsseg",
        "dataset_digest": "0123456789ab",
        "fold": fold,
        "n_splits": 5,
        "fold_seed": 19,
        "rules_version": RULES_VERSION,
        "seed": 0,
        "weights": "official",
        "image_size": 1024,
        "scale": None,
        "options": {"rank": 4} if strategy.startswith("lora") else {},
        "train": {} if untrained else dict(TRAIN),
        **changes,
    }


def record(
    settings: Mapping[str, Any],
    dice: float = 0.8,
    aji: float = 0.6,
    pq: float = 0.5,
    *,
    cost: Mapping[str, Any] | None = None,
    official: bool = True,
    status: Any = "ok",
    reason: str | None = None,
    verified: str | None = None,
) -> RunRecord:
    """Return a record of a run with these settings; without status "ok" it has neither scores nor cost."""
    data = {"n_images": 665 if official else 19, "n_organs": 31, "official": official, "root": "/data/images"}
    data |= {"verified": verified} if verified else {}
    if status != "ok":
        return RunRecord(
            id=digest(settings), status=status, reason=reason, run=settings, provenance={"dataset": data, "gpu": None}
        )
    scores = {
        "dice": dice,
        "aji": aji,
        "aji_plus": aji,
        "pq": pq,
        "sq": 0.75,
        "dq": pq / 0.75,
        "f1": pq / 0.75,
        "precision": 0.7,
        "recall": 0.7,
        "n_images": 133,
        "n_true": 6000,
        "n_pred": 5900,
        "n_empty_both": 0,
        "pooled_pq": pq - 0.01,
        "weighted_pq": pq + 0.01,
        "post_processing": {"threshold": 0.5},
        "validation": {"pq": pq, "aji": aji},
    }
    provenance = {"commit": "c0ffee", "dirty": False, "gpu": "NVIDIA A100", "dataset": data}
    cost = default_cost(settings) if cost is None else cost
    return RunRecord(id=digest(settings), status="ok", run=settings, scores=scores, cost=cost, provenance=provenance)


def default_cost(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return plausible costs of a run of this backbone and strategy."""
    if settings["backbone"] == CLASSICAL:
        latency = {"postprocessing_latency_ms": {"median": 230.0, "p95": 250.0}}
        return {"parameters_total": 0, "parameters_trainable": 0, "device": "cpu", **latency}
    encoder = LITE_MEDSAM if settings["backbone"] == "lite_medsam" else ENCODERS[settings["backbone"]]
    added = {"lora_qv": encoder // 400, "lora_all_linear": encoder // 120, "adapter": encoder // 12}
    trainable = DECODER + added.get(settings["strategy"], 0)
    trainable = {"zero_shot": 0, "full": DECODER + encoder}.get(settings["strategy"], trainable)
    training = None if settings["strategy"] == "zero_shot" else 4 * 2**30 + trainable * 40 + encoder * 300
    return {
        "parameters_total": encoder + 6_220 + DECODER,
        "parameters_trainable": trainable,
        "parameters_trainable_encoder": max(0, trainable - DECODER),
        "parameters_trainable_decoder": min(trainable, DECODER),
        "parameters_encoder": encoder,
        "parameters_decoder": DECODER,
        "parameters_added": 0,
        "adapter_bytes": trainable * 4,
        "flops": encoder * 4000,
        "encoder_latency_ms": {"median": encoder / 1e6, "p95": encoder / 0.9e6},
        "decoder_latency_ms": {"median": 6.0, "p95": 7.0},
        "postprocessing_latency_ms": {"median": 30.0, "p95": 35.0},
        "throughput_images_per_s": 10.0,
        "train_peak_bytes": training,
        "inference_peak_bytes": 2**30 + encoder * 10,
        "memory_kind": "cuda",
        "train_seconds": 3000.0,
        "validation_seconds": 40.0,
        "prediction_seconds": 20.0,
        "post_processing_seconds": 12.0,
        "gpu_seconds": 3060.0,
        "device": "cuda",
        "micro_batch": 8,
        "history": [],
    }


def many(rows: int = 2_000, folds: int = 5) -> Iterator[RunRecord]:
    """Yield records of a large study, of the size that a training of 60 epochs leaves.

    Every 40th run failed, every 97th was never finished and is left out. Scores differ between rows and folds.

    Args:
        rows: of the leaderboard: 7 backbones × 7 strategies × seeds.
        folds: runs of each.
    """
    trained = ("lora_qv", "lora_all_linear", "adapter", "full", "decoder", "zero_shot", "bitfit")
    spread = dict.fromkeys(("weighted_dice", "weighted_aji", "weighted_sq", "weighted_f1"))
    audit = {"n_asked": 120, "n_received": 120, "n_held": 120, "names_sha256": "ab" * 32, "ok": True}
    origin = {
        "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T10:51:00+00:00",
        "host": "gpu-012",
        "device": "cuda",
        "slurm_job_id": "4711",
        "checkpoint_digest": "cd" * 32,
        "folds_digest": "ef" * 32,
        "versions": {f"package-{i}": "1.2.3" for i in range(10)},
        "cpu_threads": 8,
        "cuda": "12.6",
    }
    number = 0
    for row in range(rows):
        backbone, strategy = list(ENCODERS)[row % 7], trained[row // 7 % 7]
        for fold in range(1, folds + 1):
            number += 1
            if number % 97 == 0:
                continue
            settings = run(backbone, strategy, fold, n_splits=folds, seed=row // 49)
            pq = round(0.3 + (row * 37 % 1000) / 4000 + fold / 1000, 4)
            if number % 40 == 0:
                one = record(settings, status="failed", reason=f"diverged: the loss became nan at step {number}.")
            else:
                one = record(settings, dice=pq + 0.25, aji=pq + 0.1, pq=pq)
                history = [] if strategy == "zero_shot" else _history(pq)
                one = replace(
                    one,
                    audit=audit,
                    scores={**(one.scores or {}), **spread},
                    cost={**(one.cost or {}), "history": history},
                )
            yield replace(one, provenance={**(one.provenance or {}), **origin})


def _history(pq: float) -> list[dict[str, float]]:
    names = ("dice", "aji", "pq", "sq", "dq", "f1", "precision", "recall")
    return [
        {
            "epoch": epoch,
            "mean_loss": 3 / epoch,
            **{name: pq * (1 - 1 / (epoch + 7 + i)) for i, name in enumerate(names)},
        }
        for epoch in range(1, 61)
    ]


def write_many(results: Path, rows: int = 2_000, folds: int = 5) -> list[str]:
    """Write `many` below a results folder, as `bench.results.record.write` does, without syncing; return ids."""
    ids = []
    for one in many(rows, folds):
        path = folder(results, one.id) / FILENAME
        path.parent.mkdir(parents=True)
        values, cost = dict(vars(one)), dict(one.cost or {})
        epochs = tuple(tuple(epoch.items()) for epoch in cost.get("history", ()))
        ordered = {"schema_version": values.pop("schema_version"), **values}
        if epochs:  # nine tenths of the text; the same training is in several records
            ordered["cost"] = {**cost, "history": []}
        text = json.dumps(ordered, indent=1).replace('"history": []', f'"history": {_epochs_text(epochs)}')
        path.write_text(text + "\n", encoding="utf-8")
        ids.append(one.id)
    return ids


@cache
def _epochs_text(epochs: tuple[tuple[tuple[str, float], ...], ...]) -> str:
    return json.dumps([dict(epoch) for epoch in epochs], indent=1).replace("\n", "\n  ")


def write_scores(results: Path, rows: int = 2_000, folds: int = 5, images: int = 133, organs: int = 31) -> None:
    """Write ``scores.parquet`` beside every record of `many` that is ok, as trainings leave them.

    An image scores the row's mean, its own difficulty and noise; the mean over the images is not that of the record.
    """
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(19)
    difficulty = rng.normal(0, 0.08, (folds, images))
    organ_names = pyarrow.array([f"organ {number % organs:02d}" for number in range(images)])
    stems = [pyarrow.array([f"fold_{fold}_image_{n:03d}" for n in range(images)]) for fold in range(1, folds + 1)]
    for one in many(rows, folds):
        if one.status != "ok" or one.scores is None:
            continue
        fold = int(one.run["fold"])
        pq = np.clip(one.scores["pq"] + difficulty[fold - 1] + rng.normal(0, 0.04, images), 0, 1)
        scores = {"dice": pq**0.4, "aji": pq**0.8, "aji_plus": pq**0.75, "pq": pq, "sq": pq**0.3, "dq": pq**0.7}
        counts = {name: rng.integers(0, 60, images) for name in ("n_true", "n_pred")}
        errors = {f"n_{name}": rng.integers(0, 9, images) for name in ("missed", "spurious", "merged", "split")}
        columns = {
            "stem": stems[fold - 1],
            "organ": organ_names,
            "fold": np.full(images, fold),
            **scores,
            **dict.fromkeys(("f1", "precision", "recall"), pq**0.7),
            **counts,
            **errors,
        }
        parquet.write_table(pyarrow.table(columns), folder(results, one.id) / "scores.parquet")
