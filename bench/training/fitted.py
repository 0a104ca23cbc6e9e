"""Fitted model of a run: trained, its post-processing chosen on validation images, and perhaps trained again on all.

The test fold is no business of this module: it is read once, by the model that comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.results import history
from bench.results.record import folder
from bench.training import embeddings, fit, refit, search
from bench.training.deployed import predictor
from bench.training.stopwatch import Stopwatch
from registry import heads

if TYPE_CHECKING:
    from bench.grid import Run
    from bench.training.context import RunContext
    from bench.training.embeddings import Embeddings
    from bench.training.split import Split
    from registry.sam import Sam


@dataclass(frozen=True)
class FittedModel:
    """Model whose test fold may be read.

    Attributes:
        sam: the model.
        cached: its embeddings, if the run caches them.
        predict: pixels to a raw prediction.
        audit, cost, scores: blocks of the record so far.
    """

    sam: Sam
    cached: Embeddings | None
    predict: Callable[..., Any]
    audit: dict[str, Any]
    cost: dict[str, Any]
    scores: dict[str, Any]


def fit_model(
    run: Run, parts: Split, context: RunContext, *, progress: Callable[..., None], should_stop: Callable[[], bool]
) -> FittedModel:
    """Train a model and choose its epoch and post-processing; with ``train.refit``, train it again on all images.

    Args:
        run: the question.
        parts: its images; those of the test fold are not read.
        context: where to work.
        progress: called with the phase and its numbers.
        should_stop: called between optimiser steps.

    Raises:
        AuditError, DivergedError, InterruptedRunError, torch.OutOfMemoryError: see `bench.training.fit.fit`.
    """
    train = partial(_trained, run, context=context, progress=progress, should_stop=should_stop)
    choice = refit.begun(run, context.results)
    if choice is None:
        first = _with_post_processing(run, train(parts), parts, context, progress)
        if not run.train.get("refit"):
            return first
        rows = history.read(folder(context.results, run.id))
        choice = refit.Choice.of(first.scores, first.cost, rows, epoch=first.cost["best_epoch"])
        del first  # the second model takes its memory
    second = train(refit.joined(parts), choice=choice)
    if second.cached is not None:
        second.cached.count_also(choice.cost)
    return FittedModel(
        second.sam, second.cached, second.predict, second.audit, refit.costs(choice, second.cost), dict(choice.scores)
    )


def _trained(
    run: Run,
    parts: Split,
    *,
    context: RunContext,
    progress: Callable[..., None],
    should_stop: Callable[[], bool],
    choice: refit.Choice | None = None,
) -> FittedModel:
    """Build and train a model; nothing is chosen but its epoch."""
    sam = fit.build(run, context)
    cached = embeddings.of_run(run, sam, context)
    audit, cost = fit.fit(
        run, sam, parts, context, cached=cached, choice=choice, progress=progress, should_stop=should_stop
    )
    options: dict[str, Any] = {"scale": run.scale, "embeddings": cached.of_pixels if cached else None, "tta": run.tta}
    predict = predictor(sam, heads.get(run.head), context.fast_paths, **options)
    return FittedModel(sam, cached, predict, audit, cost, {})


def _with_post_processing(
    run: Run, model: FittedModel, parts: Split, context: RunContext, progress: Callable[..., None]
) -> FittedModel:
    """Return the model with the post-processing that is best on the validation images."""
    images, watch = parts.validation, Stopwatch.after(model.cost)
    progress("choosing post-processing", {"images": len(images)})
    with watch.evaluation("choice"):
        scores = search.choose(
            watch.timed(model.predict),
            images,
            heads.get(run.head),
            seed=run.seed,
            method=run.search,
            fixed={heads.FILL_HOLES: 1.0} if run.fill_holes else {},
            side_processes=context.side_processes,
            processes=context.processes,
        )
    counts = model.cached.counts() if model.cached else {}
    cost = model.cost | watch.costs() | counts
    return FittedModel(model.sam, model.cached, model.predict, model.audit, cost, scores)
