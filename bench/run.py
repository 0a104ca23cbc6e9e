"""One run from images to outputs: split, build, audit, train, choose, test once, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bench.grid import CLASSICAL, Run
from bench.results.record import RunRecord, folder
from bench.training import classical, costs, data, evaluate, measure, outputs, tuning
from bench.training.context import RunContext
from bench.training.fitted import fit_model
from bench.training.split import Split, split
from bench.training.stopwatch import Stopwatch
from bench.training.zero_scores import Evidence
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
    parts, tuned = split(run, images), tuning.tune(run, images, context, progress=progress, should_stop=should_stop)
    context = replace(context, encoder_lr=tuned.encoder_lr)
    if run.backbone == CLASSICAL:
        rows, label_maps, blocks = _classical_fold(run, parts, context, progress)
    else:
        rows, label_maps, blocks = _model_fold(run, parts, context, progress, should_stop)
    progress("recording")
    outputs.save_scores(folder(context.results, run.id), rows)
    pq, n_first = {row["stem"]: row["pq"] for row in rows}, context.kept_predictions
    outputs.save_kept(context.results, run, parts.test, label_maps, pq, n_first=n_first)
    blocks["scores"] = {**evaluate.summarise(rows), **blocks["scores"]}
    was_shared = context.is_shared or measure.has_shared(blocks["cost"])
    blocks["cost"] = measure.without_timings(blocks["cost"]) if was_shared else blocks["cost"]
    blocks["cost"] |= tuned.cost
    return RunRecord(id=run.id, status="ok", run=run.as_dict(), tuning=tuned.block, **blocks)


def _model_fold(
    run: Run, parts: Split, context: RunContext, progress: Callable[..., None], should_stop: Callable[[], bool]
) -> FoldResult:
    model = fit_model(run, parts, context, progress=progress, should_stop=should_stop)
    head, paths = heads.get(run.head), context.fast_paths
    sam, cost, chosen = model.sam, model.cost, model.scores["post_processing"]
    cost["adapter_bytes"] = trained.save(sam, run.strategy, folder(context.results, run.id) / "trained")

    watch = Stopwatch.after(cost)
    test = partial(evaluate.score_images, parts.test, fold=run.fold, progress=partial(progress, "evaluating"))
    with watch.evaluation("test"):
        evidence, instances = Evidence(head, chosen), partial(head.instances, **chosen)
        predict = watch.timed(evidence.following(model.predict))
        rows, label_maps = test(predict, instances, processes=context.side_processes)
    model.scores.update(evidence.block(rows, parts, refit=bool(run.train.get("refit"))))
    cost |= watch.costs()

    progress("measuring")
    pixels = parts.validation[0].pixels
    settings: dict[str, Any] = {"scale": run.scale, "tta": run.tta, "post_processing": chosen, "fast_paths": paths}
    cost |= costs.of_model(sam, head, pixels, **settings)
    cost |= model.cached.counts() if model.cached else {}
    cost["gpu_seconds"] = measure.gpu_seconds(cost)
    return rows, label_maps, {"audit": model.audit, "cost": cost, "scores": model.scores}


def _classical_fold(run: Run, parts: Split, context: RunContext, progress: Callable[..., None]) -> FoldResult:
    cost: dict[str, Any] = {"parameters_total": 0, "parameters_trainable": 0, "device": "cpu"}
    watch, report = Stopwatch(), partial(progress, "evaluating")
    test = partial(evaluate.score_images, parts.test, fold=run.fold, progress=report, processes=context.processes)
    with watch.evaluation("test"):
        rows, label_maps = test(lambda pixels: pixels, classical.segment)
    cost |= watch.costs()
    cost |= costs.of_classical(parts.test[0].pixels)
    return rows, label_maps, {"audit": None, "cost": cost, "scores": {}}
