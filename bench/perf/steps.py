"""Training steps of a model: memory, traffic, and seconds of their parts, in the form in use and in plain forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from bench.perf import traffic
from bench.perf.performance import PARTS
from bench.perf.subject import Subject
from bench.perf.turns import in_turns, without_each
from bench.training import fit, measure
from bench.training.batchnorm import RunningStatistics
from bench.training.block_forms import block_forms
from bench.training.checkpoint import State
from bench.training.context import RunContext
from bench.training.embedded_batches import EmbeddedBatch
from bench.training.optimizer import is_fused, make_optimizer
from bench.training.precision import autocast
from bench.training.step import Checkpointed, LabelledBatch, Loss, step
from bench.training.step_times import StepTimes, step_times
from registry import heads
from registry.features import EmbeddedImages
from registry.modules import batchnorm

if TYPE_CHECKING:
    from registry.sam import Sam

COMPARED = ("frozen_prefix", "fused_optimizer", "bfloat16", "compile")
"""Faster forms of a training step that are compared with the plain form one by one."""
LR = 1e-6
"""Learning rate, so small that the steps change nothing that matters."""
STEPS = {"cuda": 3, "cpu": 1}
"""Steps of one form in a turn: on a GPU they are queued one after the other, as in training."""


@dataclass(frozen=True)
class Steps:
    """Training steps: seconds of the parts of the best one, ratios of the plain forms, traffic and memory."""

    best: dict[str, float] | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    bytes_moved: int = 0
    peak_bytes: int | None = None
    micro_batch: int | None = None
    is_recomputed: bool = False


def training_steps(subject: Subject, sam: Sam, context: RunContext, *, rounds: int, limit_s: float) -> Steps:
    """Measure training steps: memory and traffic in the form in use, then the forms in turns."""
    device, memory = fit.device(sam), subject.run.train.get("memory", "full")
    statistics = RunningStatistics(sam, subject.run.train["batchnorm"] or "frozen")
    statistics.enter_training()
    batches = _batches(subject, sam, context)
    first = next(batches)
    used = _form(subject, sam, first, context.fast_paths)
    parameters = [p for p in sam.parameters() if p.requires_grad]
    state = State(micro_batch=len(first.images), checkpointed=memory == "checkpoint" and used.checkpointed is not None)
    measure.reset_peak(device)
    recompute, divisible = None if memory == "full" else used.checkpointed, not statistics.is_trained
    take_step = partial(
        step,
        used.optimizer,
        parameters,
        first,
        used.loss,
        state,
        clip_norm=1.0,
        checkpointed=recompute,
        is_divisible=divisible,
    )
    for _ in range(2):  # the first one finds the micro-batch that fits, and makes the optimiser's moments
        take_step()
    peak = measure.peak_bytes(device)
    with traffic.counted() as moved:
        take_step()
    forms = {"": used} | {
        name: _form(subject, sam, first, paths) for name, paths in without_each(context.fast_paths, COMPARED).items()
    }

    def turn(form: _Form) -> StepTimes:
        times = step_times(
            sam,
            batches=batches,
            loss=form.loss,
            optimizer=form.optimizer,
            steps=STEPS[device.type],
            device=device,
            warm_up=0,
            micro_batch=state.micro_batch,
            checkpointed=form.checkpointed if state.checkpointed else None,
            is_late=form.is_late,
        )
        return min(times, key=lambda one: one.total)

    best = in_turns({name: partial(turn, form) for name, form in forms.items()}, lambda t: t.total, rounds, limit_s)
    return Steps(
        best={part: getattr(best[""], part) for part in PARTS},
        ratios={name: times.total / best[""].total for name, times in best.items() if name},
        bytes_moved=moved.n_bytes,
        peak_bytes=peak,
        micro_batch=state.micro_batch,
        is_recomputed=state.checkpointed,
    )


def _form(subject: Subject, sam: Sam, batch: LabelledBatch, paths: frozenset[str]) -> _Form:
    """Return a training step of a run with these faster forms, as `bench.training.fit` makes it."""
    run, is_cached = subject.run, subject.run.embeddings == "cached"
    optimizer = make_optimizer(sam, lr=LR, weight_decay=run.train["weight_decay"], fused="fused_optimizer" in paths)
    is_late = fit.device(sam).type == "cuda" and is_fused(optimizer)
    if is_cached:
        given = fit.loss_in_form(sam, heads.get(run.head), paths, is_embedded=True)
        return _Form(given, None, optimizer, is_late)
    loss = fit.loss_in_form(sam, heads.get(run.head), paths)
    forms = block_forms(sam, loss, batch, compiles="compile" in paths and not batchnorm.has_trained(sam))
    return _Form(forms.loss, forms.checkpointed, optimizer, is_late)


def _batches(subject: Subject, sam: Sam, context: RunContext) -> Iterator[LabelledBatch]:
    """Yield training batches without end: images, or with cached embeddings those of the first batch of images."""
    run = replace(subject.run, train={**subject.run.train, "batch_size": subject.images, "epochs": 10**4})
    images = fit.training_batches(run, subject.parts, context, 0)
    if run.embeddings != "cached":
        yield from images
        return
    first = next(images)
    device = fit.device(sam)
    with torch.no_grad(), autocast(device):
        embeddings = torch.cat([sam.encode(image[None].to(device)) for image in first.images]).cpu()
    given = embeddings if sam.branch is None else EmbeddedImages(first.images, embeddings)
    yield from itertools.repeat(EmbeddedBatch(given, first.targets))


@dataclass(frozen=True)
class _Form:
    """A training step in one choice of faster forms."""

    loss: Loss
    checkpointed: Checkpointed | None
    optimizer: torch.optim.Optimizer
    is_late: bool
