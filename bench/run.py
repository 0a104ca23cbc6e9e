"""One run from images to outputs: split, build, audit, train, choose, test once, measure, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord, folder
from bench.training import classical, costs, data, embeddings, evaluate, fit, measure, outputs
from bench.training.context import RunContext
from bench.training.deployed import predictor
from bench.training.split import Split, split
from registry import heads, trained

FoldResult = tuple[list[dict[str, Any]], Mapping[str, Any], dict[str, Any]]
"""Scores of each test image, predicted label maps by stem, and blocks of the record."""


def execute(
    run: Run,
    images: Mapping[str, data.Image],
    context: RunContext,
    *,
    progress: Callable[..., None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Do one run; all its files but the record are on disk when this returns.

    Args:
        run: the question.
        images: the whole dataset, decoded, by stem in sorted order.
        context: where to work.
        progress: called with the phase and its numbers.
        should_stop: called between optimiser steps.

    Raises:
        BenchError, RegistryError, torch.OutOfMemoryError: the run failed; the state of its training may remain.
    """
    progress("preparing")
    parts = split(run, images)
    if run.backbone == CLASSICAL:
        rows, label_maps, blocks = _classical_fold(run, parts, context, progress)
    else:
        rows, label_maps, blocks = _model_fold(run, parts, context, progress, should_stop)
    progress("recording")
    outputs.save_scores(folder(context.results, run.id), rows)
    pq, n_first = {row["stem"]: row["pq"] for row in rows}, context.kept_predictions
    outputs.save_kept(context.results, run, parts.test, label_maps, pq, n_first=n_first)
    blocks["scores"] = {**evaluate.summarise(rows), **blocks["scores"]}
    was_shared = context.is_shared or blocks["cost"].get("train_seconds", 0.0) is None  # in an earlier attempt, perhaps
    blocks["cost"] = measure.without_timings(blocks["cost"]) if was_shared else blocks["cost"]
    return RunRecord(id=run.id, status="ok", run=run.as_dict(), **blocks)


def _model_fold(
    run: Run, parts: Split, context: RunContext, progress: Callable[..., None], should_stop: Callable[[], bool]
) -> FoldResult:
    sam, head, paths = fit.build(run, context), heads.get(run.head), context.fast_paths
    cached = embeddings.of_run(run, sam, context)
    audit, cost = fit.fit(run, sam, parts, context, cached=cached, progress=progress, should_stop=should_stop)
    cost["adapter_bytes"] = trained.save(sam, run.strategy, folder(context.results, run.id) / "trained")

    images, side, started = parts.validation, context.side_processes, time.monotonic()
    progress("choosing post-processing", {"images": len(images)})
    predict = predictor(sam, head, paths, scale=run.scale, embeddings=cached.of_pixels if cached else None)
    raw = (predict(image.pixels) for image in images)
    chosen, reached = evaluate.choose_parameters(raw, images, head, side_processes=side, processes=context.processes)
    test = partial(evaluate.score_images, parts.test, fold=run.fold, progress=partial(progress, "evaluating"))
    rows, label_maps = test(predict, partial(head.instances, **chosen), processes=side)
    cost["evaluate_seconds"] = time.monotonic() - started

    progress("measuring")
    cost |= costs.of_model(sam, head, images[0].pixels, scale=run.scale, post_processing=chosen, fast_paths=paths)
    cost |= cached.counts() if cached else {}
    cost["gpu_seconds"] = measure.gpu_seconds(cost)
    scores = {"post_processing": chosen, "validation": reached}
    return rows, label_maps, {"audit": audit, "cost": cost, "scores": scores}


def _classical_fold(run: Run, parts: Split, context: RunContext, progress: Callable[..., None]) -> FoldResult:
    cost: dict[str, Any] = {"parameters_total": 0, "parameters_trainable": 0, "device": "cpu"}
    started, report = time.monotonic(), partial(progress, "evaluating")
    test = partial(evaluate.score_images, parts.test, fold=run.fold, progress=report, processes=context.processes)
    rows, label_maps = test(lambda pixels: pixels, classical.segment)
    cost["evaluate_seconds"] = time.monotonic() - started
    cost |= costs.of_classical(parts.test[0].pixels)
    return rows, label_maps, {"audit": None, "cost": cost, "scores": {}}
