"""Training half of a run: build the model, check and audit it, train it, and leave the best checkpoint in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.grid import Run
from bench.results import history
from bench.results.record import folder
from bench.training import data, events, loop, measure, model, refit, setup, validation
from bench.training.audit import audit
from bench.training.batchnorm import RunningStatistics
from bench.training.block_forms import BlockForms, block_forms
from bench.training.context import RunContext
from bench.training.deployed import deployed
from bench.training.embedded_batches import EmbeddedBatch, embedded_batches
from bench.training.embeddings import Embeddings
from bench.training.finite import check_finite
from bench.training.history import training_cost
from bench.training.optimizer import is_fused
from bench.training.precision import autocast
from bench.training.split import Split
from bench.training.step import LabelledBatch, Loss
from bench.training.stopwatch import Stopwatch
from registry import backbones, frozen_prefix, heads
from registry.names import shown

if TYPE_CHECKING:
    from registry.contract import Head
    from registry.sam import Sam

logger = logging.getLogger(__name__)

Fitted = tuple[dict[str, Any], dict[str, Any]]
"""The record's block ``audit``, and what building and training add to its block ``cost``.

``train_seconds`` is None where a part of the training, in this attempt or an earlier one, shared its device.
"""


def build(run: Run, context: RunContext) -> Sam:
    """Return the backbone with the strategy applied, on the run's device and in eval mode."""
    sam = model.prepare(
        backbone=run.backbone,
        strategy=run.strategy,
        options=run.options,
        image_size=run.image_size,
        checkpoint=context.checkpoint,
        tokens=heads.get(run.head).channels,
        seed=run.seed,
        head=run.head,
        base_weights=run.train.get("base_weights", "full"),
    )
    return sam.to(context.device)


def fit(
    run: Run,
    sam: Sam,
    parts: Split,
    context: RunContext,
    *,
    cached: Embeddings | None = None,
    choice: refit.Choice | None = None,
    progress: Callable[..., None],
    should_stop: Callable[[], bool],
) -> Fitted:
    """Audit and train a model; leave the best checkpoint in it. A strategy that trains nothing is audited only.

    Args:
        run: the question.
        sam: what `build` returned for it.
        parts: gives the images for training and validation.
        context: where the state is kept, and how much fits the device.
        cached: embeddings to train on; None computes them in every step. The audit uses the model's encoder always.
        choice: of the first training, for the second one (see `bench.training.refit`).
        progress: called with the phase and its numbers.
        should_stop: called after every step.

    Raises:
        AuditError: weights or outputs that are not finite, or other parameters are trained than should be.
        DivergedError: a loss, a gradient or a weight is no longer finite.
        InterruptedRunError: `should_stop` answered True; the state is saved.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit.
    """
    cost = {**model.count_parameters(sam), "device": context.device, "memory_kind": measure.memory_kind(device(sam))}
    if not run.train:
        result = _audit_untrained(run, sam, parts, context)
        return result | _cached_difference(cached, parts, sam), cost
    statistics = _statistics(run, sam, parts, context)
    optimizer = setup.optimizer(run, sam, context)
    settings = setup.loop_settings(run, parts, context, whole_batches=statistics.is_trained, choice=choice)
    until_chosen = refit.shortened(run, choice)
    settings = replace(settings, is_late=device(sam).type == "cuda" and is_fused(optimizer))
    loss = loss_in_form(sam, heads.get(run.head), context.fast_paths)
    batches: Callable[[int], Iterator[LabelledBatch]] = partial(training_batches, until_chosen, parts, context)
    first = next(training_batches(run, parts, replace(context, loader_workers=0), 0))
    result = _audit(run, sam, first, context, loss=loss, optimizer=optimizer)
    result |= _cached_difference(cached, parts, sam)
    if cached is not None:
        loss = loss_in_form(sam, heads.get(run.head), context.fast_paths, is_embedded=True)
        batches = partial(_embedded_batches, until_chosen, parts, context, cached)
        forms = BlockForms(loss, checkpointed=None)
    else:
        # Compiled code was compared with the plain form's at constant statistics only.
        compiles = "compile" in context.fast_paths and not statistics.is_trained
        forms = block_forms(sam, loss, first, compiles=compiles)
    measure.reset_peak(device(sam))
    place = folder(context.results, run.id)
    with events.writing(place, context.log) as add_events:
        state = loop.fit(
            sam,
            optimizer,
            settings,
            loss=forms.loss,
            checkpointed=forms.checkpointed,
            batches=batches,
            validate=partial(_validate, run, sam, parts, context, cached),
            enter_training=statistics.enter_training,
            buffers=statistics.buffers,
            after_step=statistics.after_step,
            state_path=place / "state.pt",
            peak_bytes=partial(measure.peak_bytes, device(sam)),
            reset_peak=partial(measure.reset_peak, device(sam)),
            progress=partial(progress, "training" if choice is None else refit.PHASE),
            follow=partial(_follow, place, add_events),
            should_stop=should_stop,
        )
    _write_history(place, state.history)
    return result, cost | training_cost(state, batch_size=settings.batch_size)


def device(sam: Sam) -> torch.device:
    """Return the device that holds a model."""
    return next(sam.parameters()).device


def _statistics(run: Run, sam: Sam, parts: Split, context: RunContext) -> RunningStatistics:
    """Return BatchNorm's running statistics as the run trains them; settled ones are computed here."""
    statistics = RunningStatistics(sam, run.train["batchnorm"] or "frozen")
    in_process = replace(context, loader_workers=0)
    statistics.settle(batch.images for batch in training_batches(run, parts, in_process, 0))
    return statistics


def training_batches(run: Run, parts: Split, context: RunContext, first_step: int) -> Iterator[data.Batch]:
    """Yield the training batches of a run, from a step on."""
    names = ("epochs", "batch_size", "augment", "augmentation", "stain_jitter", "scale_jitter")
    return data.batches(
        parts.train,
        heads.get(run.head).targets,
        first_step=first_step,
        image_size=run.image_size,
        target_side=backbones.card(run.backbone).target_side(run.image_size),
        scale=run.scale,
        seed=run.seed,
        workers=context.loader_workers,
        **{name: run.train[name] for name in names},
    )


def _embedded_batches(
    run: Run, parts: Split, context: RunContext, cached: Embeddings, first_step: int
) -> Iterator[EmbeddedBatch]:
    names = ("epochs", "batch_size", "augment", "stain_variants")
    return embedded_batches(
        parts.train,
        heads.get(run.head).targets,
        cached,
        first_step=first_step,
        target_side=backbones.card(run.backbone).target_side(run.image_size),
        seed=run.seed,
        workers=context.loader_workers,
        **{name: run.train[name] for name in names},
    )


def _follow(place: Path, add_events: events.Follow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the history so far; a machine that fails may lose the file, since the state holds all of it."""
    _write_history(place, rows, sync=False)
    add_events(rows)


def _write_history(place: Path, rows: Sequence[Mapping[str, Any]], *, sync: bool = True) -> None:
    """Write the history, or warn: a full disk must not end a training for the sake of its history."""
    try:
        history.write(place, rows, sync=sync)
    except OSError as error:
        logger.warning("The history can't be written to %s (%s); the training goes on.", shown(place), error)


def training_loss(
    sam: Sam, head: Head, images: Tensor, targets: Tensor, *, encode: frozen_prefix.Encode | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the head's loss of the model's logits, resized to the resolution of the targets, and its terms."""
    low_resolution, _ = sam.decode((encode or sam.decoder_input)(images))
    size = tuple(targets.shape[-2:])
    logits = F.interpolate(low_resolution[:, list(head.channels)].float(), size, mode="bilinear", align_corners=False)
    return heads.loss_and_terms(head, logits, targets)


def loss_in_form(sam: Sam, head: Head, fast_paths: Collection[str], *, is_embedded: bool = False) -> Loss:
    """Return `training_loss` of a model with the fast paths ``frozen_prefix`` and ``bfloat16``, where they are on.

    Args:
        sam: a model with a strategy, on the device of its training.
        head: its head.
        fast_paths: names of the faster forms that are used.
        is_embedded: the loss is one of embeddings in place of images, or of `EmbeddedImages` where the decoder reads
            both.
    """
    encode: frozen_prefix.Encode | None = None
    if is_embedded and sam.branch is None:
        encode = _unchanged
    elif "frozen_prefix" in fast_paths:
        encode = frozen_prefix.encoder(sam)
    loss: Loss = partial(training_loss, sam, head, encode=encode)

    def in_float32(images: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.autocast(device(sam).type, enabled=False):
            return loss(images, targets)

    return loss if "bfloat16" in fast_paths else in_float32


def _unchanged(embeddings: Tensor) -> Tensor:
    return embeddings


def _validate(run: Run, sam: Sam, parts: Split, context: RunContext, cached: Embeddings | None) -> dict[str, float]:
    """Return the scores on the validation images, and the seconds that they took (see `bench.results.history`)."""
    watch = Stopwatch()
    with watch.evaluation("validation"):
        form, precision = watch.timed(deployed)(sam, context.fast_paths)
        scores = validation.scores(
            form,
            heads.get(run.head),
            parts.validation,
            scale=run.scale,
            autocast=precision,
            validate_on=run.train["validate_on"],
            choose_by=run.train["choose_by"],
            embeddings=cached.of_pixels if cached else None,
            processes=context.side_processes,
            timed=watch.timed,
        )
    waited = watch.post_processing["validation"]
    return {**scores, "validation_seconds": watch.predicting, "post_processing_seconds": waited}


def _audit(
    run: Run, sam: Sam, batch: data.Batch, context: RunContext, *, loss: Loss, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Check that the model computes finite numbers, then audit it in training mode, with BatchNorm in eval mode."""
    precision = partial(autocast, device(sam), allowed="bfloat16" in context.fast_paths)
    check_finite(sam, batch.images[:1], autocast=precision)
    model.set_training_mode(sam)
    return audit(
        sam,
        batch=batch,
        loss=lambda images, targets: loss(images, targets)[0],
        optimizer=optimizer,
        fresh=partial(build, run, context),
        strategy=run.strategy,
        autocast=precision,
        seed=run.seed,
        batchnorm=run.train["batchnorm"] or "frozen",
    )


def _cached_difference(cached: Embeddings | None, parts: Split, sam: Sam) -> dict[str, float]:
    """Compare a cached embedding with a computed one; return what the block ``audit`` says about it."""
    return {} if cached is None else {"embedding_max_abs_difference": cached.check(parts.train[0].pixels, sam)}


def _audit_untrained(run: Run, sam: Sam, parts: Split, context: RunContext) -> dict[str, Any]:
    """Check that the model computes finite numbers and that nothing requires a gradient."""
    batch = data.plain_batch(parts.train[0], image_size=run.image_size)
    precision = partial(autocast, device(sam), allowed="bfloat16" in context.fast_paths)
    check_finite(sam, batch.images, autocast=precision)
    return audit(
        sam,
        batch=batch,
        loss=lambda images, _: sam(images)[0].sum(),
        optimizer=None,
        fresh=partial(build, run, context),
        strategy=run.strategy,
        seed=run.seed,
    )
