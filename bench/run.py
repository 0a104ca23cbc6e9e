"""One Run, top to bottom: split, build, audit, train, choose, read the test fold once, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import folds
from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord, folder
from bench.training import classical, data, evaluate, loop, measure, model
from bench.training.outputs import save_predictions, save_scores
from registry import heads, trained

if TYPE_CHECKING:
    import torch


TIMINGS = (
    "encoder_latency_ms",
    "decoder_latency_ms",
    "postprocessing_latency_ms",
    "throughput_images_per_s",
    "gpu_seconds",
)
"""Costs that are None where runs share a device."""


@dataclass(frozen=True)
class RunContext:
    """Where a run works: operational, never part of its identity.

    Attributes:
        results: the results folder.
        checkpoint: the official checkpoint file; None for random weights.
        device: ``cpu`` or ``cuda``.
        loader_workers: processes that prepare training samples.
        kept_predictions: number of test images whose predicted label maps are kept.
        is_shared: other runs use the device at the same time, which spoils every timing of it.
        micro_batch_halvings: how often earlier attempts ran out of memory: so much smaller is the micro-batch.
    """

    results: Path
    checkpoint: Path | None = None
    device: str = "cpu"
    loader_workers: int = 0
    kept_predictions: int = 3
    is_shared: bool = False
    micro_batch_halvings: int = 0


@dataclass(frozen=True)
class Split:
    """The images of one fold: what is trained on, what choices are made on, what is read once."""

    train: list[data.Image]
    validation: list[data.Image]
    test: list[data.Image]


def split(run: Run, images: Mapping[str, data.Image]) -> Split:
    """Outer fold and inner validation split; both keep groups together."""
    groups = {stem: image.group for stem, image in images.items()}
    assigned = folds.assign(list(images), n_splits=run.n_splits, seed=run.fold_seed, groups=groups)
    outer = [stem for stem in images if assigned[stem] != run.fold]
    inner, held_out = folds.inner_split(
        outer, fraction=run.validation_fraction or 0.2, seed=run.seed, groups={stem: groups[stem] for stem in outer}
    )
    test = [images[stem] for stem in images if assigned[stem] == run.fold]
    return Split([images[s] for s in inner], [images[s] for s in held_out], test)


def execute(
    run: Run,
    images: Mapping[str, data.Image],
    place: RunContext,
    *,
    progress: Callable[..., None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Answer one run's question. Everything but the record is on disk when this returns.

    Args:
        run: what is asked.
        images: the whole dataset, decoded, by stem in sorted order.
        place: where to work.
        progress: told the phase and its numbers.
        should_stop: asked between optimiser steps.

    Raises:
        BenchError, RegistryError, torch.OutOfMemoryError: the run failed; training state may remain for a retry.
    """
    progress("preparing")
    parts = split(run, images)
    scorer = _classical_fold if run.backbone == CLASSICAL else _model_fold
    rows, predictions, found = scorer(run, parts, place, progress, should_stop)
    where = folder(place.results, run.id)
    progress("recording")
    save_scores(where, rows)
    save_predictions(where, parts.test[: place.kept_predictions], predictions)
    found["scores"] = {**evaluate.summarise(rows), **found["scores"]}
    return RunRecord(id=run.id, status="ok", run=run.as_dict(), **found)


def _model_fold(
    run: Run, parts: Split, place: RunContext, progress: Callable[..., None], should_stop: Callable[[], bool]
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    import torch

    device, head, where = torch.device(place.device), heads.get(run.head), folder(place.results, run.id)

    def fresh() -> Any:
        return model.prepare(
            backbone=run.backbone,
            strategy=run.strategy,
            options=run.options,
            image_size=run.image_size,
            checkpoint=place.checkpoint,
            tokens=head.channels,
            seed=run.seed,
        ).to(device)

    sam = fresh()
    cost: dict[str, Any] = {
        **model.count_parameters(sam),
        "device": place.device,
        "memory_kind": measure.memory_kind(device),
    }
    fit = _train if run.train else _leave_untrained
    audit, fitted = fit(run, sam, fresh, parts, place, progress, should_stop)
    cost |= {"adapter_bytes": trained.save(sam, run.strategy, where / "trained"), **fitted}

    sam.eval()
    precision = partial(loop.autocast, device)
    started = time.monotonic()

    def raw(image: data.Image) -> Any:
        return evaluate.raw_prediction(sam, head, image.pixels, scale=run.scale, autocast=precision)

    progress("choosing post-processing", {"images": len(parts.validation)})
    validation_raw = [raw(image) for image in parts.validation]
    chosen, validation = evaluate.choose_parameters(validation_raw, [i.label_map for i in parts.validation], head)

    def predict(pixels: Any) -> Any:
        prediction = evaluate.raw_prediction(sam, head, pixels, scale=run.scale, autocast=precision)
        return head.instances(prediction, **chosen)

    rows, predictions = evaluate.score_images(
        parts.test,
        predict,
        fold=run.fold,
        progress=lambda done: progress("evaluating", {"image": done, "images": len(parts.test)}),
    )
    cost["evaluate_seconds"] = time.monotonic() - started

    progress("measuring")
    one = validation_raw[0]
    first = parts.validation[0]
    cost |= measure.inference(sam, autocast=precision, whole=None if head.dense else lambda: raw(first))
    cost["postprocessing_latency_ms"] = measure.latency_ms(
        lambda: head.instances(one, **chosen), device=torch.device("cpu")
    )
    cost["gpu_seconds"] = cost["evaluate_seconds"] + cost.get("train_seconds", 0.0) if device.type == "cuda" else None
    if place.is_shared:
        cost |= dict.fromkeys(TIMINGS)
    scores = {"post_processing": chosen, "validation": validation}
    return (rows, predictions, {"scores": scores, "cost": cost, "audit": audit})


def _train(
    run: Run,
    sam: Any,
    fresh: Callable[[], Any],
    parts: Split,
    place: RunContext,
    progress: Callable[..., None],
    should_stop: Callable[[], bool],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Audit, train, and leave the best checkpoint in `sam`; returns the audit and what training cost."""
    device, head, settings = next(sam.parameters()).device, heads.get(run.head), dict(run.train)
    geometry = {"batch_size": settings["batch_size"], "image_size": run.image_size, "scale": run.scale}

    def batches(first_step: int) -> Any:
        return data.batches(
            parts.train,
            head.targets,
            first_step=first_step,
            epochs=settings["epochs"],
            seed=run.seed,
            augment=settings["augment"],
            stain_jitter=settings["stain_jitter"],
            scale_jitter=settings["scale_jitter"],
            workers=place.loader_workers,
            **geometry,
        )

    def logits(images: torch.Tensor) -> torch.Tensor:
        low_resolution, _ = sam.decode(sam.encode(images))
        return low_resolution[:, list(head.channels)]

    def loss(low_resolution: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        import torch.nn.functional as F

        size = tuple(targets.shape[-2:])
        return head.loss(F.interpolate(low_resolution.float(), size, mode="bilinear", align_corners=False), targets)

    def validate() -> dict[str, float]:
        sam.eval()
        precision = partial(loop.autocast, device)
        raw = (
            evaluate.raw_prediction(sam, head, image.pixels, scale=run.scale, autocast=precision)
            for image in parts.validation
        )
        return evaluate.mean_scores(raw, [i.label_map for i in parts.validation], head, head.defaults)

    optimizer = loop.make_optimizer(sam, lr=settings["lr"], weight_decay=settings["weight_decay"])
    model.set_training_mode(sam)
    audit = model.audit(
        sam,
        batch=next(batches(0)),
        logits=logits,
        loss=loss,
        optimizer=optimizer,
        fresh=fresh,
        strategy=run.strategy,
        autocast=partial(loop.autocast, device),
        seed=run.seed,
    )
    measure.reset_peak(device)
    state = loop.fit(
        sam,
        optimizer,
        logits=logits,
        loss=loss,
        batches=batches,
        validate=validate,
        steps_per_epoch=data.steps_per_epoch(parts.train, **geometry),
        epochs=settings["epochs"],
        lr=settings["lr"],
        warmup_steps=settings["warmup_steps"],
        schedule=settings["schedule"],
        clip_norm=settings["clip_norm"],
        validate_every=settings["validate_every"],
        patience=settings["patience"],
        batch_size=settings["batch_size"],
        micro_batch=max(1, settings["batch_size"] >> place.micro_batch_halvings),
        state_path=folder(place.results, run.id) / "state.pt",
        enter_training=lambda: model.set_training_mode(sam),
        progress=lambda values: progress("training", values),
        should_stop=should_stop,
        seed=run.seed,
        peak_bytes=lambda: measure.peak_bytes(device),
        reset_peak=lambda: measure.reset_peak(device),
    )
    return audit, {
        "train_seconds": state.seconds,
        "train_steps": state.step,
        "best_step": state.best_step,
        "micro_batch": state.micro_batch,
        "micro_batch_halvings": (settings["batch_size"] // state.micro_batch).bit_length() - 1,
        "train_peak_bytes": state.peak_bytes,
        "history": state.history,
    }


def _leave_untrained(
    run: Run, sam: Any, fresh: Callable[[], Any], parts: Split, *_: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Audit that nothing asks for a gradient; training costs nothing."""
    batch = data.plain_batch(parts.train[0], image_size=run.image_size)
    audit = model.audit(
        sam,
        batch=batch,
        logits=lambda images: sam.decode(sam.encode(images))[0],
        loss=lambda low, _: low.sum(),
        optimizer=None,
        fresh=fresh,
        strategy=run.strategy,
        seed=run.seed,
    )
    return audit, {}


def _classical_fold(
    run: Run, parts: Split, place: RunContext, progress: Callable[..., None], should_stop: Callable[[], bool]
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    import torch

    cpu, started = torch.device("cpu"), time.monotonic()
    rows, predictions = evaluate.score_images(
        parts.test,
        classical.segment,
        fold=run.fold,
        progress=lambda done: progress("evaluating", {"image": done, "images": len(parts.test)}),
    )
    seconds = time.monotonic() - started
    one = parts.test[0].pixels
    cost = {
        "parameters_total": 0,
        "parameters_trainable": 0,
        "evaluate_seconds": seconds,
        "device": "cpu",
        "postprocessing_latency_ms": measure.latency_ms(lambda: classical.segment(one), device=cpu),
    }
    if place.is_shared:
        cost["postprocessing_latency_ms"] = None
    return (rows, predictions, {"scores": {}, "cost": cost, "audit": None})
